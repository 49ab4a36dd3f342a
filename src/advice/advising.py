"""Put a ranking into words: reasons, commands, and how to deploy."""

from collections.abc import Mapping
from typing import Any

from src.advice.estimates import ESTIMATED, MANY_EPOCHS, batch_size
from src.advice.measurements import Evidence, Gains
from src.advice.ranking import Candidate, Ranking, has_other_channels
from src.advice.request import Request


def advise(request: Request, ranking: Ranking, gains: Mapping[str, Gains], top: int) -> dict[str, Any]:
    """Return the best nets with figures, reasons and commands, and what the ranking is based on."""
    return {
        "based_on": bases(request, ranking),
        "advice": [
            {"rank": number, **describe(one, request, gains)} for number, one in enumerate(ranking.candidates[:top], 1)
        ],
        "more": max(len(ranking.candidates) - top, 0),
        "left_out": dict(ranking.left_out),
        "near_misses": list(ranking.near_misses),
        "read_on": [request.kind.page, "docs/choose.md"],
    }


def bases(request: Request, ranking: Ranking) -> list[str]:
    """Explain where the order, the latencies and the times come from."""
    sentences = [
        f"No net for task={request.task} was scored on images of about this size: nets meant for it come first, then "
        "nets scored on other sizes, the fastest first."
    ]
    if ranking.decided_by:
        measured = [one.evidence for one in ranking.candidates if one.evidence]
        other = {has_other_channels(one, request) for one in measured if one.data == ranking.decided_by}
        first = f", those with channels={request.channels} first" if len(other) == 2 else ""
        sentences = [
            f"Ranked by test/{request.kind.score} on {ranking.decided_by}, the measured data nearest to yours{first}; "
            "then come nets of the same kinds, nets measured on other data, and the rest by cost. Scores after "
            "different numbers of epochs compare the runs, not the nets."
        ]
    if ranking.equally_near:
        near = " and ".join(ranking.equally_near)
        sentences.append(
            f"Measurements on {near} are equally near to your data and may give another order; images= and channels= "
            "narrow it down."
        )
    if any(one.cost.latency_from == ESTIMATED for one in ranking.candidates):
        sentences.append(
            "Latencies with ≥ are not measured, but lower bounds: a third of a training step, divided by the batch "
            "size. A single image takes longer, often much longer. A limit excludes only nets whose lower bound "
            "exceeds it: measure the ones that matter with python src/benchmark.py model=<name>"
        )
    if any(one.cost.scaled for one in ranking.candidates):
        sentences.append(
            "MACs are counted, or interpolated between counted sizes, which is least accurate for attention. Speeds at "
            "sizes other than a net's own are estimated in proportion to the MACs."
        )
    if request.images and any(one.cost.epochs for one in ranking.candidates):
        sentences.append(
            "The epochs give as many steps as the run that gave the score (without a score, as 4 epochs of 55,000 "
            f"images), but with fewer images at most {MANY_EPOCHS}, or as many as that run had; how many your data "
            "need is not measured."
        )
    if request.channels_assumed:
        sentences.append(f"channels={request.channels} is assumed: set channels=1 for grey images.")
    sentences += [request.kind.note] if request.kind.note else []
    sentences.append("Speeds were measured on one machine with two cores; benchmarks/results/models.json describes it.")
    return sentences


def describe(one: Candidate, request: Request, gains: Mapping[str, Gains]) -> dict[str, Any]:
    """Return the figures, reasons and command of a net."""
    cost = one.cost
    evidence = one.evidence
    return {
        "model": one.name,
        "net": one.net,
        "input": "×".join(map(str, cost.shape)),
        "params": round(cost.params),
        "macs": round(cost.macs),
        "score": score_of(evidence, cost.shape),
        "latency_ms": cost.latency_ms,
        "latency_from": cost.latency_from,
        "train_images_per_second": cost.train_images_per_second,
        "epochs": cost.epochs,
        "train_minutes": cost.minutes,
        "int8_change": evidence.int8_change if evidence else None,
        "reasons": reasons(one, request, gains),
        "command": command(one, request),
    }


def score_of(evidence: Evidence | None, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """Return the score of a net, its data and epochs, and the image size if it differs from the requested one."""
    if evidence is None:
        return None
    size = evidence.shape[-1] if len(evidence.shape) == 3 and evidence.shape != shape else None
    measured = {"name": evidence.score, "value": evidence.value, "data": evidence.data, "epochs": evidence.epochs}
    return {**measured, "size": size}


def reasons(one: Candidate, request: Request, gains: Mapping[str, Gains]) -> list[str]:
    """List what is known about a net and what is not."""
    score, own = request.kind.score, [each for each in one.related if each.model == one.name]
    facts = [f"test/{score} {describe_evidence(each)}" for each in own]
    others = sorted((each for each in one.related if each not in own), key=lambda each: each is not one.relative)
    facts += [f"of the same kind, {each.model}: test/{score} {describe_evidence(each)}" for each in others[:1]]
    changes = [each for each in own if each.int8_change is not None]
    facts += [f"int8 on {each.data}: {score} {each.int8_change:+.4f}{speedup(each)}" for each in changes]
    experiment = f"experiment={one.evidence.experiment}" if one.evidence and one.evidence.experiment else ""
    if experiment and experiment not in command(one, request).split():
        facts.append(f"the command below has the net's recipe, but not the other settings of {experiment}")
    if one.cost.coarser:
        size, own_size = one.cost.shape[-1], one.own_shape[-1]
        facts.append(f"its first layers are coarser at {size} px than at {own_size} px, where it was measured")
    missing = [f"its test/{score}"] * (not own) + ["the effect of int8"] * (not changes)
    facts += [f"not measured: {', '.join(missing)}"] if missing else []
    if one.net in gains:
        measured = gains[one.net]
        best = sorted(measured.points.items(), key=lambda item: -item[1])[:2]
        points = " and ".join(f"{points:+.2f} by {words}" for words, points in best)
        facts.append(
            f"val/acc of {measured.model} after {measured.epochs} epochs of Fashion-MNIST, compared to recipe=plain: "
            f"{points} (one seed); its own recipe follows from that"
        )
    return facts


def describe_evidence(one: Evidence) -> str:
    """Describe a measurement: its value, data, epochs, number of seeds and source."""
    epochs = f", {one.epochs} epochs" if one.epochs else ""
    seeds = f"median of {one.seeds} seeds" if one.seeds > 1 else "one seed"
    number = f"{one.value:.4f}" if one.value < 1 else f"{one.value:.4g}"
    shape = "×".join(map(str, one.shape))
    how = f"experiment={one.experiment}, " if one.experiment else ""
    file = one.source.partition(":")[0]
    return f"{number} on {one.data} at {shape}{epochs}, {seeds} ({how}benchmarks/results/{file})"


def speedup(one: Evidence) -> str:
    """Describe the speedup by int8; empty if it was not measured."""
    return f", {one.int8_speedup:.1f}× as fast at batches of 32" if one.int8_speedup else ""


def command(one: Candidate, request: Request) -> str:
    """Return the command that trains a net on the user's data."""
    shape = one.cost.shape
    places = {"model": one.name, "channels": shape[0], "size": shape[-1], "batch_size": batch_size(shape)}
    words = ["python src/train.py", request.kind.words[len(shape)].format(**places)]
    return " ".join(words + [f"trainer.max_epochs={one.cost.epochs}"] * bool(one.cost.epochs))
