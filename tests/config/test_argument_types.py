"""Values of the wrong type are rejected with their key, for any class."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from src.config.argument_types import check_arguments, expected_type


class Part:
    def __init__(self, size: int, *, ratio: float = 1.0, sizes: Sequence[int] = (), name: str = "") -> None: ...


class Whole(Part):
    def __init__(self, part: Part | None = None, **options: Any) -> None: ...


PART, WHOLE = f"{__name__}.Part", f"{__name__}.Whole"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 1.5}, "part.size=1.5 must be an integer."),
        ({"size": 2, "ratio": "much"}, "part.ratio=much must be a number."),
        ({"size": 2, "sizes": 64}, "part.sizes=64 must be a list, such as [64]."),
        ({"size": "${top}"}, "part.size=1.5 must be an integer."),
    ],
)
@pytest.mark.parametrize("target", [PART, WHOLE])
def test_a_wrong_type_is_named_with_its_key(values: dict[str, Any], message: str, target: str) -> None:
    cfg = OmegaConf.create({"top": 1.5, "whole": {"_target_": WHOLE, "part": {"_target_": target, **values}}})
    with pytest.raises(ValueError) as caught:
        check_arguments(cfg.whole)
    assert str(caught.value) == f"whole.{message}"


@pytest.mark.parametrize(
    "values",
    [
        {"size": 2, "ratio": 1, "sizes": [1, 2], "name": 7},
        {"size": "???", "ratio": None},
        {"size": 2, "part": None, "unknown": 1.5},
        {"size": 1.5, "_target_": "no.such.Class"},  # reported on instantiation
    ],
)
def test_what_may_do_is_left_alone(values: dict[str, Any]) -> None:
    check_arguments(OmegaConf.create({"_target_": WHOLE, **values}))


@pytest.mark.parametrize(
    ("annotation", "value", "wrong"),
    [
        (int | None, 1.5, True),
        (int | float, 1.5, False),
        (int | str, "all", False),
        (int, "all", True),
        (Iterable[int], 3, True),
        (list[int] | int, 3, False),
        (Literal["warn"] | bool | None, "warn", False),
        (Any, 1.5, False),
        (object, 1.5, False),
        (type("Own", (), {}), 1.5, False),
        (type("Own", (), {}) | int, 1.5, True),
    ],
)
def test_only_what_is_certain_is_wrong(annotation: Any, value: Any, wrong: bool) -> None:
    assert (expected_type(annotation, value) is not None) == wrong
