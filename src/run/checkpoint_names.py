"""What the checkpoints of a run are called that it is resumed from."""

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # the one before, for the case that the last is damaged
