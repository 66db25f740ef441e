"""Calls of tools read out of an answer, whole or as it streams, in the ways that models write them.

    reader = CallReader("hermes", {"add"})
    reader.feed('<tool_call>\\n{"name": "add", "arguments": {"a": 1}}\\n</tool_call>')  # (text to show, calls)
    reader.close()

hermes   <tool_call>{"name": ..., "arguments": {...}}</tool_call>, anywhere (Hermes, Qwen)
llama    the answer is {"name": ..., "parameters": {...}}; several of them with ; between (Llama 3.1)
mistral  [TOOL_CALLS][{"name": ..., "arguments": {...}}], or [TOOL_CALLS]name[ARGS]{...}
What looks like a call, but is no JSON or names no tool that was given, stays text.
"""

import json
import re
import uuid
from collections.abc import Collection, Iterator

from ftkit.data.templates.tools import HERMES, LLAMA, MISTRAL

OPENS, CLOSES = "<tool_call>", "</tool_call>"
MARKED = {HERMES: OPENS, LLAMA: "<|python_tag|>", MISTRAL: "[TOOL_CALLS]"}  # what begins a call
BARE = {HERMES: (), LLAMA: ("{",), MISTRAL: ("[{",)}  # the same where the answer begins: special tokens are not shown
NAMED_ARGS = re.compile(r"\s*([\w.-]{1,64})(?:\[CALL_ID\]\w+)?\[ARGS\]\s*")
BETWEEN = re.compile(r"[\s;,]*")


class CallReader:
    """Splits an answer into text to show and calls. names: of the tools that may be called; one_call: and no more."""

    def __init__(self, style: str, names: Collection[str], *, one_call: bool = False):
        self.style, self.names, self.one_call = style, frozenset(names), one_call
        self.held = ""  # came, and is neither text nor a call yet
        self.is_inside = False  # of a call
        self.has_text = False
        self.num_calls = 0

    @property
    def has_calls(self) -> bool:
        """Whether the answer calls a tool, so that its finish_reason is "tool_calls"."""
        return self.num_calls > 0

    def feed(self, text: str) -> tuple[str, list[dict]]:
        """Take more of the answer; return what can be shown by now, and the calls that are complete."""
        self.held += text
        shown = ""
        calls: list[dict] = []
        while True:
            if not self.is_inside:
                shown += self.text_before_call()
            if not self.is_inside or self.style != HERMES or CLOSES not in self.held:
                return shown, calls
            body, _, self.held = self.held.partition(CLOSES)
            self.is_inside = False
            found = self.read(body)
            shown += "" if found else self.as_text(OPENS + body + CLOSES)
            calls += found or []

    def close(self) -> tuple[str, list[dict]]:
        """The same at the end of the answer: what was held back."""
        held, self.held = self.held, ""
        if self.is_inside and (found := self.read(held)) is not None:
            return "", found
        if self.is_inside and self.style == HERMES:
            held = OPENS + held
        self.is_inside = False
        return self.as_text("" if self.has_calls and held.isspace() else held), []

    def text_before_call(self) -> str:
        """What of the held text can be shown; a call that begins in it is entered."""
        marker = MARKED[self.style]
        start = self.held.find(marker)
        begins = self.held.lstrip()
        if not self.has_text and not self.has_calls and begins.startswith(BARE[self.style]):
            start = len(self.held) - len(begins)
        if start >= 0:
            before, rest = self.held[:start], self.held[start:]
            self.held = rest.removeprefix(marker) if self.style == HERMES else rest
            self.is_inside = True
            return self.as_text(before.rstrip())
        end = len(self.held) - len(self.beginning_of_call())
        shown, self.held = self.held[:end], self.held[end:]
        return self.as_text(shown)

    def beginning_of_call(self) -> str:
        """The end of the held text that may turn out to begin a call: white space, and the first part of a mark."""
        marks = (MARKED[self.style], *BARE[self.style])
        longest = max(len(mark) for mark in marks) - 1
        for length in range(min(longest, len(self.held)), 0, -1):
            if any(mark.startswith(self.held[-length:]) for mark in marks):
                break
        else:
            length = 0
        rest = self.held[: len(self.held) - length]
        return self.held[len(rest.rstrip()) :]

    def as_text(self, text: str) -> str:
        """The text, which is to be shown."""
        self.has_text = self.has_text or bool(text)
        return text

    def read(self, body: str) -> list[dict] | None:
        """The calls of a body; None where it is none, or a part of it names no tool that was given."""
        try:
            found = [call_of(value, self.names) for value in values_of(body, self.style)]
        except (ValueError, RecursionError):
            return None
        if not found or None in found:
            return None
        calls = found[: max(0, 1 - self.num_calls)] if self.one_call else found
        numbered = [
            {
                "index": self.num_calls + number,
                "id": f"call_{uuid.uuid4().hex[:24]}",
                "type": "function",
                "function": call,
            }
            for number, call in enumerate(calls)
        ]
        self.num_calls += len(numbered)
        return numbered


def after_gap(body: str, start: int) -> int:
    """Where what lies between two values ends."""
    gap = BETWEEN.match(body, start)
    return gap.end() if gap else start


def values_of(body: str, style: str) -> Iterator:
    """The JSON values of a call's text. Raises ValueError where there is anything else."""
    body = body.removeprefix(MARKED[style])
    decoder, end = json.JSONDecoder(), after_gap(body, 0)
    while end < len(body):
        named = NAMED_ARGS.match(body, end) if style == MISTRAL else None
        value, end = decoder.raw_decode(body, named.end() if named else end)
        if named:
            yield {"name": named[1], "arguments": value}
        else:
            yield from value if isinstance(value, list) else [value]
        end = after_gap(body, end)


def call_of(value, names: Collection[str]) -> dict | None:
    """{"name", "arguments"} as clients read it, the arguments as JSON; None for what is no call of a tool."""
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in names:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
