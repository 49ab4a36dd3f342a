"""Texts in memory, and batches of texts of similar lengths."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from src.data.resumable_loader import Resumable, check_batch_size, draw
from src.predictor import to_tokens

POOL = 32  # training batches whose texts are sorted by length together


class Texts:
    """Texts as bytes, each cut to `length` bytes, with their labels."""

    def __init__(self, texts: Sequence[str], labels: Sequence[int], length: int) -> None:
        encoded = [to_tokens(text)[:length] - 1 for text in texts]
        self.lengths = torch.tensor([len(text) for text in encoded], dtype=torch.int64)  # (N,)
        self.ends = self.lengths.cumsum(0)  # (N,), in all bytes
        parts = [torch.from_numpy(text).to(torch.uint8) for text in encoded]
        self.bytes = torch.cat(parts) if parts else torch.empty(0, dtype=torch.uint8)
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
        places = (self.ends[indices] - lengths)[:, None] + steps  # (B, T), beyond the text where it is not valid
        return torch.where(valid, self.bytes[places * valid].long() + 1, 0), self.labels[indices]


class TextLoader(Resumable):
    """Iterate over (tokens, labels) batches of texts of similar lengths, which need little padding.

    For training the texts are shuffled, those of every `POOL` batches are sorted by length, and the batches are
    shuffled. All of it depends on `seed` and the epoch alone, so that an epoch can be replayed. Without shuffling all
    texts are sorted by length.

    Args:
        texts: to serve.
        batch_size: texts per batch and rank.
        shuffle: draw a new order for every epoch.
        drop_last: drop what does not fill a batch.
        seed: of the order.
        pin_memory: copy batches to page-locked memory, for a GPU.
        rank: of this process.
        world_size: number of processes; all make the same number of steps.

    Raises:
        ValueError: the batch size is below 1 or larger than the share of a rank.
    """

    def __init__(
        self,
        texts: Texts,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if 0 < len(texts) < world_size:
            raise ValueError(f"{len(texts)} samples cannot be shared by {world_size} processes.")
        check_batch_size(batch_size, len(texts) // world_size if drop_last else None)
        self.texts, self.batch_size, self.shuffle, self.drop_last = texts, batch_size, shuffle, drop_last
        self.seed, self.pin_memory, self.rank, self.world_size = seed, pin_memory, rank, world_size
        self.epoch = 0

    batch_sampler = None  # Lightning asks for both

    @property
    def sampler(self) -> "TextLoader":
        """Itself, because Lightning calls `sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        share = len(self.texts) // self.world_size
        return share // self.batch_size if self.drop_last else math.ceil(share / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in self._batches()[self.begin() :]:
            tokens, labels = self.texts.batch(indices)
            self.batches += 1
            yield (tokens.pin_memory(), labels.pin_memory()) if self.pin_memory else (tokens, labels)

    def _batches(self) -> list[Tensor]:
        """The indices of the texts of each batch of this rank in the epoch."""
        count = len(self)
        order, ranks = draw(len(self.texts), self.shuffle, self.seed, self.epoch, (count,))
        if not count:
            return []
        order = order[self.rank :: self.world_size]
        if self.drop_last:
            order = order[: count * self.batch_size]
        pools = order.split(POOL * self.batch_size) if self.shuffle else (order,)
        by_length = torch.cat([pool[self.texts.lengths[pool].argsort(stable=True)] for pool in pools])
        batches = by_length.tensor_split(count)
        return [batches[i] for i in ranks.argsort().tolist()] if self.shuffle else list(batches)
