"""Which nets fit a wish, the most promising first."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.advice.estimates import Cost, cost_of
from src.advice.measurements import Evidence
from src.advice.wish import Wish
from src.system.wording import counted

NEARLY = 1.05  # times a limit: nets are named for a number of parameters that is true within 3 %


@dataclass(frozen=True)
class Candidate:
    """A net, what it costs on the wished data, and what it or its relatives reached."""

    name: str
    net: str
    own_shape: tuple[int, ...]
    cost: Cost
    evidence: Evidence | None  # what this net reached on the data that decide, or else on those nearest to the wished
    relative: Evidence | None  # what the net of the same kind and the nearest size reached on the data that decide
    kin: tuple[Evidence, ...]  # what it and all other nets of its kind reached


@dataclass(frozen=True)
class Ranking:
    """The nets that fit a wish, and why they are in this order."""

    candidates: tuple[Candidate, ...]
    decided_by: str | None  # the data whose measurements count
    as_near: tuple[str, ...]  # other data that are as near to the wished
    left_out: Mapping[str, int]  # numbers of nets by reason
    nearly: tuple[str, ...]  # nets that exceed the limits by a few percent, and what they cost


def rank(wish: Wish, models: Mapping[str, Mapping[str, Any]], evidence: Sequence[Evidence]) -> Ranking:
    """Rank the nets that fit.

    First come those that were measured on the data nearest to the wished, the best score first, then nets of the same
    kinds, then those that were measured on other data, then the rest, the cheapest first. If nothing was measured on
    images of about the wished size, those come first that are meant for it.

    Raises:
        ValueError: none fits; with those that come nearest.
    """
    kind = wish.kind
    of_task = {
        name: facts
        for name, facts in models.items()
        if facts["task"] == kind.task and len(facts["shape"]) in kind.words
    }
    known = [one for one in evidence if one.score == kind.score and one.model in of_task]
    nearest = min(known, key=lambda one: distance(one, wish), default=None)
    decided_by = nearest.data if nearest and is_about(nearest.shape, wish) else None
    as_near = set()
    if nearest is not None and decided_by is not None:
        as_near = {one.data for one in known if distance(one, wish) == distance(nearest, wish)} - {decided_by}
    left_out: Counter[str] = Counter()
    candidates = []
    for name, facts in of_task.items():
        cost = cost_of(facts, wish)
        if cost is None:
            left_out[f"size={wish.size}, which they do not take"] += 1
            continue
        own = [one for one in known if one.model == name]
        kin = [one for one in known if of_task[one.model]["net"] == facts["net"]]
        ratios = {one: abs(math.log(of_task[one.model]["params"] / facts["params"])) for one in kin}
        relative = min((one for one in kin if one.data == decided_by), key=ratios.__getitem__, default=None)
        best = min(own, key=lambda one: (one.data != decided_by, distance(one, wish)), default=None)
        candidates.append(Candidate(name, facts["net"], tuple(facts["shape"]), cost, best, relative, tuple(kin)))
    fitting = [one for one in candidates if excess(one.cost, wish) <= 1]
    if not fitting:
        raise ValueError(no_net_fits(wish, candidates))
    for one in candidates:
        for limit, value in wish.limits().items():
            if (cost_there := one.cost.of(limit)) is None:
                left_out[f"{limit}, their speed not being measured"] += 1
            elif cost_there > value:
                left_out[limit] += 1
    ranked = sorted(fitting, key=lambda one: place(one, decided_by, wish))
    nearly = [
        describe_costs(one, wish)
        for one in sorted(candidates, key=lambda one: place(one, decided_by, wish))
        if 1 < excess(one.cost, wish) <= NEARLY
    ]
    chosen = tuple(without_twins(ranked, wish))
    return Ranking(chosen, decided_by, tuple(sorted(as_near)), left_out, tuple(nearly))


def distance(one: Evidence, wish: Wish) -> float:
    """Return how far the data of a measurement is from the wished: in logarithms of size, channels and number."""
    pairs = [(one.samples, wish.images)]
    if wish.kind.of_images:
        pairs += [(one.shape[1], wish.size), (one.shape[0], wish.channels)]
    return sum(abs(math.log(here / there)) for here, there in pairs if here and there)


def is_about(shape: Sequence[int], wish: Wish) -> bool:
    """Return whether images are at most twice or at least half as large as the wished."""
    return wish.size is None or wish.size / 2 <= shape[1] <= 2 * wish.size


def place(one: Candidate, decided_by: str | None, wish: Wish) -> tuple[float, ...]:
    """Return the sort key of a candidate."""
    sign = 1 if wish.kind.minimised else -1
    if one.evidence and one.evidence.data == decided_by:
        return 0, sign * one.evidence.value
    if one.relative:
        return 1, sign * one.relative.value, -one.cost.params
    meant = decided_by is None and is_about(one.own_shape, wish)
    return 1 if meant else 2 if one.evidence else 3, one.cost.latency_ms or math.inf, one.cost.macs


def without_twins(ranked: Sequence[Candidate], wish: Wish) -> list[Candidate]:
    """Keep one of the nets that differ only in the data they are named for: a measured one, or else the nearest."""
    chosen: dict[tuple[str, str], Candidate] = {}
    for one in ranked:
        label = re.search(r"_(\d+[km])$", one.name)
        twin = (one.net, label[1] if label else one.name)
        if twin not in chosen or worth(one, wish) > worth(chosen[twin], wish):
            chosen[twin] = one
    return [one for one in ranked if one in chosen.values()]


def worth(one: Candidate, wish: Wish) -> tuple[bool, float]:
    """Return which of two twins to keep: the larger."""
    wished = zip(one.own_shape, one.cost.shape, strict=True)
    return one.evidence is not None, -sum(abs(math.log(own / here)) for own, here in wished)


def excess(cost: Cost, wish: Wish) -> float:
    """Return the largest ratio of a cost to its limit; infinite if it is not known."""
    ratios = [value / limit if (value := cost.of(name)) else math.inf for name, limit in wish.limits().items()]
    return max(ratios, default=0.0)


def no_net_fits(wish: Wish, candidates: Sequence[Candidate]) -> str:
    """Say that no net fits, and which come nearest."""
    wishes = ", ".join(f"{name}={limit:g}" for name, limit in wish.limits().items())
    if not candidates:
        return f"No net for task={wish.task} takes images of size={wish.size}."
    near = sorted(candidates, key=lambda one: excess(one.cost, wish))[:3]
    found = [describe_costs(one, wish) for one in near]
    number = counted(len(candidates), "net")
    remedy = " python benchmarks/models.py measures speeds." if any("not measured" in one for one in found) else ""
    return f"No net for task={wish.task} fits {wishes}: of {number} the nearest are {'; '.join(found)}.{remedy}"


def describe_costs(one: Candidate, wish: Wish) -> str:
    """Name a net, and what it has of all that is limited."""
    return f"{one.name} ({', '.join(describe_cost(one.cost, name) for name in wish.limits())})"


def describe_cost(cost: Cost, limit: str) -> str:
    """Say what a net has of what is limited."""
    name, value = limit.removeprefix("max_"), cost.of(limit)
    if value is None:
        return f"{name} not measured"
    return f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}"
