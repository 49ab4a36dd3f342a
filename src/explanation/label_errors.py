"""Samples whose label may be wrong: confident learning (Northcutt et al. 2021, arXiv 1911.00068)."""

import torch
from torch import Tensor

from src.explanation.section import Gallery, LeftOut, Section, Table, gallery, percent
from src.explanation.subject import Results, Subject, label_of
from src.models.classifier import class_name

SHOWN = 16


def likely_errors(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Find samples that are confidently assigned to another class than their label.

    The threshold of a class is its mean probability over the samples with that label. A sample is assigned to the most
    probable of the classes whose thresholds it reaches. Samples assigned to another class than their label are ranked
    by normalised margin: the label's probability minus the highest other probability.

    Args:
        probabilities: (N, classes).
        labels: (N,).

    Returns:
        The positions (n,) of such samples, the likeliest errors first, and the classes (n,) they are assigned to.
    """
    own = probabilities.gather(1, labels[:, None]).squeeze(1)  # (N,)
    counts = torch.bincount(labels, minlength=probabilities.shape[1])
    sums = torch.zeros(probabilities.shape[1], dtype=own.dtype).index_add_(0, labels, own)
    thresholds = torch.where(
        counts > 0, sums / counts.clamp(min=1), torch.inf
    )  # the threshold of an empty class is never reached
    reached = probabilities.where(probabilities >= thresholds, -1.0)
    best, assigned = reached.max(dim=1)
    others = probabilities.scatter(1, labels[:, None], -1.0).amax(dim=1)
    suspects = ((best >= 0) & (assigned != labels)).nonzero().flatten()
    suspects = suspects[(own - others)[suspects].argsort(stable=True)]
    return suspects, assigned[suspects]


def label_errors_section(subject: Subject) -> Section:
    """List likely errors among the labels of the training and validation samples."""
    outputs = subject.class_outputs()
    splits = [name for name in ("train", "val") if name in subject.splits and len(subject.splits[name])]
    if not splits:
        raise LeftOut("There are no training or validation samples.")
    figures: dict[str, dict[str, object]] = {}
    rows, parts = [], list[Table | Gallery]()
    for split in splits:
        for name, classes in outputs.items():
            results = subject.results(split)[name]
            suspects, assigned = suspects_of(results)
            samples = subject.splits[split]
            figures.setdefault(split, {})[name] = {
                "checked": len(samples),
                "suspects": len(suspects),
                "indices": samples.indices[suspects[:100]].tolist(),
            }
            accuracy = percent((results.errors == 0).double().mean().item())
            rows.append([split, name, samples.described, accuracy, f"{len(suspects):,}"])
            if len(suspects):
                parts.append(suspects_gallery(subject, split, name, suspects[:SHOWN], assigned[:SHOWN], classes))
    parts.insert(0, Table("Suspects", ["split", "output", "checked", "accuracy", "suspects"], rows))
    note = (
        "Confident learning (Northcutt et al. 2021): a sample is suspect if a class other than its label is more "
        "probable than it is, on average, for samples with that label. If accuracy is low, most suspects are mistakes "
        "of the net. It was trained on the labels of the training samples, including wrong ones, and so finds fewer "
        "errors there. Each picture: its label, then the prediction of the net."
    )
    return Section("Labels to check", note, figures, parts)


def suspects_of(results: Results) -> tuple[Tensor, Tensor]:
    """Return the `likely_errors` of an output."""
    assert results.logits is not None and results.labels is not None
    return likely_errors(results.logits.double().softmax(dim=1), results.labels)


def suspects_gallery(
    subject: Subject, split: str, name: str, suspects: Tensor, assigned: Tensor, classes: list[str]
) -> Gallery:
    """Show suspects with their labels and the classes they are assigned to."""
    labels = subject.results(split)[name].labels
    assert labels is not None
    pictures, _, _ = subject.shown(subject.splits[split].at(suspects), name)
    pairs = zip(labels[suspects].tolist(), assigned.tolist(), strict=True)
    captions = [f"{class_name(label, classes)}?\n{class_name(other, classes)}" for label, other in pairs]
    title = {"train": "Training samples", "val": "Validation samples"}[split]
    return gallery(title + label_of(name, subject.class_outputs()), pictures, captions)
