"""`ftkit` lists its commands, hands over, and names the nearest for a mistyped one."""

import importlib

import pytest

from ftkit import __version__
from ftkit.cli import COMMANDS, dispatch
from ftkit.config.errors import UserError


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"], ["help", "help"]])
def test_help_lists_every_command_once_in_its_group(argv, capsys):
    dispatch(argv)
    printed = capsys.readouterr().out
    assert all(printed.count(f"  ftkit {name} ") == 1 for name in COMMANDS), "name a new command in GROUPS"


def test_version_is_the_packages(capsys):
    dispatch(["--version"])
    assert capsys.readouterr().out == f"ftkit {__version__}\n"


def test_a_mistyped_command_names_the_nearest():
    with pytest.raises(UserError, match='unknown command "generat"; did you mean "generate"'):
        dispatch(["generat"])


@pytest.mark.parametrize("module", [module for module, _ in COMMANDS.values()])
def test_every_command_has_a_main(module):
    assert callable(importlib.import_module(module).main)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        dispatch([name, "--help"])
    assert end.value.code == 0
    assert "usage: ftkit" in capsys.readouterr().out
