"""Signals to a process that listens, to one that waits for others, and to one that is being started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from src.sweeps.ending import SIGNALS, Ending, blocked, typed_command


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """A mock of `os._exit`."""
    found = Mock()
    monkeypatch.setattr("src.sweeps.ending.os._exit", found)
    return found


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_process_after_what_is_to_be_done(
    number: int, leave: Mock, capfd: pytest.CaptureFixture[str]
) -> None:
    abandon = Mock()
    Ending(lambda: "To go on: again", abandon=abandon).listen()
    signal.raise_signal(number)
    assert capfd.readouterr().err == "ERROR: To go on: again\n"
    abandon.assert_called_once_with()
    leave.assert_called_once_with(75)


def test_while_others_work_the_first_signal_is_a_wish(leave: Mock, capfd: pytest.CaptureFixture[str]) -> None:
    ending = Ending(lambda: "To go on: again", has_running_jobs=lambda: True)
    ending.listen()
    signal.raise_signal(signal.SIGINT)
    assert ending.stop_requested and not leave.called and "Press Ctrl-C again to end at once" in capfd.readouterr().err
    signal.raise_signal(signal.SIGTERM)
    leave.assert_called_once_with(75)


def test_code_that_cleans_up_by_itself_is_interrupted_as_usual(leave: Mock) -> None:
    ending = Ending(lambda: "")
    with pytest.raises(KeyboardInterrupt), ending.suspended():
        signal.raise_signal(signal.SIGINT)
    assert not leave.called
    signal.raise_signal(signal.SIGINT)
    assert leave.called


@pytest.mark.skipif(os.name != "posix", reason="blocked signals are POSIX")
def test_a_process_that_is_started_while_signals_are_blocked_holds_them_back() -> None:
    program = "import signal; print(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))"
    with blocked():
        output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert output == "[2, 15]\n"
    assert not {*SIGNALS} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_the_command_is_ready_to_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["src/train.py", "-m", "tags=[a b]", "retry"])
    assert typed_command("retry") == "python src/train.py -m 'tags=[a b]'"


def test_nothing_slow_is_imported() -> None:
    program = "import sys; import src.sweeps.ending; print('omegaconf' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
