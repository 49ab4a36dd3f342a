"""Names, modules and globs select the tensors they name."""

import pytest

from src.models.names import select

NAMES = ["stem.weight", "blocks.0.norm1.weight", "blocks.0.mlp.weight", "blocks.10.norm1.weight", "head.weight"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], []),
        (["head.weight"], [4]),
        (["head", "stem"], [0, 4]),  # in the order of the net
        (["blocks.0"], [1, 2]),
        (["blocks.1*"], [3]),
        (["*.norm1"], [1, 3]),
        (["blocks.?.*.weight"], [1, 2]),
        (["*", "-head"], [0, 1, 2, 3]),
        (["*", "-blocks", "blocks.10"], [0, 3, 4]),
        (["*weight"], [0, 1, 2, 3, 4]),
    ],
    ids=str,
)
def test_patterns_match_names_modules_and_globs(patterns: list[str], expected: list[int]) -> None:
    assert select(patterns, NAMES, "key") == [NAMES[index] for index in expected]


def test_a_number_is_the_name_of_a_layer() -> None:
    assert select([1], ["0.weight", "1.weight"], "key") == ["1.weight"]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("haed", r"model\.freeze: nothing in the net is named haed\. Did you mean head"),
        ("blocks.0.norm", r"named blocks\.0\.norm\. Did you mean blocks\.0\.norm1"),
        ("-features", r"named features\. The net has: stem, blocks, head\."),
        ("block", r"named block\. Did you mean blocks"),  # the beginning of a name is not enough
    ],
)
def test_a_pattern_that_matches_nothing_is_named_with_what_is_near(pattern: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        select([pattern], NAMES, "model.freeze")
