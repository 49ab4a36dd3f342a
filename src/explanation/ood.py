"""Whether the net can tell other data from its own by how sure it is: out-of-distribution detection."""

import torch
from omegaconf import DictConfig
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from src.explanation.other_data import other_datamodule, renormalised
from src.explanation.section import Gallery, LeftOut, Section, Table, gallery
from src.explanation.subject import Samples, Subject, label_of
from src.models.classifier import class_name, confidence_and_class
from src.predictor import input_shape

SHOWN = 12


def auroc(own: Tensor, other: Tensor) -> float:
    """Return the probability that a sample of `own` (N,) scores higher than one of `other` (M,); ties count half."""
    scores = torch.cat([own, other]).double()
    scores = (scores - scores.min()) / (scores.max() - scores.min()).clamp(min=1e-300)  # others would be squashed
    return float(binary_auroc(scores, torch.cat([torch.ones(len(own)), torch.zeros(len(other))]).long()))


def scores_of(logits: Tensor) -> dict[str, Tensor]:
    """Return what is higher (N,) for data like those of training, by name.

    The highest probability (Hendrycks & Gimpel 2017, arXiv 1610.02136), and the negative energy at temperature 1, which
    is the log of the sum of all exponentiated logits (Liu et al. 2020, arXiv 2010.03759).
    """
    return {"max_softmax": logits.double().softmax(dim=1).amax(dim=1), "energy": logits.double().logsumexp(dim=1)}


@torch.no_grad()
def ood_section(subject: Subject, name: str | None, cfg: DictConfig) -> Section:
    """Compare the scores of the test samples with those of the test samples of other data.

    Raises:
        ValueError: the other data are of another shape than the net takes.
    """
    outputs = subject.class_outputs()
    if name is None:
        raise LeftOut("No other data are named; ood=fashion_mnist, or others of configs/data/, compares with them.")
    other = other_datamodule(name, cfg)
    card, own = other.input_card(), subject.input_card
    if (card.get("input"), input_shape(card)) != (own.get("input"), input_shape(own)):
        raise ValueError(
            f"ood={name} has inputs of shape {input_shape(card)}, but the net takes {input_shape(own)}: choose other "
            "data."
        )
    samples, logits, inputs = Samples(other.test_dataloader(), subject.limit), dict[str, list[Tensor]](), []
    for batch in samples:
        moved = renormalised(batch[0], card, own)
        inputs.append(moved)
        for key, output in subject.task.named_outputs(moved).items():
            logits.setdefault(key, []).append(output.float())
    figures, rows, parts = {}, [], list[Table | Gallery]()
    for key, classes in outputs.items():
        test = subject.results("test")[key].logits
        assert test is not None
        theirs = torch.cat(logits[key])
        known, unknown = scores_of(test), scores_of(theirs)
        figures[key] = {score: auroc(known[score], unknown[score]) for score in known}
        rows.append([key, *(f"{value:.4f}" for value in figures[key].values())])
        confidence, predicted = confidence_and_class(theirs)
        surest = confidence.argsort(descending=True)[:SHOWN]
        captions = [f"{class_name(int(predicted[i]), classes)} {confidence[i]:.0%}" for i in surest]
        shown = subject.task.panels(torch.cat(inputs)[surest], theirs[surest], predicted[surest])
        parts.append(gallery(f"Taken for its own{label_of(key, outputs)}", next(iter(shown.values())), captions))
    used = f"{subject.splits['test'].described} test samples against {samples.described} of {name}."
    parts.insert(0, Table("AUROC", ["output", "max-softmax", "energy"], rows, used))
    note = (
        f"How well a score tells the run's test samples from those of {name}: 1 is always, 0.5 by chance. Max-softmax "
        "is the highest probability; energy the log of the summed exponentials of all logits (Liu et al. 2020)."
    )
    return Section(f"Data unlike its own: {name}", note, {"data": name, "auroc": figures}, parts)
