"""Put a ranking into words: reasons, commands, and how to deploy."""

from collections.abc import Mapping
from typing import Any

from src.advice.estimates import EPOCHS, ESTIMATED, batch_size
from src.advice.measurements import Evidence, Gains
from src.advice.ranking import Candidate, Ranking
from src.advice.wish import Wish


def advise(wish: Wish, ranking: Ranking, gains: Mapping[str, Gains], top: int) -> dict[str, Any]:
    """Return the best nets with figures, reasons and commands, what they are based on, and how to deploy."""
    return {
        "based_on": bases(wish, ranking),
        "advice": [
            {"rank": number, **describe(one, wish, gains)} for number, one in enumerate(ranking.candidates[:top], 1)
        ],
        "more": max(len(ranking.candidates) - top, 0),
        "left_out": dict(ranking.left_out),
        "nearly": list(ranking.nearly),
        "read_on": [wish.kind.page, "docs/choose.md"],
    }


def bases(wish: Wish, ranking: Ranking) -> list[str]:
    """Say what the order, the latencies and the times come from."""
    sentences = [
        f"No net for task={wish.task} was scored on images of about this size: first come nets that are meant for it, "
        "then those that were scored on others, the quickest first."
    ]
    if ranking.decided_by:
        sentences = [
            f"The order is that of test/{wish.kind.score} on {ranking.decided_by}, of what was measured the nearest to "
            "your data; then come nets of the same kinds, nets measured on other data, and the rest by their cost."
        ]
    if ranking.as_near:
        near = " and ".join(ranking.as_near)
        sentences.append(
            f"Measurements on {near} are of data as much like yours, and may give another order: images= and channels= "
            "tell which are more so."
        )
    if any(one.cost.latency_from == ESTIMATED for one in ranking.candidates):
        sentences.append(
            "Latencies with ≥ are not measured: a third of a train step, divided by its batch, is a bound that a "
            "single image exceeds, often by far. A limit leaves out only nets whose bound exceeds it: measure those "
            "that matter by python src/benchmark.py model=<name>"
        )
    if any(one.cost.scaled for one in ranking.candidates):
        sentences.append(
            "MACs are counted, or estimated between sizes that were counted, which is least exact for attention. "
            "Speeds at sizes other than a net's own are estimated, in proportion to them."
        )
    if wish.images and any(one.cost.epochs for one in ranking.candidates):
        sentences.append(
            "The epochs make as many steps as the runs on Fashion-MNIST, 4 epochs of 55,000 images, but at most "
            f"{EPOCHS[1]}; how many your data need is not measured."
        )
    sentences += [wish.kind.note] if wish.kind.note else []
    sentences.append("Speeds are those of one machine with two cores, which benchmarks/results/models.json names.")
    return sentences


def describe(one: Candidate, wish: Wish, gains: Mapping[str, Gains]) -> dict[str, Any]:
    """Return figures, reasons and the command of a net."""
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
        "reasons": reasons(one, wish, gains),
        "command": command(one, wish),
    }


def score_of(evidence: Evidence | None, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """Return what a net reached, on which data, and at which size of images unless it is the wished one."""
    if evidence is None:
        return None
    size = evidence.shape[-1] if len(evidence.shape) == 3 and evidence.shape != shape else None
    return {"name": evidence.score, "value": evidence.value, "data": evidence.data, "size": size}


def reasons(one: Candidate, wish: Wish, gains: Mapping[str, Gains]) -> list[str]:
    """Say what is known of a net, and what is not."""
    score, own = wish.kind.score, [kin for kin in one.kin if kin.model == one.name]
    facts = [f"test/{score} {describe_evidence(kin)}" for kin in own]
    others = sorted((kin for kin in one.kin if kin not in own), key=lambda kin: kin is not one.relative)
    facts += [f"of the same kind, {kin.model}: test/{score} {describe_evidence(kin)}" for kin in others[:1]]
    changes = [kin for kin in own if kin.int8_change is not None]
    facts += [f"int8 on {kin.data}: {score} {kin.int8_change:+.4f}{speedup(kin)}" for kin in changes]
    if one.cost.coarser:
        here, own_size = one.cost.shape[-1], one.own_shape[-1]
        facts.append(f"its first layers are coarser at {here} px than at {own_size} px, where it was measured")
    missing = [f"its test/{score}"] * (not own) + ["what int8 changes"] * (not changes)
    facts += [f"not measured: {', '.join(missing)}"] if missing else []
    if one.net in gains:
        found = gains[one.net]
        best = sorted(found.points.items(), key=lambda item: -item[1])[:2]
        points = " and ".join(f"{points:+.2f} by {words}" for words, points in best)
        facts.append(
            f"val/acc of {found.model} after {found.epochs} epochs of Fashion-MNIST, against recipe=plain: {points} "
            "(one seed); its own recipe follows from that"
        )
    return facts


def describe_evidence(one: Evidence) -> str:
    """Say what was measured, on which data, and how often."""
    epochs = f", {one.epochs} epochs" if one.epochs else ""
    seeds = f"median of {one.seeds} seeds" if one.seeds > 1 else "one seed"
    number = f"{one.value:.4f}" if one.value < 1 else f"{one.value:.4g}"
    shape = "×".join(map(str, one.shape))
    return f"{number} on {one.data} at {shape}{epochs}, {seeds} (benchmarks/results/{one.source.partition(':')[0]})"


def speedup(one: Evidence) -> str:
    """Say how much faster int8 is, if that was measured."""
    return f", {one.int8_speedup:.1f}× as fast at batches of 32" if one.int8_speedup else ""


def command(one: Candidate, wish: Wish) -> str:
    """Return the command that trains a net on the user's data."""
    shape = one.cost.shape
    places = {"model": one.name, "channels": shape[0], "size": shape[-1], "batch_size": batch_size(shape)}
    words = ["python src/train.py", wish.kind.words[len(shape)].format(**places)]
    return " ".join(words + [f"trainer.max_epochs={one.cost.epochs}"] * bool(one.cost.epochs))
