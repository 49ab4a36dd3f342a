"""The search space that overrides describe."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

optuna = pytest.importorskip("optuna", reason="studies need the extra [sweep]")
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from src.sweeps.space import SearchSpace, checked, distribution, grid_of
from src.sweeps.study import open_study, trial_of


def parse(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


def space(*texts: str, **conditional: dict[str, str]) -> SearchSpace:
    overrides = {override.get_key_element(): override for override in map(parse, texts)}
    parts = {
        condition.replace("__", "="): {key: parse(f"{key}={value}") for key, value in some.items()}
        for condition, some in conditional.items()
    }
    return SearchSpace(overrides, parts, parse)


def suggest(found: SearchSpace, count: int) -> list[list[str]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [found.suggest(study.ask()) for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("x=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("x=int(interval(2,8))", IntDistribution(2, 8)),
        ("x=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("x=range(0,10)", IntDistribution(0, 9)),
        ("x=range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("x=range(0.5,2.0,0.5)", FloatDistribution(0.5, 1.5, step=0.5)),
        ("x=choice(a,b)", CategoricalDistribution(["a", "b"])),
        ("x=1,2.5,true,null", CategoricalDistribution([1, 2.5, True, "null"])),
        ("x=[1,2],[3]", CategoricalDistribution(["[1,2]", "[3]"])),
    ],
)
def test_what_is_drawn_from(text: str, expected: Any) -> None:
    assert distribution(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=interval(1,1)", r"x=interval\(1,1\) is an empty range: 1.0 is not below 1.0"),
        ("x=interval(2,1)", "empty range"),
        ("x=range(5,5)", "empty range"),
        ("x=range(5,1)", "empty range"),
        ("x=tag(log,interval(0,1))", "a logarithmic range must be above 0"),
        ("x=tag(log,range(1,8))", "a logarithmic range has no steps"),
    ],
)
def test_a_range_of_nothing(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distribution(parse(text))


def test_single_values_are_passed_on_and_others_drawn() -> None:
    for words in suggest(space("data=mnist_5k", "lr=interval(1,2)", "size=32,64"), 10):
        assert words[0] == "data=mnist_5k"
        (lr, size) = (word.partition("=")[2] for word in words[1:])
        assert 1 <= float(lr) <= 2 and size in ("32", "64")


def test_a_switch_and_nothing_are_written_as_hydra_reads_them() -> None:
    drawn = {words[0] for words in suggest(space("x=true,false,null"), 30)}
    assert drawn == {"x=true", "x=false", "x=null"}


def test_a_condition_holds_for_some_trials_only() -> None:
    found = space(
        "model=a,b,c", "lr=interval(0,1)", **{"model__a,b": {"+width": "choice(1,2)"}, "model__c": {"d": "7,8"}}
    )
    for words in suggest(found, 40):
        keys = {word.partition("=")[0] for word in words}
        assert ("+width" in keys) == (words[0] in ("model=a", "model=b"))
        assert ("d" in keys) == (words[0] == "model=c")


def test_a_fixed_value_can_be_a_condition() -> None:
    assert any("w=" in word for word in suggest(space("model=a", "lr=interval(0,1)", model__a={"w": "1,2"}), 1)[0])


@pytest.mark.parametrize(
    ("conditional", "message"),
    [
        ({"model__z": {"d": "7,8"}}, "conditional_params: model=z never holds in this search"),
        ({"modle__a": {"d": "7,8"}}, "conditional_params: modle=a never holds in this search"),
        ({"model__a": {"lr": "7,8"}}, "conditional_params: lr is searched in every trial already"),
    ],
)
def test_conditions_that_make_no_sense(conditional: dict[str, dict[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space("model=a,b", "lr=interval(0,1)", **conditional)


def test_a_search_of_nothing() -> None:
    with pytest.raises(ValueError, match="There is nothing to search: give ranges"):
        space("model=a", "lr=1")


def test_rows_show_every_value_once_and_both_ends_of_ranges() -> None:
    rows = space("k=1", "model=a,b,c", "lr=interval(0,1)", model__b={"d": "7,8"}).rows()
    assert rows == [
        ["k=1", "model=a", "lr=0.0"],
        ["k=1", "model=b", "lr=1.0", "d=8"],
        ["k=1", "model=c", "lr=0.0"],
    ]


def test_what_a_trial_has_drawn_stays() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = space("lr=interval(0,1)", "b=1,2")
    trial = study.ask()
    first = found.suggest(trial)
    study.sampler = optuna.samplers.RandomSampler(seed=9)
    assert found.suggest(optuna.trial.Trial(study, trial._trial_id)) == first


def test_the_values_of_a_grid() -> None:
    assert space("a=x,y", "b=range(0,3)", "c=range(0.5,2.0,0.5)").grid() == {
        "a": ["x", "y"],
        "b": [0, 1, 2],
        "c": [0.5, 1.0, 1.5],
    }
    assert grid_of(IntDistribution(1, 3)) == [1, 2, 3]
    with pytest.raises(ValueError, match="needs single values for lr, or a range with steps"):
        space("a=x,y", "lr=interval(0,1)").grid()
    with pytest.raises(ValueError, match="does not support conditional_params"):
        space("a=x,y", a__x={"b": "1,2"}).grid()


EVIL = "{_target_:os.system,command:touch pwned}"


@pytest.mark.parametrize("value", [EVIL, "0.5", 7.0, -1e308, float("inf"), float("nan"), None, True, [0.5]])
def test_a_number_that_a_journal_keeps_is_one_of_the_range(value: Any, tmp_path: Path) -> None:
    path, found = tmp_path / "study", space("lr=interval(0,1)")
    found.suggest(open_study(str(path), "mine", ["maximize"]).ask())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [{**line, "param_value_internal": value} if "param_value_internal" in line else line for line in lines]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(ValueError, match="lr of trial 0 is not in this search space"):
        found.suggest(trial_of(open_study(str(path), "mine"), 0))


def test_a_text_in_a_database_s_column_of_numbers_is_refused(tmp_path: Path) -> None:
    storage, found = f"sqlite:///{tmp_path}/study", space("lr=interval(0,1)")
    found.suggest(open_study(storage, "mine", ["maximize"]).ask())
    with sqlite3.connect(tmp_path / "study") as connection:
        connection.execute("update trial_params set param_value=?", (EVIL,))
    with pytest.raises(ValueError, match="lr of trial 0 is not in this search space"):
        found.suggest(trial_of(open_study(storage, "mine"), 0))


@pytest.mark.parametrize("params", [{"lr": EVIL}, {"lr": "0.5"}, {"lr": 7}, {"size": EVIL}, {"size": 3}, {"n": 2.5e9}])
def test_what_was_enqueued_is_a_value_of_the_search(params: dict[str, Any], tmp_path: Path) -> None:
    study = open_study(str(tmp_path / "study"), "mine", ["maximize"])
    study.enqueue_trial(params)
    with pytest.raises(ValueError, match="of trial 0 is not in this search space"):
        space("lr=interval(0,1)", "size=32,64", "n=int(interval(1,9))").suggest(study.ask())


def test_a_choice_is_ours_and_of_its_own_kind() -> None:
    one = distribution(parse("x=1,a,[1]"))
    assert [checked(value, one) for value in (1, "a", "[1]")] == [1, "a", "[1]"]
    for value in (True, 1.0, "1", [1], {"a": 1}):
        with pytest.raises(ValueError, match="is not one of 1, a"):
            checked(value, one)
