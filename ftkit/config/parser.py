"""Command lines: flags over a YAML file, no abbreviations, unknown names refused with the nearest known one."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ftkit.config.caches import use_writable_caches
from ftkit.config.disk import fault_line, writing
from ftkit.config.errors import LimitError, UserError, did_you_mean
from ftkit.config.flags import check_flags, flag_names, given_values
from ftkit.config.foreign import is_panic
from ftkit.config.launch import is_first_process


def read_yaml_settings(path: str, names: set[str], allowed: str = "see --help for the settings") -> dict:
    """Return the settings of a YAML file; raise UserError with file and line for an unknown or repeated key.

    allowed: where an unknown key is like none, what the error says there is.
    """
    return read_yaml_record(path, names, allowed).asked


def read_yaml_record(path: str, names: set[str], allowed: str = "see --help for the settings"):
    """The settings of a YAML file and, where it is a run's, what was decided, as a RunRecord.

    Raises UserError as `read_yaml_settings` does.
    """
    import yaml

    from ftkit.config.run_folder import RunRecord, as_record

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); give a YAML file in UTF-8") from error
    try:
        root = yaml.compose(text)
        content = yaml.safe_load(text)
    except RecursionError as error:
        raise UserError(f"{path}: too deeply nested; write one setting per line") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise UserError(f"{path}:{line}: not valid YAML ({getattr(error, 'problem', error)}); fix the line") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}:1: expected `key: value` lines; write one setting per line")
    if "schema" in content:
        sections = {key.value: value for key, value in root.value}
        check_keys(sections["asked"].value if "asked" in sections else [], path, names, allowed)
        return as_record(content, path)
    check_keys(root.value, path, names, allowed)
    command = text.split()[2] if text.startswith("# ftkit ") else None  # a run of the first version
    if command:  # it recorded what the machine was, and what it had made of --max_tokens
        content.pop("use_cpu", None)
        if content.get("max_tokens"):
            content.pop("max_steps", None)
    return RunRecord(command, content)


def check_keys(pairs: list, path: str, names: set[str], allowed: str) -> None:
    """Raise UserError for a setting that is unknown or there twice. pairs: nodes of a YAML mapping."""
    seen = set()
    for key, _ in pairs:
        line = key.start_mark.line + 1
        if key.value not in names:
            hint = did_you_mean(key.value, names) or f"; {allowed}"
            raise UserError(f'{path}:{line}: unknown setting "{key.value}"{hint}')
        if key.value in seen:
            raise UserError(f'{path}:{line}: "{key.value}" is set twice; keep one')
        seen.add(key.value)


def split_config(argv: list[str]) -> tuple[str | None, list[str]]:
    """Take `--config FILE` or `--config=FILE` out of `argv`; return the file, or None, and the other arguments."""
    rest, config = [], None
    arguments = iter(argv)
    for token in arguments:
        if token == "--config":
            config = next(arguments, None)
            if config is None or config.startswith("--"):
                raise UserError("--config needs a file; for example --config examples/sft_lora.yaml")
        elif token.startswith("--config="):
            config = token.partition("=")[2]
        else:
            rest.append(token)
    return config, rest


def parse_settings(
    argv: list[str],
    sources: tuple,
    dataclasses: Callable[[], tuple],
    prog: str,
    early_check: Callable[[dict], None] | None = None,
) -> tuple:
    """Parse `argv` into one instance of each dataclass, followed by what the person gave, as RunSettings has it.

    That is the names of all settings given, of those given as flags, and the run that --config names, if it is one.

    sources: where the dataclasses are defined, for a check that needs no import (see `ftkit.config.flags`).
    dataclasses: called after that check; imports and returns the classes.
    early_check: called before that import with the settings as they were written, to refuse what needs no import.
    Raises UserError for every mistake in a flag, a value or the YAML file.
    """
    names = flag_names(sources)
    config, argv = split_config(argv)
    given = check_flags(argv, names)
    record = read_yaml_record(config, names) if config else None
    settings = record.asked if record else {}
    if early_check and not {"-h", "--help"} & set(argv):
        early_check(settings | given_values(argv))
    parser = build_parser(dataclasses(), prog)
    parser.set_defaults_with_config(**settings)
    asked = parser.parse_args_into_dataclasses(args=argv, look_for_args_file=False)
    run = record if record and record.command else None
    return *asked, frozenset(given | settings.keys()), frozenset(given), run


def build_parser(dataclasses: tuple, prog: str):
    """TrlParser without abbreviations, whose optional booleans take a bare `--flag` and `--no_flag` like the others."""
    from trl import TrlParser
    from trl.scripts._hf_argparser import string_to_bool

    class Parser(TrlParser):
        def error(self, message):
            raise UserError(f"{message}; see {self.prog} --help")

    parser = Parser(dataclasses, prog=prog, allow_abbrev=False)
    for action in list(parser._actions):
        if action.type is string_to_bool and action.nargs is None:
            action.nargs, action.const = "?", True
            parser.add_argument(
                f"--no_{action.dest}",
                dest=action.dest,
                action="store_false",
                default=None,
                help=f"Turn {action.dest} off.",
            )
        elif action.dest == "resume_from_checkpoint":
            action.nargs, action.const = "?", "true"
    return parser


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


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show; the help tells what happens without the others."""

    def _get_help_string(self, action):
        hidden = action.default is None or action.default is False or action.default in ([], "")
        return action.help if hidden else super()._get_help_string(action)


class CommandParser(argparse.ArgumentParser):
    """argparse without abbreviations; every mistake is a UserError, an unknown flag with the nearest known one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def parse_args(self, args=None, namespace=None):
        known = {option.removeprefix("--") for action in self._actions for option in action.option_strings}
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].split("=")[0].removeprefix("--")
            raise UserError(f'unknown argument "{unknown[0]}"{did_you_mean(word, known)}; see {self.prog} --help')
        return namespace

    def error(self, message):
        raise UserError(f"{message}; see {self.prog} --help")
