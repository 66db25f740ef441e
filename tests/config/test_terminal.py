"""Colour only where it is seen; a log file gets lines, now and then, and no bar."""

import io
import sys

import pytest

from ftkit.config import terminal
from ftkit.config.parser import run
from ftkit.config.terminal import Progress, has_color, resumable, styled, time_text


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "stream, environ, expected",
    [
        (Screen(), {}, True),
        (Screen(), {"NO_COLOR": "1"}, False),
        (Screen(), {"NO_COLOR": ""}, True),  # no-color.org: not an empty string
        (Screen(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(stream, environ, expected):
    assert has_color(stream, environ) is expected


def test_text_is_styled_only_in_colour():
    assert styled("x", "green", True) == "\x1b[1;32mx\x1b[0m" and styled("x", "green", False) == "x"


def test_times_are_read_as_on_a_clock():
    assert [time_text(seconds) for seconds in (0.4, 35, 724, 3729)] == ["0:00", "0:35", "12:04", "1:02:09"]


def test_a_log_file_gets_a_line_after_ten_seconds_and_one_at_the_end(capsys, monkeypatch):
    clock = iter([0.0, 0.5, 12.0, 20.0, 20.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    with Progress(40, "refusal") as progress:
        for num in (8, 8, 24):
            progress.advance(num)
    assert capsys.readouterr().err == "refusal: 16 of 40 items, 0:18 left\nrefusal: 40 items in 0:20\n"


def test_a_long_part_says_so_at_its_beginning(capsys, monkeypatch):
    clock = iter([0.0, 4.0, 8.0, 12.0, 16.0, 16.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    with Progress(40, "refusal") as progress:
        for _ in range(4):
            progress.advance(10)
    first = "refusal: 10 of 40 items, 0:12 left\n"
    assert capsys.readouterr().err == first + "refusal: 40 items in 0:16\n"


def test_other_processes_print_no_progress(capsys):
    with Progress(3, "refusal", shown=False) as progress:
        progress.advance(3)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setattr(terminal, "BAR_DELAY_SECONDS", 0)
    with Progress(3, "refusal") as progress:
        progress.advance(3)
    assert "refusal: 100%" in sys.stderr.getvalue()


def test_ctrl_c_is_one_line_of_its_own_that_says_whether_the_command_goes_on(capsys):
    def bench(argv):
        with resumable():
            raise KeyboardInterrupt

    def other(argv):
        raise KeyboardInterrupt

    assert run(bench, []) == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command goes on from here\n"
    assert run(other, []) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"
