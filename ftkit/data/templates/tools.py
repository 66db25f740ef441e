"""The place of tools in a template: whether it shows tools, calls and results, how it writes a call, and its marks.

    place = tool_place(tokenizer)                        # None: the template shows neither

It is found by rendering a tool, a call and a result that no conversation holds.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.rows.thoughts import TAGS
from ftkit.data.rows.tools import with_tools
from ftkit.data.templates.rendering import own_template, render
from ftkit.data.templates.role_markers import MARKUP

HERMES, LLAMA, MISTRAL = "hermes", "llama", "mistral"  # ways to write a call that can be read back
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
    """How a template shows tools. style: of a call, None for one that is not read back.

    takes_turns: whether it shows calls and their results. marks: markup around tools, calls and results, which no
    other text may hold. takes_tools: whether it shows the tools themselves.
    """

    style: str | None
    takes_turns: bool
    marks: tuple[str, ...]
    takes_tools: bool = True


def tool_place(tokenizer: PreTrainedTokenizerBase) -> ToolPlace | None:
    """The place of tools in the tokenizer's template; None where it shows neither tools nor calls with results."""
    return _tool_place(tokenizer, own_template(tokenizer))


@lru_cache(maxsize=16)
def _tool_place(tokenizer: PreTrainedTokenizerBase, template: str) -> ToolPlace | None:
    """As `tool_place`, once for each template."""
    asked = probe([PROBE_QUESTION], tokenizer, template)
    turns = probe([PROBE_QUESTION, PROBE_CALL, PROBE_RESULT], tokenizer, template)
    takes_tools = NAMED in asked and PURPOSE in asked
    takes_turns = RESULT in turns and turns.count(NAMED) > asked.count(NAMED)
    if not (takes_tools or takes_turns):
        return None
    beside_text = probe([PROBE_QUESTION, PROBE_CALL | {"content": "Text."}], tokenizer, template)
    marks = dict.fromkeys(mark for mark in MARKUP.findall(asked + turns + beside_text) if mark not in TAGS)
    return ToolPlace(call_style(asked + turns), takes_turns, tuple(marks), takes_tools)


def probe(messages: list[dict], tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """A conversation with the probe's tool as text; empty where the template refuses it."""
    try:
        return render(with_tools(messages, [PROBE_TOOL]), tokenizer, True, template)
    except UserError:
        return ""


def call_style(text: str) -> str | None:
    """How calls are written in a text that shows one, or how one is to be written."""
    if re.search(r'<tool_call>\s*\{"name"', text):  # others have a tag for each argument
        return HERMES
    if "[TOOL_CALLS]" in text or "[AVAILABLE_TOOLS]" in text:
        return MISTRAL
    return LLAMA if re.search(r'"name": .{1,40}"parameters": ', text) else None
