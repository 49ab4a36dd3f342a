"""RecurrentNet: LSTM (Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735) or GRU (Cho et al. 2014, arXiv
1406.1078), in one direction or both (Schuster & Paliwal 1997, doi 10.1109/78.650093). Classifies the last state.
"""

import torch
from torch import Tensor, nn

from src.models.components.layers import (
    Dropout,
    Logits,
    NumClasses,
    StepEmbedding,
    check_option,
    check_positive,
    last_valid,
    make_head,
)

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentLayer(nn.Module):
    """A recurrence over the steps, and if `bidirectional` another one that starts at the last valid step."""

    def __init__(self, cell: str, in_size: int, hidden_size: int, bidirectional: bool) -> None:
        super().__init__()
        self.forwards = CELLS[cell](in_size, hidden_size, batch_first=True)
        self.backwards = CELLS[cell](in_size, hidden_size, batch_first=True) if bidirectional else None

    def forward(self, x: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Map (B, T, D) to the states (B, T, hidden_size) of each direction, both in the order of the steps."""
        forward_states = self.forwards(x)[0]  # (B, T, hidden_size)
        if self.backwards is None:
            return [forward_states]
        return [forward_states, reverse(self.backwards(reverse(x, mask))[0], mask)]


class RecurrentNet(nn.Module):
    """Read a sequence step by step, and classify the state after its last valid step.

    Padding has no effect: the final state is taken before it, and the backward direction starts before it.

    Args:
        num_classes: size of the output, or of each head's.
        length: maximum number of steps of an input.
        in_features: features of series (B, T, in_features).
        vocabulary_size: size of the vocabulary of tokens (B, T), 0 is padding; give one of the two.
        cell: "lstm" or "gru".
        num_layers: layers, each on the states of the one before.
        hidden_size: width of a state.
        bidirectional: read backwards as well, and classify the two final states together.
        embed_dim: width of a token's embedding; series are not embedded.
        dropout: probability of zeroing a value of the embedding, between layers, and before the head.

    Raises:
        ValueError: a size below 1, an unknown cell, or not exactly one of `in_features` and `vocabulary_size`.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        length: int,
        in_features: int | None = None,
        vocabulary_size: int | None = None,
        cell: str = "lstm",
        num_layers: int = 1,
        hidden_size: int = 128,
        bidirectional: bool = False,
        embed_dim: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_option(tuple(CELLS), cell=cell)
        check_positive(num_layers=num_layers, hidden_size=hidden_size)
        self.embed = StepEmbedding(in_features, vocabulary_size, length, embed_dim if vocabulary_size else None)
        out_size = hidden_size * (2 if bidirectional else 1)
        sizes = [self.embed.width] + [out_size] * (num_layers - 1)
        self.layers = nn.ModuleList(RecurrentLayer(cell, size, hidden_size, bidirectional) for size in sizes)
        self.dropout = Dropout(dropout)
        self.head = make_head(out_size, num_classes)

    def forward(self, x: Tensor) -> Logits:
        """Map series (B, T, in_features) or tokens (B, T) to logits (B, num_classes)."""
        x, mask = self.embed(x)  # (B, T, D)
        if mask is not None:
            x = self.dropout(x)
        states = self.layers[0](x, mask)  # (B, T, hidden_size) each
        for layer in self.layers[1:]:
            states = layer(self.dropout(torch.cat(states, dim=2)), mask)
        forward_states, *backward_states = states
        # (B, hidden_size) each: after the last valid step, and backwards after the first
        final = [last_valid(forward_states, mask), *(backward[:, 0] for backward in backward_states)]
        return self.head(self.dropout(torch.cat(final, dim=1)))  # (B, num_classes)


def reverse(x: Tensor, mask: Tensor | None) -> Tensor:
    """Reverse the valid steps of (B, T, D), by a mask (B, T), and keep the padding after them."""
    if mask is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)  # (T,)
    order = (mask.sum(dim=1, keepdim=True) - 1 - steps) % x.shape[1]  # (B, T), its own inverse
    return x.gather(1, order[:, :, None].expand_as(x))
