"""Plain ANSI, where a person sees it: colour, and how far a long part is.

with Progress(40, "refusal") as progress:
    progress.advance(8)                    # a bar on a terminal; in a log file a line now and then
print(styled("better", "bold", has_color(sys.stdout)))
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

CODES = {"bold": "1", "dim": "2", "green": "1;32", "yellow": "33", "red": "31"}
LINE_SECONDS = 10.0  # between two signs of life in a log file
BAR_DELAY_SECONDS = 1.0  # before a bar is shown
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


def has_color(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether text written to a stream may be coloured: a terminal's may, unless NO_COLOR is set or TERM is dumb."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def styled(text: str, style: str, color: bool) -> str:
    """Text in a style of CODES, or as it is without colour."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if color else text


def printable(text: str) -> str:
    """Text in which control characters, which a terminal would obey, are shown as escapes."""
    return CONTROL_CHARACTER.sub(lambda match: repr(match.group())[1:-1], text)


def time_text(seconds: float) -> str:
    """0:35, 12:04, 1:02:09."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """How far a long part is, on stderr: a bar on a terminal, else a line every LINE_SECONDS and one at its end.

    The first line comes as soon as it is known that the part is a long one.

    shown: False in the processes that print nothing.
    """

    def __init__(self, total: int, what: str, unit: str = "items", *, shown: bool = True):
        self.total, self.what, self.unit, self.shown = total, what, unit, shown
        self.done, self.bar = 0, None

    def __enter__(self):
        self.start = self.last_line = time.monotonic()
        if self.shown and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=self.total, desc=self.what, unit=f" {self.unit}", delay=BAR_DELAY_SECONDS, dynamic_ncols=True
            )
        return self

    def advance(self, num: int = 1) -> None:
        """So many more are done."""
        self.done += num
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(num)
        elif self.done < self.total:
            left = (now - self.start) * (self.total - self.done) / self.done
            if now - self.last_line >= LINE_SECONDS or left >= LINE_SECONDS and self.last_line == self.start:
                self.last_line = now
                self.say(f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {time_text(left)} left")

    def __exit__(self, kind, *_):
        if self.bar is not None:
            self.bar.close()
        elif kind is None and self.total:
            self.say(f"{self.what}: {self.done:,} {self.unit} in {time_text(time.monotonic() - self.start)}")

    def say(self, line: str) -> None:
        """Print a line of the log."""
        if self.shown:
            print(line, file=sys.stderr, flush=True)


@contextmanager
def resumable() -> Iterator[None]:
    """Say at a Ctrl-C that nothing answered so far is lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on from here") from None
