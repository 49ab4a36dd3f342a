"""File names of the checkpoints that a run is resumed from."""

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # the one before, for the case that the last is damaged
