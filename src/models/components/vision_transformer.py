"""VisionTransformer: An Image is Worth 16x16 Words (Dosovitskiy et al. 2021, arXiv 2010.11929).

Differences from the paper: classifies the mean of the tokens instead of a class token, as in the authors' later work
(Beyer et al. 2022, arXiv 2205.01580), and has optional stochastic depth. Two other tokenizers are options, both
meant for small data sets: shifted patches (Lee et al. 2021, arXiv 2112.13492) and convolutions (Hassani et al. 2021,
arXiv 2104.05704).
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from src.models.components.layers import (
    MLP,
    Attention,
    Dropout,
    Logits,
    NumClasses,
    check_divisible,
    check_images,
    check_option,
    check_positive,
    drop_path_rates,
    fit_positions,
    make_head,
)

Tokenizer = Literal["patches", "shifted_patches", "convolutions"]


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each added to its input."""

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int, dropout: float, drop_path_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attention = Attention(embed_dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = MLP(embed_dim, hidden_dim, dropout)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D); those where the mask (B, N) is false are not attended to."""
        x = x + self.drop_path(self.attention(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ShiftedPatches(nn.Module):
    """Embed each patch together with the same patch of the image shifted by half a patch along the four diagonals.

    Half of an odd size is rounded down. Pixels from outside the image are zero. The values of the five patches go
    through a LayerNorm and a linear layer.
    """

    def __init__(self, in_channels: int, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        size = 5 * in_channels * patch_size**2
        self.norm = nn.LayerNorm(size)
        self.embed = nn.Linear(size, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to (B, D, H / patch_size, W / patch_size)."""
        batch, _, height, width = x.shape
        size, shift = self.patch_size, self.patch_size // 2
        padded = F.pad(x, (shift, shift, shift, shift))
        corners = [(0, 0), (0, 2 * shift), (2 * shift, 0), (2 * shift, 2 * shift)]
        shifted = [padded[:, :, top : top + height, left : left + width] for top, left in corners]
        x = torch.cat([x, *shifted], dim=1)  # (B, 5 · C, H, W)
        x = x.view(batch, -1, height // size, size, width // size, size)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, H / size, W / size, 5 · C · size²)
        return self.embed(self.norm(x)).permute(0, 3, 1, 2)  # (B, D, H / size, W / size)


class ConvTokenizer(nn.Sequential):
    """Conv 3×3 → ReLU → max-pool 3×3 that halves the image, until each patch is one token.

    As in the paper the convolutions have no bias; those before the last have half the width of a token.
    """

    def __init__(self, in_channels: int, patch_size: int, embed_dim: int) -> None:
        layers: list[nn.Module] = []
        while patch_size > 1:
            patch_size //= 2
            out_channels = embed_dim // 2 if patch_size > 1 else embed_dim
            conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight)
            layers += [conv, nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2, padding=1)]
            in_channels = out_channels
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to (B, D, H / patch_size, W / patch_size)."""
        return super().forward(x.contiguous(memory_format=torch.channels_last))


def make_tokenizer(kind: Tokenizer, in_channels: int, patch_size: int, embed_dim: int) -> nn.Module:
    """Build the layer that maps images (B, C, H, W) to tokens (B, D, H / patch_size, W / patch_size).

    Raises:
        ValueError: the kind is unknown, or cannot make tokens of that patch size.
    """
    check_option(tokenizer=kind, options=get_args(Tokenizer))
    if kind == "patches":
        return nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)
    if kind == "shifted_patches":
        return ShiftedPatches(in_channels, patch_size, embed_dim)
    if patch_size < 2 or patch_size & (patch_size - 1):
        raise ValueError(f"patch_size={patch_size} must be 2, 4, 8, … for tokenizer={kind}, which halves the image.")
    return ConvTokenizer(in_channels, patch_size, embed_dim)


class VisionTransformer(nn.Module):
    """Split the image into patches, embed each, let them attend to each other, classify their mean.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image, a multiple of `patch_size`. Other multiples work, too: the position
            embeddings are interpolated.
        num_classes: size of the output, or of each head's.
        patch_size: height and width of a patch.
        tokenizer: `patches`: a linear layer on each patch; `shifted_patches`: on each patch and its surroundings, see
            `ShiftedPatches`; `convolutions`: see `ConvTokenizer`. All make the same number of tokens.
        embed_dim: width of a token, a multiple of `num_heads`.
        depth: number of blocks.
        num_heads: heads of attention in a block.
        mlp_ratio: hidden width of a block's MLP in units of `embed_dim`.
        dropout: probability of zeroing a value of the embedding, of attention's result and in the MLP.
        drop_path_rate: probability of skipping the last block; it rises linearly from 0 at the first.

    Raises:
        ValueError: a size below 1, a patch that does not divide the image or suit the tokenizer, or heads that do not
            divide the width.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        patch_size: int = 4,
        tokenizer: Tokenizer = "patches",
        embed_dim: int = 64,
        depth: int = 6,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, patch_size=patch_size, depth=depth)
        check_divisible("image_size", "patch_size", image_size=image_size, patch_size=patch_size)
        self.in_channels, self.patch_size = in_channels, patch_size
        num_tokens = (image_size // patch_size) ** 2
        self.patch_embed = make_tokenizer(tokenizer, in_channels, patch_size, embed_dim)
        self.position = nn.Parameter(torch.empty(1, num_tokens, embed_dim))
        self.dropout = Dropout(dropout)
        rates = drop_path_rates(drop_path_rate, depth)
        hidden_dim = int(embed_dim * mlp_ratio)
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads, hidden_dim, dropout, rate) for rate in rates))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = make_head(embed_dim, num_classes)
        nn.init.trunc_normal_(self.position, std=0.02)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels, multiple_of=self.patch_size)
        x = self.patch_embed(x)  # (B, D, H / patch_size, W / patch_size)
        position = fit_positions(self.position, *x.shape[2:])  # (1, N, D)
        x = self.dropout(x.flatten(2).transpose(1, 2) + position)  # (B, N, D)
        x = self.norm(self.blocks(x))  # (B, N, D)
        return self.head(x.mean(dim=1))  # (B, num_classes)


def init_weights(module: nn.Module) -> None:
    """Initialise as the authors' code does: Xavier for matrices, zero for biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
