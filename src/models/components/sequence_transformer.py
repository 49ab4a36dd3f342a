"""SequenceTransformer: the encoder of Attention Is All You Need (Vaswani et al. 2017, arXiv 1706.03762).

Differences from the paper: norms come before attention and MLP (Xiong et al. 2020, arXiv 2002.04745), GELU instead of
ReLU, and embeddings are not scaled. Classifies the mean of the valid steps.
"""

import math

import torch
from torch import Tensor, nn

from src.models.components.layers import (
    Dropout,
    Logits,
    NumClasses,
    StepEmbedding,
    check_option,
    check_positive,
    make_head,
)
from src.models.components.vision_transformer import Block, init_weights


class SequenceTransformer(nn.Module):
    """Embed each step with its position, let all steps attend to each other, classify their mean; padding is masked.

    Args:
        num_classes: size of the output, or of each head's.
        length: maximum number of steps of an input.
        in_features: features of series (B, T, in_features).
        vocabulary_size: size of the vocabulary of tokens (B, T), 0 is padding; give one of the two.
        embed_dim: width of a step, a multiple of `num_heads`; even for sinusoidal positions.
        depth: number of blocks.
        num_heads: heads of attention in a block.
        mlp_ratio: hidden width of a block's MLP in units of `embed_dim`.
        positions: "sinusoidal" or "learnt".
        dropout: probability of zeroing a value of the embedding, of attention's result and in the MLP.

    Raises:
        ValueError: a size below 1, heads that do not divide the width, unknown positions, or not exactly one of
            `in_features` and `vocabulary_size`.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        length: int,
        in_features: int | None = None,
        vocabulary_size: int | None = None,
        embed_dim: int = 64,
        depth: int = 3,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        positions: str = "learnt",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(depth=depth)
        check_option(("sinusoidal", "learnt"), positions=positions)
        self.embed = StepEmbedding(in_features, vocabulary_size, length, embed_dim)
        if positions == "learnt":
            self.position = nn.Parameter(torch.empty(length, embed_dim))
        else:
            self.register_buffer("position", sinusoids(length, embed_dim), persistent=False)
        self.dropout = Dropout(dropout)
        hidden_dim = int(embed_dim * mlp_ratio)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, hidden_dim, dropout, drop_path_rate=0.0) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = make_head(embed_dim, num_classes)
        if positions == "learnt":
            nn.init.trunc_normal_(self.position, std=0.02)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Logits:
        """Map series (B, T, in_features) or tokens (B, T) to logits (B, num_classes)."""
        x, mask = self.embed(x)  # (B, T, D), (B, T)
        x = self.dropout(x + self.position[: x.shape[1]])  # (B, T, D)
        for block in self.blocks:
            x = block(x, mask)  # (B, T, D)
        x = self.norm(x)  # (B, T, D)
        if mask is None:
            return self.head(x.mean(dim=1))  # (B, num_classes)
        valid = mask.unsqueeze(2).to(x.dtype)  # (B, T, 1)
        return self.head((x * valid).sum(dim=1) / valid.sum(dim=1))  # (B, num_classes)


def sinusoids(length: int, width: int) -> Tensor:
    """Return the paper's positions (length, width): sines at even positions and cosines at odd ones.

    Raises:
        ValueError: the width is odd.
    """
    if width % 2:
        raise ValueError(f"embed_dim={width} must be even for sinusoidal positions.")
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))  # (width / 2,)
    angles = torch.arange(length).unsqueeze(1) * rates  # (length, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
