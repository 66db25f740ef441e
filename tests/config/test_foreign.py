"""What others made is bounded: errors are one line, and time, memory and size end."""

import os
import re
import signal
import threading
import time

import pytest

from ftkit.config.errors import LimitError, UserError
from ftkit.config.foreign import foreign, tried, within


class PanicException(BaseException):
    """As the Rust libraries raise."""


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    "error", [KeyError("a"), MemoryError(), RecursionError("deep"), Exception("x"), PanicException()]
)
def test_any_error_of_a_library_is_one_line(error):
    with (
        pytest.raises(UserError, match=r"^model: does not load \(.+\); take another$"),
        foreign("model", "does not load", "take another"),
    ):
        raise error


def test_what_asks_for_trust_names_the_flag():
    with pytest.raises(
        UserError, match="^model: needs Python code of its own, which runs only with --trust_remote_code"
    ):
        with foreign("model", "does not load"):
            raise ValueError("Please pass the argument `trust_remote_code=True`\nto allow it")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, LimitError, UserError("mine")])
def test_what_is_no_mistake_of_a_library_passes(error):
    with (
        pytest.raises(error if isinstance(error, type) else UserError, match="^(mine)?$"),
        foreign("model", "does not load"),
    ):
        raise error


def test_work_that_takes_too_long_is_stopped_also_within_a_pattern_and_within_other_work():
    with pytest.raises(LimitError, match="^matching takes more than 0.05 seconds; fix$"):
        with within(30, "all", "fix"), within(0.05, "matching", "fix"):
            re.match("(a+)+$", "a" * 64 + "!")
    with pytest.raises(LimitError, match="^all takes more than 0.1 seconds"):
        with within(0.1, "all", "fix"):
            with within(0.01, "quick", "fix"):
                pass
            spin()
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0


def test_the_limit_outlives_a_library_that_swallows_errors():
    def stubborn() -> None:
        while True:
            try:
                spin()
            except Exception:
                pass

    with pytest.raises(LimitError), within(0.05, "work", "fix"):
        stubborn()


def test_the_limit_holds_in_other_threads_and_ends_with_the_work():
    found = []

    def work() -> None:
        with within(1, "quick", "fix"):
            found.append("quick")
        try:
            with within(0.05, "work", "fix"):
                spin()
        except LimitError as error:
            found.append(str(error))
        for _ in range(100):  # nothing is raised any more
            time.sleep(0.005)
        found.append("goes on")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert found == ["quick", "work takes more than 0.05 seconds; fix", "goes on"]


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (spin, "takes more than 2 seconds, or breaks down"),
        (lambda: 7 ** (7**11), "takes more than 2 seconds, or breaks down"),
        (lambda: "a" * 2**40, "needs more than 1 GiB"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "takes more than 2 seconds, or breaks down"),
    ],
    ids=["loop", "number", "memory", "crash"],
)
def test_a_trial_ends_in_a_process_of_its_own(work, message):
    with pytest.raises(LimitError, match=f"^template {message}; fix$"):
        tried(work, "template", "fix")


def test_a_trial_that_panics_says_why():
    def panic() -> None:
        raise PanicException("retry limit over")

    with pytest.raises(LimitError, match=r"^template breaks down \(retry limit over\); fix$"):
        tried(panic, "template", "fix")


def test_a_trial_leaves_ordinary_errors_and_nothing_else_behind(capfd, tmp_path):
    def work() -> None:
        print("said")
        (tmp_path / "written").write_text("")
        raise KeyError("ordinary")

    tried(work, "template", "fix")
    assert (tmp_path / "written").exists() and capfd.readouterr() == ("", "")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
