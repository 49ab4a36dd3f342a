"""Texts in memory, and batches of texts of similar lengths."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from src.data.batches import SampleLoader
from src.data.resumable_loader import draw

POOL = 32  # training batches whose texts are sorted by length together


class Texts:
    """Texts as bytes, each cut to `length` bytes, with their labels."""

    def __init__(self, texts: Sequence[str], labels: Sequence[int], length: int) -> None:
        encoded = [text.encode()[:length] for text in texts]
        self.lengths = torch.tensor([len(text) for text in encoded], dtype=torch.int64)  # (N,)
        self.ends = self.lengths.cumsum(0)  # (N,), in all bytes
        joined = bytearray(b"".join(encoded))  # torch needs a writable buffer
        self.bytes = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.empty(0, dtype=torch.uint8)
        self.labels = torch.tensor(labels, dtype=torch.int64)  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return tokens (T,) and the label () of a text."""
        tokens, labels = self.batch(torch.tensor([index]))
        return tokens[0], labels[0]

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T), padded with 0 to the longest of these texts, and labels (B,)."""
        lengths = self.lengths[indices]
        steps = torch.arange(int(lengths.max()))  # (T,)
        valid = steps < lengths[:, None]  # (B, T)
        positions = (self.ends[indices] - lengths)[:, None] + steps  # (B, T), beyond the text if not valid
        return torch.where(valid, self.bytes[positions * valid].long() + 1, 0), self.labels[indices]


class TextLoader(SampleLoader):
    """Iterate over (tokens, labels) batches of texts of similar lengths, which need little padding.

    With shuffling, the texts are shuffled, the texts of every `POOL` batches are sorted by length, and the batches are
    shuffled. Without it, all texts are sorted by length.

    Args:
        texts: the texts to serve.
        batch_size: see `SampleLoader`.
        options: see `SampleLoader`.
    """

    def __init__(self, texts: Texts, batch_size: int, **options: Any) -> None:
        super().__init__(len(texts), batch_size, **options)
        self.texts = texts

    def make_batch(self, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T), padded with 0 to the longest text, and labels (B,)."""
        return self.texts.batch(indices)

    def epoch_batches(self) -> Sequence[tuple[Tensor, int]]:
        """Return the indices (B,) of the texts of each batch of this rank in the epoch, and a seed for it."""
        count = len(self)
        order, seeds = draw(self.count, self.shuffle, self.seed, self.epoch, (count,))
        if not count:
            return []
        order = order[self.rank :: self.world_size]
        if self.drop_last:
            order = order[: count * self.batch_size]
        pools = order.split(POOL * self.batch_size) if self.shuffle else (order,)
        by_length = torch.cat([pool[self.texts.lengths[pool].argsort(stable=True)] for pool in pools])
        batches = list(zip(by_length.tensor_split(count), seeds.tolist(), strict=True))
        return [batches[i] for i in seeds.argsort().tolist()] if self.shuffle else batches
