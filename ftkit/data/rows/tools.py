"""Tools of a conversation, calls of them and their results, as files write them, in the one form that templates take.

    tools_of({"tools": '[{"name": "add"}]'}, "f:3")    ->  [{"type": "function", "function": {"name": "add"}}]
    calls_of({"function_call": {"name": "add", "arguments": "{}"}}, "f:3: turn 2")

The tools stand in the system turn, under "tools"; an answer's calls under "tool_calls", their arguments as objects; a
result is a turn of the role "tool". In one text an answer's calls stand after it, each as
<tool_call>{"name": ..., "arguments": {...}}</tool_call>.
"""

import ast
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.rows.extras import CALL_KEYS, TOOL_COLUMNS, is_filled
from ftkit.data.rows.thoughts import TAGS as THOUGHT_TAGS
from ftkit.data.rows.thoughts import THOUGHT

TOOLS, CALLS = "tools", "tool_calls"  # keys of a system turn and of an answer
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NAME_RULE = "the name of a function has 1 to 64 letters, digits, _, . or -; rename it"
FORM = '[{"name": ..., "description": ..., "parameters": {...}}]'
OPENS, CLOSES = "<tool_call>", "</tool_call>"
TAGS_IN_JSON = {OPENS: "\\u003ctool_call>", CLOSES: "\\u003c/tool_call>"}  # so that no argument ends its call
RESULT_BLOCK = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
TOOLS_BLOCK = re.compile(r"<tools>\s*([\[{].*?[\]}])\s*</tools>", re.DOTALL)
# What a system turn says around its tools, which a template writes by itself.
TOOLS_TEXT = re.compile(r"(?:# Tools\s+[^\n]*\s+)?[^\n]*<tools>.*(?:</tools>|</tool_call>)[^\n]*", re.DOTALL)


def tools_of(values: Mapping, where: str) -> list[dict]:
    """The tools of a row, or of a system turn: a list, or one written as JSON.

    Raises UserError for what is no list of functions with a name each, and for two lists.
    """
    found = [name for name in TOOL_COLUMNS if is_filled(values.get(name))]
    if not found:
        return []
    if len(found) > 1:
        raise UserError(f"{where}: {' and '.join(found)} both hold tools; keep one of them")
    tools = from_json(values[found[0]], found[0], where)
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list | tuple):
        raise UserError(f'{where}: "{found[0]}" must be a list of functions, got {type(tools).__name__}; write {FORM}')
    tools = [checked_tool(tool, found[0], where) for tool in tools]
    names = names_of(tools)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f'{where}: "{found[0]}" has two functions of the name "{twice}"; rename one')
    return tools


def checked_tool(tool: Any, name: str, where: str) -> dict:
    """A tool as templates take it. name: of its column."""
    tool = from_json(tool, name, where)
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise UserError(f'{where}: "{name}" holds what is no function; write {FORM}')
    check_name(function.get("name"), f'{where}: "{name}"')
    parameters = from_json(function.get("parameters"), f"{name} parameters", where)
    if parameters is not None and not isinstance(parameters, dict):
        raise UserError(f'{where}: "{name}": the parameters of {function["name"]} must be a JSON schema; write {{...}}')
    function = function if parameters is None else {**function, "parameters": parameters}
    return {"type": "function", **(tool if "function" in tool else {}), "function": function}


def names_of(tools: Sequence[Mapping]) -> list[str]:
    """The names of tools."""
    return [tool["function"]["name"] for tool in tools]


def check_name(name: Any, where: str = "tools") -> str:
    """The name of a function; UserError for what is none."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{where}: {NAME_RULE}")
    return name


def from_json(value: Any, name: str, where: str) -> Any:
    """A value, which may be written as JSON in a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{where}: "{name}" is a text, but not JSON; correct it, or write it as a list') from error


def calls_of(turn: Mapping, where: str) -> list[dict]:
    """The calls of a turn, under the keys of OpenAI's form. Raises UserError for two keys, and for what is no call."""
    found = [name for name in CALL_KEYS if is_filled(turn.get(name))]
    if len(found) > 1:
        raise UserError(f"{where}: {' and '.join(found)} both hold calls; keep one of them")
    return read_calls(turn[found[0]], where) if found else []


def read_calls(value: Any, where: str) -> list[dict]:
    """Calls from a list of them, or one, also written as JSON."""
    value = from_json(value, CALLS, where)
    calls = [value] if isinstance(value, Mapping) else value
    if not isinstance(calls, list | tuple) or not calls:
        raise UserError(f'{where}: no call of a tool; write {{"name": ..., "arguments": {{...}}}}')
    return [checked_call(call, where) for call in calls]


def checked_call(call: Any, where: str) -> dict:
    """A call as templates take it: its arguments an object, not a text of JSON."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise UserError(f'{where}: no call of a tool; write {{"name": ..., "arguments": {{...}}}}')
    name = check_name(function.get("name"), f"{where}: {CALLS}")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: {CALLS}: the arguments of a call are not JSON; write an object") from error
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        raise UserError(f"{where}: {CALLS}: the arguments of a call are no JSON object; write {{...}}")
    named = {"id": str(call["id"])} if call.get("id") else {}
    return {**named, "type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def check_calls(messages: Sequence[Mapping], tools: Sequence[Mapping], where: str) -> None:
    """Raise UserError for a call of what is none of the tools."""
    names = names_of(tools)
    for number, turn in enumerate(messages, start=1):
        for call in turn.get(CALLS, ()):
            name = call["function"]["name"]
            if name not in names:
                hint = did_you_mean(name, names) or f"; there are {', '.join(names)}"
                raise UserError(f'{where}: turn {number} calls "{name}", which is none of the tools{hint}')


def check_result(messages: Sequence[Mapping], where: str) -> None:
    """Raise UserError unless the last message, a result, answers a call of the answer before it."""
    results = [messages[-1]]
    before = list(messages[:-1])
    while before and before[-1]["role"] == "tool":
        results.append(before.pop())
    calls = before[-1].get(CALLS, ()) if before else ()
    if not calls:
        place = f"right after {before[-1]['role']}" if before else "first"
        raise UserError(f"{where}: a tool turn comes {place}; put the answer with its call before it")
    if len(results) > len(calls):
        raise UserError(f"{where}: more results than the answer before has calls ({len(calls)}); delete one")
    ids, own = {call["id"] for call in calls if "id" in call}, messages[-1].get("tool_call_id")
    if own and len(ids) == len(calls) and own not in ids:
        raise UserError(f'{where}: "tool_call_id" is {own}, which is no call of the answer before; correct it')


def tools_apart(messages: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """The messages as templates take them, and the tools that their system turn holds; one that holds no text goes."""
    if not messages or TOOLS not in messages[0]:
        return list(messages), []
    system = {name: value for name, value in messages[0].items() if name != TOOLS}
    rest = list(messages[1:])
    return ([system, *rest] if system["content"].strip() else rest), messages[0][TOOLS]


def with_tools(messages: Sequence[dict], tools: Sequence[Mapping]) -> list[dict]:
    """The messages with tools in their system turn, which is an empty one where they have none."""
    if not tools:
        return list(messages)
    has_system = bool(messages) and messages[0]["role"] == "system"
    system = messages[0] if has_system else {"role": "system", "content": ""}
    return [{**system, TOOLS: list(tools)}, *messages[has_system:]]


def has_tool_turns(messages: Sequence[Mapping]) -> bool:
    """Whether an answer calls a tool, or a turn is a result."""
    return any(turn["role"] == "tool" or turn.get(CALLS) for turn in messages)


def with_calls(turn: Mapping) -> str:
    """The text of an answer with its calls after it, as `calls_apart` reads them."""
    texts = [turn["content"]] if turn["content"].strip() or not turn.get(CALLS) else []
    for call in turn.get(CALLS, ()):
        written = json.dumps({name: call["function"][name] for name in ("name", "arguments")}, ensure_ascii=False)
        for tag, escaped in TAGS_IN_JSON.items():
            written = written.replace(tag, escaped)
        texts.append(f"{OPENS}\n{written}\n{CLOSES}")
    return "\n".join(texts)


def in_one_text(turn: Mapping) -> str:
    """The thought of a turn, if it has one, its answer and its calls, as templates write them."""
    if turn.get(THOUGHT) is None:
        return with_calls(turn)
    opens, closes = THOUGHT_TAGS
    return f"{opens}\n{turn[THOUGHT].strip()}\n{closes}\n\n{with_calls(turn)}"


def calls_apart(turn: dict, names: Collection[str] | None = None) -> dict:
    """An answer's turn with the calls at the end of its text under a key of their own; as it is where it has none.

    names: of the tools that may be called, None for any.
    """
    before, *parts = turn["content"].split(OPENS)
    bodies = [part.partition(CLOSES) for part in parts]
    if turn.get(CALLS) or not parts or any(not closes or after.strip() for _, closes, after in bodies):
        return turn
    try:
        calls = [checked_call(object_of(body.strip()), "") for body, _, _ in bodies]
    except UserError:
        return turn
    if names is not None and not {call["function"]["name"] for call in calls} <= set(names):
        return turn
    return {**turn, "content": before.rstrip(), CALLS: calls}


def object_of(text: str) -> Any:
    """The object that a text writes as JSON, or as Python does, as many Hermes rows have it; None for neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def from_hermes(turns: Sequence[dict], role_of: Mapping[str, str]) -> list[dict]:
    """Turns, as written, whose texts hold tools, calls and results between tags, with each under its own key.

    They are taken for such where a turn is a result or the system turn lists tools. role_of: the role of each name.
    """
    written = [(turn, *keys_of_text(turn)) for turn in turns]
    roles = [role_of.get(str(turn.get(role))) for turn, role, _ in written]
    texts = [turn.get(key) for turn, _, key in written]
    listed = [listed_tools(text) if role == "system" else [] for role, text in zip(roles, texts, strict=True)]
    if "tool" not in roles and not any(listed):
        return list(turns)
    found: list[dict] = []
    for role, tools, (turn, _, key) in zip(roles, listed, written, strict=True):
        text = turn.get(key)
        if not isinstance(text, str):
            found.append(turn)
        elif tools:
            found.append({**turn, key: TOOLS_TEXT.sub("", text).strip(), TOOLS: tools})
        elif role == "tool":
            found += [{**turn, key: result} for result in RESULT_BLOCK.findall(text) or [text]]
        elif role == "assistant":
            apart = calls_apart({"content": text} | {name: turn[name] for name in (CALLS,) if turn.get(name)})
            found.append({**turn, **{name: apart[name] for name in (CALLS,) if name in apart}, key: apart["content"]})
        else:
            found.append(turn)
    return found


def keys_of_text(turn: Mapping) -> tuple[str, str]:
    """The keys of role and text in a turn as written."""
    return ("role", "content") if "role" in turn else ("from", "value")


def listed_tools(text: Any) -> list[dict]:
    """The tools that a system text lists between its tags, as one list or as an object per line; [] for none."""
    match = TOOLS_BLOCK.search(text) if isinstance(text, str) else None
    if not match:
        return []
    whole = object_of(match[1])
    tools = whole if isinstance(whole, list) else list(objects_in(match[1]))
    try:
        return tools_of({TOOLS: tools}, "")
    except UserError:
        return []


def objects_in(text: str) -> Iterator[Any]:
    """The objects that follow each other in a text; what is none ends them."""
    decoder, end = json.JSONDecoder(), 0
    while end < len(text):
        try:
            value, end = decoder.raw_decode(text, end)
        except (ValueError, RecursionError):
            return
        yield value
        end += len(text[end:]) - len(text[end:].lstrip(" \n\r\t,"))
