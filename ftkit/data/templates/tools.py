"""Tools in a conversation: whether a template has a place for them, and their texts neutralised like all others.

    place = tool_place(tokenizer)                                   # None: the template never shows a tool
    ids = tool_prompt_ids(messages, tokenizer, info, tools=tools)

The places are found by rendering a tool, a call and a result that no conversation holds.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.templates.forgery import break_strings
from ftkit.data.templates.rendering import own_template, render
from ftkit.data.templates.role_markers import MARKUP
from ftkit.data.templates.templates import TemplateInfo, forbidden_strings, prepare_messages

HERMES, LLAMA, MISTRAL = "hermes", "llama", "mistral"  # ways to write a call
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NAMED, PURPOSE, KEY, RESULT = "sentinelTool", "Sentinel purpose.", "sentinelKey", "sentinelResult"
CALL_ID = "sentinel1"  # nine letters and digits, as Mistral's templates demand
PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": NAMED,
        "description": PURPOSE,
        "parameters": {"type": "object", "properties": {KEY: {"type": "string"}}, "required": [KEY]},
    },
}
PROBE_QUESTION = {"role": "user", "content": "A question?"}
PROBE_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": CALL_ID, "type": "function", "function": {"name": NAMED, "arguments": {KEY: "value"}}}],
}
PROBE_RESULT = {"role": "tool", "tool_call_id": CALL_ID, "name": NAMED, "content": RESULT}


class ToolPlace(NamedTuple):
    """How a template shows tools. style: of a call. takes_turns: whether it shows calls and their results as well.

    marks: markup around tools, calls and results, which no text may hold.
    """

    style: str
    takes_turns: bool
    marks: tuple[str, ...]


def tool_place(tokenizer: PreTrainedTokenizerBase) -> ToolPlace | None:
    """The place of tools in the tokenizer's template; None where it has none, or none whose calls can be read back."""
    return _tool_place(tokenizer, own_template(tokenizer))


@lru_cache(maxsize=16)
def _tool_place(tokenizer: PreTrainedTokenizerBase, template: str) -> ToolPlace | None:
    """As `tool_place`, once for each template."""
    asked = probe([PROBE_QUESTION], tokenizer, template)
    if NAMED not in asked or PURPOSE not in asked:
        return None
    turns = probe([PROBE_QUESTION, PROBE_CALL, PROBE_RESULT], tokenizer, template)
    takes_turns = RESULT in turns and turns.count(NAMED) > asked.count(NAMED)
    style = call_style(asked + turns)
    return ToolPlace(style, takes_turns, tuple(dict.fromkeys(MARKUP.findall(asked + turns)))) if style else None


def probe(messages: list[dict], tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """A conversation with the probe's tool as text; empty where the template refuses it."""
    try:
        return render(messages, tokenizer, True, template, {"tools": [PROBE_TOOL]})
    except UserError:
        return ""


def call_style(text: str) -> str | None:
    """How calls are written in a text that shows one, or how one is to be written."""
    if re.search(r'<tool_call>\s*\{"name"', text):  # others have a tag for each argument
        return HERMES
    if "[TOOL_CALLS]" in text or "[AVAILABLE_TOOLS]" in text:
        return MISTRAL
    return LLAMA if re.search(r'"name": .{1,40}"parameters": ', text) else None


def tool_prompt_ids(
    messages: Sequence[Mapping], tokenizer: PreTrainedTokenizerBase, info: TemplateInfo, *,
    tools: Sequence[Mapping] = (), settings: Mapping | None = None, add_generation_prompt: bool = True,
) -> list[int]:  # fmt: skip
    """Token ids of a conversation up to where its answer starts, with tools, calls and results; all neutralised.

    settings: further variables of the template. Raises UserError for tools, or turns of them, without a place.
    """
    has_turns = any(is_tool_turn(message) for message in messages)
    place = tool_place(tokenizer) if tools or has_turns else None  # without them it is rendered as in training
    if tools and place is None:
        raise UserError(f"the template {info.name} has no place for tools; leave them out, or ask another model")
    if has_turns and not (place and place.takes_turns):
        raise UserError(f"the template {info.name} has no place for tool calls and their results; send them as text")
    known = forbidden_strings(info, "user")
    marks = tuple(mark for mark in place.marks if mark not in known) if place else ()
    prepared = [prepare_turn(message, info, marks) for message in messages]
    prepared, _ = prepare_messages(prepared, tokenizer, info)
    clean = cleaner(info, "user", marks)
    given = {name: in_all_texts(value, clean) for name, value in (settings or {}).items()}
    if tools:
        given["tools"] = [in_all_texts(tool, clean) for tool in tools]
    text = render(prepared, tokenizer, add_generation_prompt, settings=given)
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def is_tool_turn(message: Mapping) -> bool:
    """Whether a turn calls a tool, or gives its result."""
    return message["role"] == "tool" or bool(message.get("tool_calls"))


def prepare_turn(message: Mapping, info: TemplateInfo, marks: tuple[str, ...]) -> dict:
    """A turn whose content is text and holds no markup of tools, with its calls and names neutralised."""
    clean = cleaner(info, message["role"], marks)
    named = {name: clean(message[name]) for name in ("name", "tool_call_id") if name in message}
    turn = {**message, **named, "content": break_strings(message.get("content") or "", marks)[0]}
    if message.get("tool_calls"):
        turn["tool_calls"] = [prepare_call(call, clean) for call in message["tool_calls"]]
    return turn


def prepare_call(call: Mapping, clean: Callable[[str], str]) -> dict:
    """A call as templates take it: its arguments an object, no text of JSON."""
    function = call.get("function") or {}
    arguments = function.get("arguments") or "{}"
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise UserError(
                "tool_calls: the arguments of a call are not JSON; send them as they were received"
            ) from error
    if not isinstance(arguments, dict):
        raise UserError("tool_calls: the arguments of a call are no JSON object; send them as they were received")
    named = check_name(function.get("name"))
    call_id = clean(str(call.get("id") or ""))
    return {"id": call_id, "type": "function", "function": {"name": named, "arguments": in_all_texts(arguments, clean)}}


def check_name(name: Any) -> str:
    """The name of a function; UserError for what is none."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError("tools: the name of a function has 1 to 64 letters, digits, _, . or -; rename it")
    return name


def cleaner(info: TemplateInfo, role: str, marks: tuple[str, ...]) -> Callable[[str], str]:
    """What neutralises a text of a turn of this role."""
    strings = (*forbidden_strings(info, role), *marks)
    return lambda text: break_strings(text, strings, info.headings)[0]


def in_all_texts(value: Any, change: Callable[[str], str]) -> Any:
    """JSON with each text in it changed, the keys as well."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(key)): in_all_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_all_texts(item, change) for item in value]
    return value
