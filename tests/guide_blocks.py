"""The code blocks of a Markdown page, run in order in one folder, and what they print held against what the page shows.

    ```bash          runs: each command must end with exit code 0
    ```bash refused  runs: each `ftkit` in it must end with exit code 2
    ```bash parse    needs a GPU, Ollama, the Hub or the network: its commands are only parsed
    ```python        runs
    ```text          directly after a block: what it printed; a line "..." stands for any number of lines

`ftkit` runs within this process, everything else in a shell. Numbers with a decimal point, times and speeds may differ
from what is shown; all else may not.  python tests/guide_blocks.py PAGE.md ... writes what the blocks print now: the
lines that a page leaves out stay left out where the first lines and the last ones around them are still found.
"""

import contextlib
import io
import logging
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

FENCE = re.compile(r"^```(bash|python|text)([^\n]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
GAP = "..."
VARYING = re.compile(
    r"\d[\d,]*\.\d+(e-?\d+)?|\d+e-\d+|\d[\d,]*(?= ?(%|s|ms|min|minutes?|seconds?|h|tokens/s|rows/s|MB|MiB|GiB|kB)\b)"
    r"|\d{4}-\d\d-\d\d( \d\d:\d\d)?|\d+:\d\d(:\d\d)?(?!\d)"
)


@dataclass(frozen=True)
class Block:
    """A block that runs, its line in the page, and the lines that the page shows of its output (None: shows none)."""

    language: str
    mark: str
    code: str
    line: int
    shown: tuple[str, ...] | None = None


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page in order, each with the ```text block that follows it."""
    found, end = [], 0
    for match in FENCE.finditer(text):
        language, mark, code = match[1], match[2].strip(), match[3]
        if language == "text":
            if found and not text[end : match.start()].strip():
                found[-1] = replace(found[-1], shown=tuple(code.splitlines()))
        else:
            found.append(Block(language, mark, code, text.count("\n", 0, match.start()) + 1))
        end = match.end()
    return found


def commands_of(code: str) -> list[str]:
    """The commands of a shell block: lines, with continuations joined and here-documents kept whole."""
    commands, lines = [], iter(code.splitlines())
    for line in lines:
        while line.endswith("\\"):
            line = line[:-1].rstrip() + " " + next(lines).strip()
        if marker := re.search(r"<<-?\s*'?(\w+)'?", line):
            for body in lines:
                line += "\n" + body
                if body.strip() == marker[1]:
                    break
        if line.strip() and not line.startswith("#"):
            commands.append(line)
    return commands


def argv_of(command: str) -> list[str] | None:
    """The arguments of `ftkit` where a command is a plain call of it, also through accelerate; None for the shell's."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError:
        return None
    if set(words) & {"|", ">", ">>", "<", "&&", "||", "2>"} or "$(" in command:
        return None
    if words[:2] == ["accelerate", "launch"] and len(words) > 2 and words[2].startswith("ftkit/"):
        return [Path(words[2]).stem, *words[3:]]
    return words[1:] if words[:1] == ["ftkit"] else None


def run_command(command: str) -> tuple[int, str]:
    """Run one command in the working folder; return its exit code and all that it printed."""
    from ftkit.cli import dispatch
    from ftkit.config.parser import run

    argv = argv_of(command)
    if argv is None:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr
    printed = io.StringIO()
    warnings = logging.StreamHandler(printed)  # as Python prints them where no handler is set up
    warnings.setLevel(logging.WARNING)
    logging.getLogger().addHandler(warnings)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = run(dispatch, argv)
    finally:
        logging.getLogger().removeHandler(warnings)
    return code, printed.getvalue()


def run_block(block: Block) -> str:
    """Run a block in the working folder; return what it printed. Raises AssertionError where an exit code is another."""
    if block.language == "python":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.code, f"line {block.line}", "exec"), {"__name__": "__main__"})
        return printed.getvalue()
    printed = ""
    for command in commands_of(block.code):
        code, text = run_command(command)
        wanted = 2 if block.mark == "refused" and command.startswith("ftkit ") else 0
        assert code == wanted, f"line {block.line}: {command}\nended with exit code {code}:\n{text}"
        printed += text
    return printed


def normal(line: str) -> str:
    """A line without what differs from machine to machine."""
    return re.sub(r"\s+", " ", VARYING.sub("#", line)).strip()


def missing_line(shown: tuple[str, ...], printed: str) -> str | None:
    """The first shown line that was not printed in its place, or None. Lines follow each other unless "..." is between."""
    lines, at, may_skip = [normal(line) for line in printed.splitlines()], 0, False
    for line in shown:
        if line.strip() == GAP:
            may_skip = True
            continue
        found = next((index for index in range(at, len(lines)) if lines[index] == normal(line)), None)
        if found is None or found != at and not may_skip:
            return line
        at, may_skip = found + 1, False
    return None if may_skip or not any(lines[at:]) else "(the page shows less than was printed; end it with ...)"


def rewritten(shown: tuple[str, ...], printed: str) -> list[str]:
    """What a page shows, with the lines printed now; all of them where those around a "..." are not found."""
    if GAP not in [line.strip() for line in shown] or missing_line(shown, printed) not in (None, shown[0]):
        return printed.rstrip("\n").splitlines()
    lines, kept, at = printed.splitlines(), [], 0
    for line in shown:
        if line.strip() == GAP:
            kept.append(GAP)
            continue
        at = next((index for index in range(at, len(lines)) if normal(lines[index]) == normal(line)), None)
        if at is None:
            return printed.rstrip("\n").splitlines()
        kept.append(lines[at])
        at += 1
    return kept


def write_page(path: Path) -> None:
    """Run a page's blocks in a temporary folder, and write what they print into it."""
    text = path.read_text(encoding="utf-8")
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in blocks_of(text):
                if block.mark == "parse":
                    continue
                printed = run_block(block)
                if block.shown is not None:
                    old = f"{block.code}```\n\n```text\n" + "".join(f"{line}\n" for line in block.shown)
                    new = f"{block.code}```\n\n```text\n" + "".join(
                        f"{line.rstrip()}\n" for line in rewritten(block.shown, printed)
                    )
                    assert old in text, f"line {block.line}: one empty line goes between a block and what it printed"
                    text = text.replace(old, new, 1)
        finally:
            os.chdir(home)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_page(Path(name).resolve())
