"""Helpers shared by the tests of tasks."""

from tests.small_run import data, known, model, trainer  # noqa: F401  # fixtures
