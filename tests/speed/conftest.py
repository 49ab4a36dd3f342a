"""Helpers shared by the tests of callbacks."""

from tests.small_run import data, known, model, trainer  # noqa: F401  # fixtures
