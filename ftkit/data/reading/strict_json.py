"""JSON decoded strictly: duplicate keys, NaN and half characters are mistakes, and each is named.

decoder = StrictDecoder()
value, end = decoder.raw_decode('{"a": 1}', 0)
"""

import json
import re

SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
LITERALS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
TYPE_NAMES = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}


class StrictDecoder:
    """json's decoder, which notes what JSON does not allow and reads on. flaws: of the value read last."""

    def __init__(self):
        self.flaws: list[str] = []
        self.decoder = json.JSONDecoder(object_pairs_hook=self.make_object, parse_constant=self.note_constant)

    def make_object(self, pairs: list[tuple]) -> dict:
        """The object of these pairs; a repeated key is noted."""
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            self.flaws.append(f'key "{twice}" appears twice; keep one')
        return values

    def note_constant(self, name: str) -> None:
        """Note NaN or an infinity, which json's decoder takes."""
        self.flaws.append(f"{name} is not JSON; write a number, null or a string")

    def raw_decode(self, text: str, start: int) -> tuple:
        """The value that begins at `start`, and the position after it.

        Raises json.JSONDecodeError, RecursionError for deep nesting, ValueError for a number of thousands of digits.
        """
        self.flaws.clear()
        return self.decoder.raw_decode(text, start)

    def flaw_of(self, value, text: str) -> str | None:
        """Why the value that was read last from `text` can't be a row, or None."""
        if not isinstance(value, dict):
            name = TYPE_NAMES.get(type(value), "a number")
            return f'expected an object, got {name}; write {{"column": value, ...}}'
        if self.flaws:
            return self.flaws[0]
        if SURROGATE_ESCAPE.search(text):
            try:
                json.dumps(value, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:
                return "half of a surrogate pair, such as \\ud83d; write the whole character"
        return None


def is_cut_off(error: json.JSONDecodeError, text: str) -> bool:
    """Whether decoding failed because `text` ends in the middle of a value."""
    rest = text[error.pos :]
    half_literal = any(literal.startswith(rest) for literal in LITERALS)
    half_escape = error.msg.startswith("Invalid \\u") and len(rest) < len("\\u0000")
    return half_literal or half_escape or error.msg.startswith("Unterminated string")


def explain(error: ValueError) -> tuple[int, str]:
    """(position, reason) of a decoding error, alike on every Python; numbers that are too long have no place."""
    if not isinstance(error, json.JSONDecodeError):
        return 0, "a number of too many digits"
    sign = error.doc[error.pos : error.pos + 1]
    if sign == "\0":
        return error.pos, "NUL character"
    before = error.doc[: error.pos].rstrip()
    if sign in ("}", "]") and before.endswith(","):
        return len(before) - 1, f"a comma before the {sign}"
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13
        return error.pos, f"a comma before the {error.doc[error.pos + 1 :].lstrip()[:1]}"
    return error.pos, error.msg.removesuffix(" at").removesuffix(" starting")
