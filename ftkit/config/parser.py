"""Command lines: flags over a YAML file, no abbreviations, unknown names refused with the nearest known one."""

import argparse
import copy
import logging
import os
import re
import sys
from collections.abc import Callable, Collection
from typing import Any

from ftkit.config.caches import use_writable_caches
from ftkit.config.command_line import flag_word, read_command_line, split_config
from ftkit.config.disk import fault_line, writing
from ftkit.config.errors import LimitError, UserError, did_you_mean
from ftkit.config.flags import is_flag, read_settings
from ftkit.config.foreign import is_panic
from ftkit.config.help_pages import WIDTH, example_lines, help_word, trainer_page
from ftkit.config.launch import is_first_process
from ftkit.config.paste import quoted
from ftkit.config.settings.ranges import check_ranges
from ftkit.config.words import right_flag
from ftkit.config.yaml_file import read_yaml_record

MODEL_FLAGS = ("--model", "--model_name_or_path")


def parse_settings(
    argv: list[str],
    sources: tuple,
    dataclasses: Callable[[], tuple],
    prog: str,
    about: str = "",
    early_check: Callable[[dict], None] | None = None,
) -> tuple:
    """Parse `argv` into one instance of each dataclass, followed by what the person gave, as RunSettings has it.

    That is the names of all settings given, of those given as flags, and the run that --config names, if it is one.

    sources: where the dataclasses are defined, for a check that needs no import (see `ftkit.config.flags`).
    dataclasses: called after that check; imports and returns the classes.
    about: the text of the entry script, for --help.
    early_check: called before that import with the settings as they were given, to refuse what needs no import.
    Raises UserError for every mistake in a flag, a value or the YAML file; SystemExit after --help.
    """
    settings = read_settings(sources)
    if (asked_for := help_word(argv)) is not None:
        print(trainer_page(prog, about, settings, asked_for))
        raise SystemExit(0)
    config, argv = split_config(argv)
    given = read_command_line(argv, settings)
    record = read_yaml_record(config, settings) if config else None
    values = (record.asked if record else {}) | given
    check_ranges(values)
    if early_check:
        early_check(values)
    run = record if record and record.command else None
    return *build(dataclasses(), values), frozenset(values), frozenset(given), run


def build(classes: tuple, values: dict[str, Any]) -> list:
    """An instance of each dataclass, with those of `values` that are its fields."""
    import dataclasses

    names = [{item.name for item in dataclasses.fields(cls)} for cls in classes]
    return [
        cls(**{name: copy.deepcopy(value) for name, value in values.items() if name in known})
        for cls, known in zip(classes, names, strict=True)
    ]


def run(main: Callable[[list[str]], None], argv: list[str] | None = None) -> int:
    """Run a command; return its exit code: 0, or 2 with one line on stderr for a person's mistake or a disk's fault."""
    if (line := use_writable_caches(os.environ)) and is_first_process():
        print(line, file=sys.stderr)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at import of a kernel that is optional
    try:
        main(sys.argv[1:] if argv is None else argv)
        with writing("standard output"):
            sys.stdout.flush()
    except (UserError, LimitError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"\n{str(interrupt) or 'interrupted'}", file=sys.stderr)  # the terminal has shown ^C, or a bar
        return 130
    except BrokenPipeError:  # `ftkit ... | head` closed our output
        sys.stderr.close()
        return 141
    except BaseException as error:  # of the disk, or of a library in Rust; all others are ours, with a traceback
        line = f"a library broke down on what it was given ({error})" if is_panic(error) else fault_line(error)
        if line is None:
            raise
        print(line, file=sys.stderr)
        drop_output()
        return 2
    return 0


def drop_output() -> None:
    """Throw away what standard output can't take, as on a full disk: Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def action_of(argv: list[str], command: str, actions: Collection[str], about: str | None) -> tuple[str, list[str]]:
    """The action that a command line of `ftkit COMMAND` names first, and the rest. about: the text of its module.

    Raises UserError for none or an unknown one; SystemExit after --help.
    """
    action, rest = (argv[0], argv[1:]) if argv else ("", [])
    if action in ("-h", "--help"):
        print(f"usage: ftkit {command} {'|'.join(actions)} ...\n\n{(about or '').strip()}\n")
        print(f"ftkit {command} ACTION --help shows the settings of an action.")
        raise SystemExit(0)  # as argparse ends a command after its help
    if action not in actions:
        came = f'unknown action "{action}"{did_you_mean(action, actions)}' if action else "an action is missing"
        raise UserError(f"{came}; give one of: {', '.join(actions)}; see ftkit {command} --help")
    return action, rest


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show, names and value of a flag once, and examples as they stand."""

    def __init__(self, prog):
        super().__init__(prog, max_help_position=30, width=WIDTH)

    def _get_help_string(self, action):
        hidden = action.default is None or action.default is False or action.default in ([], "")
        return action.help if hidden else super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action):
        ends = {"_dir": "FOLDER", "_file": "FILE"}
        by_name = next((sign for end, sign in ends.items() if action.dest.endswith(end)), "TEXT")
        return {int: "N", float: "X"}.get(action.type, by_name)

    def _format_action_invocation(self, action):
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"

    def _fill_text(self, text, width, indent):
        return "\n".join(text.split("\n")) if "\n" in text else super()._fill_text(text, width, indent)


class Described(Exception):
    """Raised in place of parsing, for what looks at the flags of a command: completion, and tests."""

    def __init__(self, parser: "CommandParser"):
        self.parser = parser


class CommandParser(argparse.ArgumentParser):
    """argparse without abbreviations; every mistake is a UserError, an unknown flag with the nearest known one.

    Dashes and underscores are the same, --model and --model_name_or_path are one flag, `--help WORD` shows the flags
    about a word. examples: the text of the command's module, whose commands --help shows.
    """

    def __init__(self, *args, examples: str | None = None, **kwargs):
        kwargs["description"] = "\n".join([kwargs.get("description") or "", *example_lines(examples or "")])
        super().__init__(*args, **(kwargs | {"allow_abbrev": False, "formatter_class": HelpFormatter}))

    def add_argument(self, *names, **settings):
        """As argparse's; the model's flag has two names."""
        if names[0] in MODEL_FLAGS:
            settings = {"dest": names[0][2:], "metavar": "M"} | settings
            names = MODEL_FLAGS
        return super().add_argument(*names, **settings)

    def parse_args(self, args=None, namespace=None):
        args = [self.known(token) for token in (sys.argv[1:] if args is None else args)]
        if "--describe" in args:
            raise Described(self)
        args = self.with_model_in_place(args)
        if word := help_word(args):
            print(self.help_about(word))
            raise SystemExit(0)
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0]
            hint = right_flag(flag_word(word), self.names()) if is_flag(word) else ""
            raise UserError(f"unknown argument {quoted(word)}{hint or f'; see {self.prog} --help'}")
        return namespace

    def format_help(self):
        """As argparse's, with a usage of one line."""
        signs = self._get_formatter()
        needed = [
            f"--{action.dest} {signs._format_args(action, signs._get_default_metavar_for_optional(action))}"
            for action in self._actions
            if action.option_strings and action.required
        ]
        words = [signs._format_args(action, action.dest) for action in self._get_positional_actions()]
        self.usage = " ".join([self.prog, *words, *needed, "[--FLAG VALUE ...]"])
        return super().format_help()

    def names(self) -> set[str]:
        """The flags, without their dashes."""
        return {option.lstrip("-") for action in self._actions for option in action.option_strings}

    def known(self, token: str) -> str:
        """A flag with underscores where it is known so; any other word as it is."""
        flag, equals, value = token.partition("=")
        name = flag_word(flag)
        return f"--{name}{equals}{value}" if token.startswith("--") and name in self.names() else token

    def with_model_in_place(self, args: list[str]) -> list[str]:
        """The arguments, where the model has no flag but a place of its own, without a flag in front of it."""
        if not any(action.dest == "model" for action in self._get_positional_actions()):
            return args
        words = [token.partition("=") for token in args]
        return [
            value if flag in MODEL_FLAGS else token
            for token, (flag, equals, value) in zip(args, words, strict=True)
            if flag not in MODEL_FLAGS or equals
        ]

    def help_about(self, word: str) -> str:
        """The whole help for "all"; the flags whose name or text holds any other word."""
        if word == "all":
            return self.format_help()
        typed = flag_word(word.lower())
        meant = re.findall(r"--(\w+)", right_flag(typed, self.names()))
        formatter = self._get_formatter()
        found = [
            action
            for action in self._actions
            if set(meant) & {option.lstrip("-") for option in action.option_strings}
            or typed in f"{action.dest} {action.help}".lower()
        ]
        if not found:
            raise UserError(f'no flag of {self.prog} is about "{word}"; see {self.prog} --help')
        formatter.add_arguments(found)
        return formatter.format_help().rstrip()

    def error(self, message):
        raise UserError(f"{message}; see {self.prog} --help")
