"""Rank the nets that fit a request, the most promising first."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.advice.estimates import SHORT_RUN, Cost, cost_of
from src.advice.measurements import Evidence
from src.advice.request import Request
from src.system.wording import counted

NEAR_MISS = 1.05  # times a limit: the number of parameters in a net's name is accurate to 3 %


@dataclass(frozen=True)
class Candidate:
    """A net, its cost on the requested data, and the results of it and of related nets."""

    name: str
    net: str
    own_shape: tuple[int, ...]
    cost: Cost
    evidence: Evidence | None  # its result on the deciding data, or else on the data nearest to the request
    relative: Evidence | None  # result of the net of the same class and nearest size on the deciding data
    related: tuple[Evidence, ...]  # results of all nets of its class, including its own


@dataclass(frozen=True)
class Ranking:
    """The nets that fit a request, and what decided their order."""

    candidates: tuple[Candidate, ...]
    decided_by: str | None  # the data whose results decide the order
    equally_near: tuple[str, ...]  # other data that are as near to the request
    left_out: Mapping[str, int]  # number of nets by reason
    near_misses: tuple[str, ...]  # nets that exceed the limits by a few percent, with their costs


def rank(request: Request, models: Mapping[str, Mapping[str, Any]], evidence: Sequence[Evidence]) -> Ranking:
    """Rank the nets that fit.

    Nets measured on the data nearest to the request come first, those with the requested number of channels before
    others, the best score first, then nets of the same classes, then nets measured on other data, then the rest, the
    cheapest first. If nothing was measured on images of about the requested size, nets meant for that size come first.

    Raises:
        ValueError: no net fits; the message names the nearest ones.
    """
    kind = request.kind
    of_task = {
        name: facts
        for name, facts in models.items()
        if facts["task"] == kind.task and len(facts["shape"]) in kind.words
    }
    known = [one for one in evidence if one.score == kind.score and one.model in of_task]
    nearest = min(known, key=lambda one: distance(one, request), default=None)
    decided_by = nearest.data if nearest and is_similar_size(nearest.shape, request) else None
    equally_near = set()
    if nearest is not None and decided_by is not None:
        ties = {one.data for one in known if distance(one, request) == distance(nearest, request)}
        equally_near = ties - {decided_by}
    left_out: Counter[str] = Counter()
    candidates = []
    for name, facts in of_task.items():
        own = [one for one in known if one.model == name]
        best = min(own, key=lambda one: (one.data != decided_by, distance(one, request)), default=None)
        run = best.run if best and best.data == decided_by else None
        cost = cost_of(facts, request, run or SHORT_RUN)
        if cost is None:
            left_out[f"not taking size={request.size}"] += 1
            continue
        related = [one for one in known if of_task[one.model]["net"] == facts["net"]]
        ratios = {one: abs(math.log(of_task[one.model]["params"] / facts["params"])) for one in related}
        relative = min((one for one in related if one.data == decided_by), key=ratios.__getitem__, default=None)
        candidates.append(Candidate(name, facts["net"], tuple(facts["shape"]), cost, best, relative, tuple(related)))
    ranked = sorted(candidates, key=lambda one: sort_key(one, decided_by, request))
    fitting = [one for one in ranked if excess(one.cost, request) <= 1]
    if not fitting:
        raise ValueError(no_net_fits(request, candidates))
    for one in candidates:
        for limit, value in request.limits().items():
            if (amount := one.cost.of(limit)) is None:
                left_out[f"{limit}, speed not measured"] += 1
            elif amount > value:
                left_out[limit] += 1
    near_misses = tuple(describe_costs(one, request) for one in ranked if 1 < excess(one.cost, request) <= NEAR_MISS)
    chosen = tuple(without_twins(fitting, request))
    return Ranking(chosen, decided_by, tuple(sorted(equally_near)), left_out, near_misses)


def distance(one: Evidence, request: Request) -> float:
    """Return the distance of a measurement's data to the requested data, in logs of size, channels and number."""
    pairs = [(one.samples, request.images)]
    if request.kind.of_images:
        pairs += [(one.shape[1], request.size), (one.shape[0], request.channels)]
    return sum(abs(math.log(measured / requested)) for measured, requested in pairs if measured and requested)


def is_similar_size(shape: Sequence[int], request: Request) -> bool:
    """Return whether images are between half and twice the requested size."""
    return request.size is None or request.size / 2 <= shape[1] <= 2 * request.size


def sort_key(one: Candidate, decided_by: str | None, request: Request) -> tuple[float, ...]:
    """Return the sort key of a candidate."""
    sign = 1 if request.kind.minimised else -1
    if one.evidence and one.evidence.data == decided_by:
        return 0, has_other_channels(one.evidence, request), sign * one.evidence.value
    if one.relative:
        return 1, sign * one.relative.value, -one.cost.params
    meant = decided_by is None and is_similar_size(one.own_shape, request)
    return 1 if meant else 2 if one.evidence else 3, one.cost.latency_ms or math.inf, one.cost.macs


def has_other_channels(one: Evidence, request: Request) -> bool:
    """Return whether a measurement's images have another number of channels than the requested one."""
    return request.channels not in (None, one.shape[0])


def without_twins(ranked: Sequence[Candidate], request: Request) -> list[Candidate]:
    """Keep one of the nets that differ only in the data they are named for: a measured one, or else the nearest."""
    chosen: dict[tuple[str, str], Candidate] = {}
    for one in ranked:
        label = re.search(r"_(\d+[km])$", one.name)
        twin = (one.net, label[1] if label else one.name)
        if twin not in chosen or twin_priority(one, request) > twin_priority(chosen[twin], request):
            chosen[twin] = one
    return [one for one in ranked if one in chosen.values()]


def twin_priority(one: Candidate, request: Request) -> tuple[bool, float]:
    """Return the priority of a net among its twins; the highest is kept."""
    sizes = zip(one.own_shape, one.cost.shape, strict=True)
    return one.evidence is not None, -sum(abs(math.log(own / requested)) for own, requested in sizes)


def excess(cost: Cost, request: Request) -> float:
    """Return the largest ratio of a cost to its limit; infinite if a cost is unknown."""
    ratios = [value / limit if (value := cost.of(name)) else math.inf for name, limit in request.limits().items()]
    return max(ratios, default=0.0)


def no_net_fits(request: Request, candidates: Sequence[Candidate]) -> str:
    """Return the message that no net fits, with the nearest ones."""
    limits = ", ".join(f"{name}={limit:.10g}" for name, limit in request.limits().items())
    if not candidates:
        return f"No net for task={request.task} takes images of size={request.size}."
    nearest = sorted(candidates, key=lambda one: excess(one.cost, request))[:3]
    described = [describe_costs(one, request) for one in nearest]
    number = counted(len(candidates), "net")
    hint = " python benchmarks/models.py measures speeds." if any("not measured" in one for one in described) else ""
    return f"No net for task={request.task} fits {limits}: of {number} the nearest are {'; '.join(described)}.{hint}"


def describe_costs(one: Candidate, request: Request) -> str:
    """Name a net with each of its costs that has a limit."""
    return f"{one.name} ({', '.join(describe_cost(one.cost, name) for name in request.limits())})"


def describe_cost(cost: Cost, limit: str) -> str:
    """Format the cost that a limit applies to."""
    name, value = limit.removeprefix("max_"), cost.of(limit)
    if value is None:
        return f"{name} not measured"
    return f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}"
