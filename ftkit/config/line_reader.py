"""Lines that a person types at a terminal, edited and completed, with those of before; or lines of a file as they are.

    reader = LineReader(sys.stdin, candidates=lambda line: ["/help", "/bye"], history=Path("history.jsonl"))
    while (text := reader.read("> ")) is not None: ...

A paste of several lines is one text. The standard library's readline does it all where it is GNU's; where it is libedit
(macOS), lines that are there at once belong together.
"""

import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ftkit.config.jsonl import json_line, read_jsonl

MAX_HISTORY = 1000  # lines
PASTE_SECONDS = 0.02  # between two lines of a paste


class LineReader:
    """Reads the lines of a stream.

    candidates: what the last word of a line may become. history: a file of earlier lines. is_person: whether the stream
    is a terminal.
    """

    def __init__(self, lines: TextIO, *, candidates: Callable[[str], Sequence[str]], history: Path | None = None):
        self.lines, self.candidates, self.history = lines, candidates, history
        self.is_person = lines.isatty()
        self.readline: Any = editor(lines) if self.is_person else None
        self.has_paste = self.readline is not None and "libedit" not in (self.readline.__doc__ or "")
        if self.readline:
            self.set_up(self.readline)

    def set_up(self, readline) -> None:
        """Prepare editing, completion and history."""
        readline.set_auto_history(False)
        readline.clear_history()
        readline.set_completer_delims(" \t\n")
        readline.set_completer(self.completed)
        readline.parse_and_bind("tab: complete" if self.has_paste else "bind ^I rl_complete")
        if self.has_paste:
            readline.parse_and_bind("set enable-bracketed-paste on")
        for text in self.earlier():
            readline.add_history(text)

    def read(self, prompt: str) -> str | None:
        """The next text without the space around it; None at the end. Raises KeyboardInterrupt at Ctrl-C."""
        try:
            text = self.read_line(prompt)
        except EOFError:
            text = None
        if text is None:
            if self.is_person:
                print(file=sys.stderr)  # the shell's prompt begins a line
            return None
        while self.is_person and not self.has_paste and has_more(self.lines):
            more = self.read_line("")
            if more is None:
                break
            text += more if text.endswith("\n") else f"\n{more}"
        text = text.strip()
        if text and self.readline:
            self.remember(text)
        return text

    def read_line(self, prompt: str) -> str | None:
        """A line as it was typed."""
        if self.readline:
            return input(prompt)
        if self.is_person and prompt:
            print(prompt, end="", file=sys.stderr, flush=True)
        return self.lines.readline() or None

    def completed(self, text: str, number: int) -> str | None:
        """The candidate with this number, as readline asks for it."""
        line = self.readline.get_line_buffer()[: self.readline.get_endidx()]
        found = [one for one in self.candidates(line) if one.startswith(text)]
        return found[number] if number < len(found) else None

    def earlier(self) -> list[str]:
        """Texts of the history, the latest last."""
        if self.history is None:
            return []
        try:
            found = read_jsonl(self.history, lambda record: str(record["text"]), report=lambda mistake: None)
        except OSError:
            return []
        return found[-MAX_HISTORY:]

    def remember(self, text: str) -> None:
        """Add a text to the history, which only its owner can read; where it can't be written, it is kept in memory."""
        self.readline.add_history(text)
        if self.history is None:
            return
        with suppress(OSError, ValueError):
            self.history.parent.mkdir(parents=True, exist_ok=True)
            texts = self.earlier()
            is_full = len(texts) == MAX_HISTORY
            kept = [*texts[1:], text] if is_full else [text]
            how = os.O_TRUNC if is_full else os.O_APPEND
            with open(os.open(self.history, os.O_WRONLY | os.O_CREAT | how, 0o600), "w", encoding="utf-8") as file:
                file.writelines(json_line({"text": one}) for one in kept)


def editor(lines: TextIO):
    """The module that edits lines, None where there is none or `input` doesn't use it."""
    if lines is not sys.stdin or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        import readline
    except ImportError:  # on Windows the console edits lines itself
        return None
    return readline


def has_more(lines: TextIO) -> bool:
    """Whether a further line of a paste is there."""
    return os.name != "nt" and bool(select.select([lines], [], [], PASTE_SECONDS)[0])
