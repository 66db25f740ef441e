"""`ftkit chat` at a terminal: lines are edited, a paste is one message, Ctrl-C stops an answer and not the program."""

import os
import re
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")
CHILD = Path(__file__).with_name("chat_at_terminal.py")
SECONDS = 20
UP, LEFT, CTRL_C, CTRL_D, ENTER = "\x1b[A", "\x1b[D", "\x03", "\x04", "\r"


def own_terminal() -> None:
    """Make the pseudo-terminal the child's own, and let Ctrl-C reach it: a job in the background begins with it ignored."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A person at a pseudo-terminal: sends keys, and waits for what the program prints."""

    def __init__(self, *argv, **environ):
        self.fd, other = pty.openpty()
        plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "INPUTRC")}
        environ = plain | {"TERM": "xterm", "PYTHONPATH": str(CHILD.parents[2]), "INPUTRC": "/dev/null"} | environ
        self.process = subprocess.Popen(
            [sys.executable, CHILD, *argv], stdin=other, stdout=other, stderr=other, env=environ, start_new_session=True,
            preexec_fn=own_terminal,
        )  # fmt: skip
        os.close(other)
        self.seen = ""
        self.start = self.until("> ")

    def until(self, text: str, again: str = "") -> str:
        """What comes up to and with a text. again: keys to press each second until it does."""
        end = time.monotonic() + SECONDS
        press = time.monotonic() + 1
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not come: {self.seen!r}"
            if again and time.monotonic() > press:
                press = time.monotonic() + 1
                os.write(self.fd, again.encode())
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode()
                except OSError:  # the other side is closed
                    assert text in self.seen, f"{text!r} did not come: {self.seen!r}"
        found, _, self.seen = self.seen.partition(text)
        return found + text

    def send(self, keys: str, answer: str, again: str = "") -> str:
        """Press keys and wait for an answer, and the next prompt. again: see `until`."""
        os.write(self.fd, keys.encode())
        found = self.until(answer, again)
        return found + ("" if "[ended]" in answer else self.until("> "))

    def end(self) -> int:
        """The exit status."""
        self.until("[ended]")
        status = self.process.wait(SECONDS)
        os.close(self.fd)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def terminal():
    opened = []

    def start(*argv, **environ) -> Terminal:
        opened.append(Terminal(*argv, **environ))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_lines_are_edited_a_paste_is_one_message_and_an_answer_can_be_stopped(terminal):
    chat = terminal()
    assert "\x1b[?2004h" in chat.start  # the terminal is to mark where a paste begins and ends
    chat.send(f"abd{LEFT}c{ENTER}", "first heard 'abcd' of 4 after 0")
    chat.send(f"{UP}{ENTER}", "first heard 'abcd' of 4 after 2")
    chat.send(f"\x1b[200~one\ntwo\nthree\x1b[201~{ENTER}", r"heard 'one\ntwo\nthree' of 13 after 4")
    chat.send(f"/adapter se\t{ENTER}", "second answers")
    chat.send(f"/temp\t0.5{ENTER}", "temperature 0.5")
    chat.send("x" * 6000 + ENTER, f"second heard '{'x' * 40}' of 6000 after 6")  # a terminal's own lines end at 4,095
    os.write(chat.fd, f"slow{ENTER}".encode())
    chat.until("tick tick")
    chat.send(CTRL_C, "(stopped)")
    chat.send(f"more{ENTER}", "second heard 'more' of 4 after 10")  # what was said before it stopped was kept
    # Again: Python's readline sees a signal that comes just before it waits only with the next key.
    chat.send(f"half a question{CTRL_C}", "/help shows the commands", again=CTRL_C)
    chat.send(f"more{ENTER}", "second heard 'more' of 4 after 12")
    os.write(chat.fd, CTRL_D.encode())
    assert chat.end() == 0


def test_without_an_editor_lines_that_come_together_are_one_message(terminal):
    chat = terminal(TERM="dumb")
    chat.send("one\ntwo\nthree\n", r"first heard 'one\ntwo\nthree' of 13 after 0")
    chat.send("four\n", "first heard 'four' of 4 after 2")


@pytest.mark.parametrize("word", ["/bye", "/exit", "exit", "quit"])
def test_words_that_end_it(terminal, word):
    chat = terminal()
    os.write(chat.fd, f"{word}{ENTER}".encode())
    assert chat.end() == 0


def test_thoughts_are_dim_and_colours_can_be_switched_off(terminal):
    chat = terminal()
    found = chat.send(f"think{ENTER}", "after 0")
    assert "\x1b[2m<think>\x1b[0m\x1b[2mhm\x1b[0m\x1b[2m</think>\x1b[0mfour" in found
    chat = terminal(NO_COLOR="1")
    found = chat.send(f"think{ENTER}", "after 0") + chat.send(f"/help{ENTER}", "/bye")
    assert "<think>hm</think>four" in found and not re.search(r"\x1b\[\d*m", found)


def test_the_history_outlives_the_program_and_is_its_owners(terminal, tmp_path):
    history = tmp_path / "cache" / "history.jsonl"
    chat = terminal(history)
    chat.send(f"\x1b[200~one\ntwo\x1b[201~{ENTER}", r"'one\ntwo'")
    chat.close()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    again = terminal(history)
    again.send(f"{UP}{ENTER}", r"first heard 'one\ntwo' of 7 after 0")
