"""Reads the flags of a training command into values, with the settings' types; needs no import of TRL.

read_command_line(["--lora_r", "8", "--no_packing"], settings) is {"lora_r": 8, "packing": False}.
"""

from typing import Any

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.flags import Setting, flag_name, is_flag
from ftkit.config.naming import kind_of
from ftkit.config.paste import quoted
from ftkit.config.values import expected, read_switch, read_values

DASHES = "\u2012\u2013\u2014\u2015\u2212"  # what word processors make of "--"
BARE = {"resume_from_checkpoint": "true"}  # what a flag without a value means, of those that are no switches


def split_config(argv: list[str]) -> tuple[str | None, list[str]]:
    """Take `--config FILE` or `--config=FILE` out of `argv`; return the file, or None, and the other arguments."""
    rest: list[str] = []
    config: str | None = None
    arguments = iter(argv)
    for token in arguments:
        if token == "--config":
            before, config = config, next(arguments, None)
            if before:
                raise UserError(f"--config is given twice, {before} and {config}; keep one")
            if config is None or config.startswith("--"):
                raise UserError("--config needs a file; for example --config examples/sft_lora.yaml")
        elif token.startswith("--config="):
            config = token.partition("=")[2]
        else:
            rest.append(token)
    return config, rest


def read_command_line(argv: list[str], settings: dict[str, Setting]) -> dict[str, Any]:
    """The value of each setting that `argv` gives; where one is given twice, the last.

    Raises UserError for an unknown flag, a word that belongs to none, and a value of the wrong type or missing.
    """
    values: dict[str, Any] = {}
    position = 0
    while position < len(argv):
        token, position = argv[position], position + 1
        if not is_flag(token):
            raise UserError(stray(token, argv[: position - 1], settings))
        setting = settings[flag_name(token, settings)]
        words = [token.partition("=")[2]] if "=" in token else []
        while not words or setting.is_list and "=" not in token:
            if position == len(argv) or is_flag(argv[position]):
                break
            if setting.is_switch and read_switch(argv[position].lower()) is None:
                break
            words.append(argv[position])
            position += 1
        values[setting.name] = flag_value(token, setting, words)
    return values


def flag_value(token: str, setting: Setting, words: list[str]) -> Any:
    """The value that a flag with these words gives a setting."""
    flag = token.partition("=")[0]
    if flag_word(flag) != setting.name and flag_word(flag) == f"no_{setting.name}":
        if not setting.is_switch:
            raise UserError(
                f"{flag}: {setting.name} is not a switch; give --{setting.name} with a value, or leave it out"
            )
        if words:
            raise UserError(f"{flag} takes no value; give --{setting.name} {words[0]}")
        return False
    if not words:
        if setting.is_switch:
            return True
        if setting.name in BARE:
            return BARE[setting.name]
        raise UserError(f"{flag} needs a value; {expected(setting)}")
    try:
        return read_values(setting, words)
    except ValueError as error:
        hint = did_you_mean(words[0], setting.choices)
        raise UserError(f"{flag} is {' '.join(map(quoted, words))}{hint}; {error}") from error


def flag_word(flag: str) -> str:
    """The name in a flag, with underscores."""
    return flag.lstrip("-").replace("-", "_")


def stray(word: str, before: list[str], settings: dict[str, Setting]) -> str:
    """What is said of a word that belongs to no flag."""
    name, equals, value = word.partition("=")
    if word.startswith(tuple(DASHES)):
        return f"{word} begins with a dash of typography; type two hyphens: --{word.lstrip(DASHES)}"
    if equals and flag_word(name) in settings:
        return f"{quoted(word)} stands alone; give --{flag_word(name)} {quoted(value)}"
    if not before:
        flags = {"model": "--model", "weights": "--model", "adapter": "--adapter", "settings": "--config"}
        return f"{quoted(word)} stands alone; give {flags.get(kind_of(word) or '', '--dataset_name')} {quoted(word)}"
    flag = next((token for token in reversed(before) if is_flag(token)), None)
    value = before[-1]
    if flag is None or flag == value:
        named = f" {flag} takes no value but true or false;" if flag else ""
        return f"{quoted(word)} stands alone;{named} give its flag in front of it; see --help"
    return f"{quoted(word)} stands alone after {flag} {value}; if it belongs there: {flag} {quoted(f'{value} {word}')}"
