"""Printed commands can be pasted: their words are quoted, and a shell gives back what was meant."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import ftkit
from ftkit.cli import COMMANDS
from ftkit.config.paste import command, quoted

SOURCES = sorted(Path(ftkit.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", ["runs/first", "my runs/first", "runs/lr=1e-4", "it's", "a,b", "$HOME", "ä b"])
def test_a_shell_gives_back_the_words(path):
    assert shlex.split(command("chat", "--adapter", path)) == ["ftkit", "chat", "--adapter", path]
    assert shlex.split(quoted(path)) == [path]


def test_plain_words_are_left_as_they_are():
    assert command("chat", "--adapter", "runs/first") == "ftkit chat --adapter runs/first"


def unquoted(path: Path) -> list[str]:
    """The values that a text puts into a command without quotes."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            text = ""
            for part in node.values:
                if isinstance(part, ast.Constant):
                    text += part.value
                    continue
                value = ast.unparse(part.value)
                is_quoted = re.match(r"(quoted|command)\(|' '\.join\(map\(quoted", value)
                is_named = re.search(rf"\bftkit ({'|'.join(COMMANDS)}) (?:[^`;:()\n]* )?$", text)
                if is_named and not is_quoted and value not in ("action", "'|'.join(ACTIONS)"):
                    found.append(f"{path.name}:{node.lineno}: {text[-60:]}{{{value}}}")
                text += "X"
    return found


def test_no_command_is_printed_with_unquoted_values():
    assert not [line for path in SOURCES for line in unquoted(path)]
