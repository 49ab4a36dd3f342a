"""What the tests of models share."""

import pytest


@pytest.fixture(autouse=True)
def always_one_thread(one_thread: None) -> None:
    """See `one_thread`."""
