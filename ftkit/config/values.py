"""Turns the words of a command line or a YAML file into the values of settings, by the types of the dataclass fields.

read_value(settings["lora_r"], "8") is 8. A field is what it says: `no` is text to a text, and false to a switch.
"""

import json
from typing import Any

from ftkit.config.flags import Setting

TRUE, FALSE = ("true", "yes", "on", "t", "y", "1"), ("false", "no", "off", "f", "n", "0")
NONE = ("none", "null")


def read_value(setting: Setting, text: str) -> Any:
    """The value that one word gives a setting; raises ValueError that says what is expected."""
    types, word = setting.types, text.strip().lower()
    value: Any
    if "None" in types and word in NONE and "str" not in types and not setting.is_list:
        return None
    if any(name.startswith("dict") for name in types) and (text.strip().startswith("{") or "str" not in types):
        return read_mapping(text)
    if "bool" in types and (value := read_switch(word)) is not None:
        return value
    for name, read in (("int", whole_number), ("float", number)):
        if name in types and (value := read(word)) is not None:
            return value
    if not {"str", "int", "float", "bool"} & set(types) and not setting.is_list and not setting.choices:
        raise ValueError("it can't be set from a command line or a file")
    if "list[float]" in types or "list[int]" in types:
        value = (number if "list[float]" in types else whole_number)(word)
    elif "str" in types or setting.is_list:
        value = text
    else:
        value = None
    if value is None:
        raise ValueError(expected(setting))
    if setting.choices and text not in setting.choices:
        raise ValueError(expected(setting))
    return value


def read_values(setting: Setting, texts: list[str]) -> Any:
    """The value that several words give a setting; one word of a text-or-list is a text."""
    values = [read_value(setting, text) for text in texts]
    return values[0] if not setting.is_list or ("str" in setting.types and len(values) == 1) else values


def read_switch(word: str) -> bool | None:
    """True or False; None where a word is neither."""
    return True if word in TRUE else False if word in FALSE else None


def whole_number(word: str) -> int | None:
    """The integer that a word is, 8.0 and 1e3 as well; None where it is none."""
    value = number(word)
    try:
        return int(word)
    except ValueError:
        return int(value) if value is not None and value.is_integer() else None


def number(word: str) -> float | None:
    """The number that a word is; None where it is none."""
    try:
        return float(word)
    except ValueError:
        return None


def read_mapping(text: str) -> dict:
    """The JSON object that a word holds; raises ValueError."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("give a JSON object in quotes, such as '{\"key\": 1}'")
    return value


def expected(setting: Setting) -> str:
    """What a setting takes."""
    if setting.choices:
        return f"give one of {', '.join(setting.choices)}"
    kinds = {
        "bool": "true or false", "int": "a whole number", "float": "a number", "list[float]": "numbers",
        "list[int]": "whole numbers",
    }  # fmt: skip
    return f"give {' or '.join(text for name, text in kinds.items() if name in setting.types) or 'a text'}"
