"""What the tests of tasks share."""

from tests.small_run import data, known, model, trainer  # noqa: F401  # fixtures
