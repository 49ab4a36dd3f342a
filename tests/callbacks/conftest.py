"""What the tests of callbacks share."""

from tests.small_run import data, known, model, trainer  # noqa: F401  # fixtures
