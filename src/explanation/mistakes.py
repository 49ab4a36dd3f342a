"""Accuracy by class and by attribute, confusions, and the worst samples."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from src.explanation.section import Gallery, LeftOut, Section, Table, gallery, percent
from src.explanation.subject import Results, Subject, label_of
from src.models.classifier import class_name, confidence_and_class

WORST, PAIRS, OF_PAIR = 16, 6, 8  # worst pictures, confused pairs, and pictures of each pair


def classes_section(subject: Subject) -> Section:
    """Tabulate the accuracy by class, and by the other labels if samples have several."""
    results = {name: one for name, one in subject.results("test").items() if one.confusion is not None}
    if not results:
        raise LeftOut("The net's outputs are not classes.")
    figures: dict[str, Any] = {}
    parts = []
    for name, one in results.items():
        assert one.confusion is not None
        names = subject.cards[name].get("names")
        table, figures[name] = class_table(one.confusion, names, f"Accuracy{label_of(name, results)}")
        parts.append(table)
    if attributes := attribute_rows(subject, results):
        first = next(iter(results))
        rows = [[f"{name}: {value}", f"{count:,}", percent(share)] for name, value, count, share in attributes]
        parts.append(Table(f"{first} by attribute", ["samples with", "samples", f"accuracy of {first}"], rows))
        figures["by_attribute"] = {f"{name}={value}": share for name, value, _, share in attributes}
    note = (
        "Accuracy is the share of a class's samples (or pixels, for masks) that are predicted correctly, precision the "
        "share of predictions of the class that are correct, IoU the intersection of both over their union."
    )
    return Section("By class", note, figures, parts)


def class_table(confusion: Tensor, names: list[str] | None, title: str) -> tuple[Table, dict[str, Any]]:
    """Tabulate a confusion matrix (classes, classes) by class, the least accurate first."""
    counts = confusion.double()
    correct, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    iou = correct / (true + predicted - correct)
    shares = {"accuracy": correct / true, "precision": correct / predicted, "iou": iou}
    wrong = (counts - counts.diagonal().diag()).max(dim=1)
    rows, figures = [], {}
    for label in shares["accuracy"].nan_to_num(2.0).argsort(stable=True).tolist():
        values = {key: float(share[label]) for key, share in shares.items()}
        count, mistakes = int(true[label]), int(wrong.values[label])
        most = f"{class_name(int(wrong.indices[label]), names)} ({mistakes:,})" if mistakes else "–"
        rows.append([class_name(label, names), f"{count:,}", *map(percent, values.values()), most])
        figures[class_name(label, names)] = {"count": count, **values}
    return Table(title, ["class", "samples", "accuracy", "precision", "IoU", "most confused with"], rows), figures


def attribute_rows(subject: Subject, results: Mapping[str, Results]) -> list[tuple[str, str, int, float]]:
    """Return the accuracy of the first output by the labels of the others: output, label, number and accuracy."""
    first, *others = results
    correct = results[first].errors == 0
    rows = []
    for name in others:
        labels, names = results[name].labels, subject.cards[name].get("names")
        if labels is not None:
            for label in labels.unique().tolist():
                with_label = correct[labels == label]
                rows.append((name, class_name(label, names), len(with_label), float(with_label.double().mean())))
    return rows


def confusions_section(subject: Subject) -> Section:
    """Show the most frequently confused pairs of classes, with samples."""
    outputs = subject.class_outputs()
    figures: dict[str, Any] = {}
    parts: list[Gallery] = []
    for name, classes in outputs.items():
        results = subject.results("test")[name]
        assert results.confusion is not None
        pairs = confused_pairs(results.confusion)
        named = [(class_name(true, classes), class_name(predicted, classes), count) for true, predicted, count in pairs]
        figures[name] = [dict(zip(("true", "predicted", "count"), one, strict=True)) for one in named]
        for (true, predicted, _), (label, prediction, count) in zip(pairs, named, strict=True):
            title = f"{label}, predicted as {prediction} ({count:,}){label_of(name, outputs)}"
            parts.append(pair_gallery(subject, name, title, true, predicted))
    if not parts:
        raise LeftOut("All test samples are predicted correctly.")
    note = "The most frequent confusions on the test samples, with the probabilities of the most confident ones."
    return Section("Confusions", note, figures, parts)


def confused_pairs(confusion: Tensor) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions in a matrix (classes, classes): true class, predicted class and count."""
    counts = confusion - confusion.diagonal().diag()
    order = counts.flatten().argsort(descending=True, stable=True)[:PAIRS].tolist()
    pairs = [(*divmod(place, len(counts)), int(counts.flatten()[place])) for place in order]
    return [pair for pair in pairs if pair[2]]


def pair_gallery(subject: Subject, name: str, title: str, true: int, predicted: int) -> Gallery:
    """Show test samples of one class that are predicted as another."""
    results = subject.results("test")[name]
    assert results.logits is not None and results.labels is not None
    confidence, predictions = confidence_and_class(results.logits)
    positions = ((results.labels == true) & (predictions == predicted)).nonzero().flatten()
    positions = positions[confidence[positions].argsort(descending=True)][:OF_PAIR]
    pictures, _, _ = subject.shown(subject.splits["test"].at(positions), name)
    return gallery(title, pictures, [f"{one:.0%}" for one in confidence[positions].tolist()])


def worst_section(subject: Subject) -> Section:
    """Show the test samples with the largest errors."""
    parts, figures = [], {}
    results = subject.results("test")
    for name, one in results.items():
        worst = one.errors.argsort(descending=True)[:WORST]
        worst = worst[one.errors[worst] > 0]
        figures[name] = {
            "indices": subject.splits["test"].indices[worst].tolist(),
            "errors": one.errors[worst].tolist(),
            "mean_error": float(one.errors.double().mean()),
        }
        if len(worst):
            pictures, captions, panels = subject.shown(subject.splits["test"].at(worst), name)
            note = f"Each picture: {' | '.join(panels)}." if len(panels) > 1 else ""
            parts.append(gallery(f"Worst{label_of(name, results)}", pictures, captions, note))
    if not parts:
        raise LeftOut("All test samples are predicted correctly.")
    note = "The test samples with the largest errors, as defined by the task."
    return Section("Worst samples", note, figures, parts)
