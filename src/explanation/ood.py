"""Out-of-distribution detection: whether the net can tell other data from its own."""

from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_auroc

from src.callbacks.image_report import cat_padded, side_by_side
from src.explanation.other_data import renormalised
from src.explanation.section import Gallery, LeftOut, Section, Table, gallery
from src.explanation.subject import Samples, Subject, label_of
from src.models.classifier import class_name, confidence_and_class

SHOWN = 12
REFERENCE = 5000  # training samples among which the nearest is searched


def auroc(own: Tensor, other: Tensor) -> float:
    """Return the probability that a sample of `own` (N,) scores higher than one of `other` (M,); ties count half."""
    scores = torch.cat([own, other]).double()
    scores = (scores - scores.min()) / (scores.max() - scores.min()).clamp(
        min=1e-300
    )  # binary_auroc would apply a sigmoid otherwise
    return float(binary_auroc(scores, torch.cat([torch.ones(len(own)), torch.zeros(len(other))]).long()))


def scores_of(logits: Tensor) -> dict[str, Tensor]:
    """Return scores (N,) that are higher for data like the training data, by name.

    The highest probability (Hendrycks & Gimpel 2017, arXiv 1610.02136), and the negative energy at temperature 1, which
    is the logsumexp of the logits (Liu et al. 2020, arXiv 2010.03759).
    """
    return {"max_softmax": logits.double().softmax(dim=1).amax(dim=1), "energy": logits.double().logsumexp(dim=1)}


def last_features(subject: Subject, batches: Iterable[Tensor]) -> tuple[list[dict[str, Tensor]], Tensor | None]:
    """Run the net on batches of inputs.

    Returns:
        The named outputs of each batch, and the inputs (N, D) of the last linear layer, normalised to length 1; None
        without such a layer.
    """
    outputs, features = [], []
    last_inputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any) -> None:
        last_inputs[:] = [inputs[0]]

    hooks = [one.register_forward_pre_hook(keep) for one in subject.task.net.modules() if isinstance(one, nn.Linear)]
    try:
        for inputs in batches:
            outputs.append({name: output.float() for name, output in subject.task.named_outputs(inputs).items()})
            features += [F.normalize(one.flatten(1).float()) for one in last_inputs]
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, torch.cat(features) if features else None


def nearness(features: Tensor, reference: Tensor) -> Tensor:
    """Return the negative distance (N,) of features (N, D) to the nearest of a reference (M, D).

    Source: Sun et al. 2022, arXiv 2204.06507, with k = 1.
    """
    return -torch.cat([torch.cdist(part, reference).amin(dim=1) for part in features.split(1000)])


@torch.no_grad()
def ood_section(subject: Subject, name: str | None, other: Any) -> Section:
    """Compare the scores of the test samples with those of other data, given by name and DataModule."""
    outputs = subject.class_outputs()
    if name is None:
        raise LeftOut("No other data are named: give a name in configs/data/, such as ood=fashion_mnist.")
    card, own = other.input_card(), subject.input_card
    samples = Samples(other.test_dataloader(), subject.limit)

    def inputs(chosen: Samples) -> Iterable[Tensor]:
        return (renormalised(batch[0], card, own) for batch in chosen)

    other_outputs, unknown_features = last_features(subject, inputs(samples))
    training = subject.splits["train" if "train" in subject.splits else "val"].first(REFERENCE)
    known_features, reference = (
        last_features(subject, (subject.task.prepare(batch)[0] for batch in part))[1]
        for part in (subject.splits["test"], training)
    )
    near = {}
    if reference is not None and known_features is not None and unknown_features is not None:
        near = {"nearest": auroc(nearness(known_features, reference), nearness(unknown_features, reference))}
    figures, rows, parts = {}, [], list[Table | Gallery]()
    for key, classes in outputs.items():
        test = subject.results("test")[key].logits
        assert test is not None
        theirs = torch.cat([one[key] for one in other_outputs])
        known, unknown = scores_of(test), scores_of(theirs)
        figures[key] = {score: auroc(known[score], unknown[score]) for score in known} | near
        rows.append([key, *(f"{value:.4f}" for value in figures[key].values())])
        confidence, predicted = confidence_and_class(theirs)
        most_confident = confidence.argsort(descending=True)[:SHOWN]
        captions = [f"{class_name(int(predicted[i]), classes)} {confidence[i]:.0%}" for i in most_confident]
        pictures = reduce(cat_padded, inputs(samples.at(most_confident)))
        shown = side_by_side(subject.task.panels(pictures, theirs[most_confident], predicted[most_confident]))
        parts.append(gallery(f"Most confident predictions{label_of(key, outputs)}", shown, captions))
    used = f"{subject.splits['test'].described} test samples against {samples.described} of {name}."
    parts.insert(0, Table("AUROC", ["output", "max-softmax", "energy", *near], rows, used))
    note = (
        f"How well a score separates the run's test samples from those of {name}: 1 is perfect, 0.5 is chance. "
        "Max-softmax is the highest probability; energy is the logsumexp of the logits (Liu et al. 2020); nearest is "
        "the distance to the closest training sample in the inputs of the last layer (Sun et al. 2022, k = 1)."
    )
    return Section(f"Out-of-distribution data: {name}", note, {"data": name, "auroc": figures}, parts)
