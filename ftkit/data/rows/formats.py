"""Finds a file's format by its columns and turns every row into chat messages, or into plain text.

    alpaca             {"instruction", "output"[, "input"][, "history"]}; history: earlier [question, answer] pairs
    prompt_completion  {"prompt", "completion"}: two strings, or two lists of messages
    messages           {"messages": [{"role", "content"}, ...]}
    sharegpt           {"conversations": [{"from", "value"}, ...]}
    xlam               {"query", "tools", "answers"}: the calls that answer a question
    text               {"text"}

A "system" text (or "system_prompt") and "tools" may stand beside each but the last. A turn with "weight": 0 ("train" or
"loss": false) is context and not trained. Thoughts stand in front of an answer, <think>...</think>, or as
"reasoning_content" beside it; so do calls of tools, whose results are turns of their own (see `tools`). What else a row
may hold is in `extras`.

Every mistake is a UserError `file:line: reason; fix`.
"""

import json
import re

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.reading.records import Record
from ftkit.data.rows.columns import RowKind, nearest_key
from ftkit.data.rows.extras import (
    CALL_ROLES,
    FLAGS,
    RESULT_KEYS,
    RESULT_ROLES,
    THOUGHT_COLUMNS,
    TOOL_COLUMNS,
    check_columns,
    check_turn,
    check_wanted,
    is_trained,
    thought_of,
)
from ftkit.data.rows.thoughts import THOUGHT, split_thought
from ftkit.data.rows.tools import (
    CALLS,
    TOOLS,
    calls_apart,
    calls_of,
    check_calls,
    check_result,
    from_hermes,
    in_one_text,
    names_of,
    read_calls,
    tools_apart,
    tools_of,
    with_calls,
    with_tools,
)

INPUT_MARKER = "\n\n### Input:\n"  # stands between instruction and input in the user turn of an Alpaca row
JOINER = "\u2060"  # word joiner: invisible, no whitespace; put into text that must not be read as a heading or a token
INPUT_HEADING = re.compile(f"(?<=\n\n#){JOINER}*(?=## Input:)")
ESCAPED_INPUT_HEADING = re.compile(f"(?<=\n\n#){JOINER}(?={JOINER}*## Input:)")

SYSTEM = ("system", "system_prompt")  # columns of a system turn
BESIDE = (*SYSTEM, *TOOL_COLUMNS)  # columns that may stand beside a conversation
# Format -> (required keys, optional keys). Where a row fits several, the first counts.
FORMATS = {
    "messages": (("messages",), BESIDE),
    "sharegpt": (("conversations",), BESIDE),
    "alpaca": (("instruction", "output"), ("input", "history", *BESIDE, *THOUGHT_COLUMNS)),
    "prompt_completion": (("prompt", "completion"), (*BESIDE, *THOUGHT_COLUMNS)),
    "xlam": (("query", TOOLS, "answers"), SYSTEM),
    "text": (("text",), ()),
}
ROLES = ("system", "user", "assistant")
TOOL_ROLES = {name: "tool" for name in RESULT_ROLES} | {name: "assistant" for name in CALL_ROLES}
OPENAI_ROLES = {role: role for role in ROLES} | {"developer": "system"} | TOOL_ROLES
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant"} | OPENAI_ROLES
OPENAI_KEYS, SHAREGPT_KEYS = ("role", "content"), ("from", "value")


def to_messages(record: Record, format: str, path: str) -> dict:
    """Return {"messages": [{"role", "content"}, ...]}, or {"text": str} for the format text.

    alpaca: an optional `system` becomes a system turn; pairs of `history` become earlier turns, whose answers are
    trained as well; the user turn is the instruction, followed by "\\n\\n### Input:\\n" and the input unless that is
    blank; the assistant turn is the output. An instruction that itself holds the heading "### Input:" gets a word
    joiner (U+2060) after its first "#". `alpaca_row` undoes it.
    The key "untrained" lists the positions of assistant turns that are context: those of a prompt, and those whose
    weight is 0.
    Raises UserError for null, blank or wrongly typed fields, unknown or misordered roles, rows without an answer, and
    what `extras` refuses.
    """
    return to_conversation(record.values, format, f"{path}:{record.line}")


def to_conversation(values: dict, format: str, where: str) -> dict:
    """As `to_messages`, of a row's values."""
    has_one_answer = format == "alpaca" or format == "prompt_completion" and isinstance(values["completion"], str)
    check_columns(values, where, may_think=has_one_answer, has_turns=format != "text")
    if format != "text":
        check_wanted(values, where)
    return CONVERTERS[format](values, where)


def alpaca_row(messages: list[dict]) -> dict:
    """Return the {"instruction", "input", "output"[, "history"][, "tools"][, "system"]} row of `messages`.

    `to_messages` gives them back. A blank input comes back as "". Raises UserError where the last turn is not the
    assistant's, and for results of tools.
    """
    messages, tools = tools_apart(messages)
    start = int(messages[0]["role"] == "system")
    if any(turn["role"] == "tool" for turn in messages):
        raise UserError("it holds results of tools, which this format can't say; use messages")
    if len(messages) - start < 2 or messages[-1]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(f"roles {roles} do not fit an Alpaca row; allowed: [system,] user, assistant, ...")
    instruction, _, input = messages[-2]["content"].partition(INPUT_MARKER)
    row = {
        "instruction": ESCAPED_INPUT_HEADING.sub("", instruction),
        "input": input,
        "output": with_calls(messages[-1]),
    }
    if THOUGHT in messages[-1]:
        row[THOUGHT] = messages[-1][THOUGHT]
    earlier = [in_one_text(turn) for turn in messages[start:-2]]
    if earlier:
        row["history"] = [list(pair) for pair in zip(earlier[::2], earlier[1::2], strict=True)]
    row |= {TOOLS: tools} if tools else {}
    return row | ({"system": messages[0]["content"]} if start else {})


def from_alpaca(values: dict, where: str) -> dict:
    """Messages of an Alpaca row; see `to_messages`."""
    instruction = checked_text(values["instruction"], "instruction", where)
    input, output = optional_text(values, "input", where), checked_text(values["output"], "output", where)
    user = INPUT_HEADING.sub(lambda match: match.group() + JOINER, instruction)
    messages = from_history(values.get("history"), where)
    answer = message("assistant", output) | thought_of(values, output, where, THOUGHT_COLUMNS)
    messages += [message("user", user + INPUT_MARKER + input if input.strip() else user), answer]
    return with_system({"messages": messages}, values, where)


def from_history(pairs, where: str) -> list[dict]:
    """The earlier turns of an Alpaca row, from its [question, answer] pairs."""
    if pairs in (None, ""):
        return []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise UserError(f'{where}: "history" must be a list of [question, answer] pairs; write [["...", "..."], ...]')
    turns = []
    for number, pair in enumerate(pairs, start=1):
        for role, text in zip(("user", "assistant"), pair, strict=True):
            turns.append(message(role, checked_text(text, f"history {number}", where)))
    return turns


def from_prompt_completion(values: dict, where: str) -> dict:
    """Messages of a prompt and what completes it, two strings or two lists."""
    prompt, completion = values["prompt"], values["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        row = read_turns([*map(as_context, prompt), *completion], where)
        first = completion[0] if completion else {}
        if SHAREGPT_ROLES.get(first.get("role", first.get("from"))) != "assistant":
            raise UserError(f"{where}: a completion starts with an assistant turn; move other turns to the prompt")
        return with_system(row, values, where)
    if isinstance(prompt, list) or isinstance(completion, list):
        raise UserError(f"{where}: prompt and completion must both be strings or both be lists of messages; change one")
    turns = [message("user", checked_text(prompt, "prompt", where))]
    answer = message("assistant", checked_text(completion, "completion", where))
    turns.append(answer | thought_of(values, completion, where, THOUGHT_COLUMNS))
    return with_system({"messages": turns}, values, where)


def as_context(turn):
    """A turn, as written, of which nothing is trained."""
    return {**turn, **dict.fromkeys(FLAGS), "weight": 0} if isinstance(turn, dict) else turn


def from_messages(values: dict, where: str) -> dict:
    """Messages of a row that holds them already."""
    return with_system(read_turns(values["messages"], where, "messages", OPENAI_KEYS), values, where)


def from_sharegpt(values: dict, where: str) -> dict:
    """Messages of ShareGPT's turns, or of messages in a column of its name."""
    return with_system(read_turns(values["conversations"], where, "conversations", SHAREGPT_KEYS), values, where)


def with_system(row: dict, values: dict, where: str) -> dict:
    """The row with its system column and its tools as its first turn.

    Raises UserError where that says something else than the system turn of the row, and for calls of no tool.
    """
    texts = {name: text for name in SYSTEM if (text := optional_text(values, name, where)).strip()}
    messages, own_tools = tools_apart(row["messages"])
    if row["messages"][0]["content"].strip() and row["messages"][0]["role"] == "system":
        texts["a system turn"] = row["messages"][0]["content"]
    if len({text.strip() for text in texts.values()}) > 1:
        raise UserError(f"{where}: {' and '.join(texts)} say different things; keep one of them")
    tools = tools_of(values, where) or own_tools
    if own_tools and names_of(tools) != names_of(own_tools):
        raise UserError(f"{where}: the system turn has other tools than the row; keep one of them")
    if tools:
        messages = [called(turn, names_of(tools)) for turn in messages]
        check_calls(messages, tools, where)
    if texts and messages[0]["role"] == "system":
        messages = [messages[0] | {"content": texts.get("a system turn", next(iter(texts.values())))}, *messages[1:]]
    elif texts:
        messages = [message("system", next(iter(texts.values()))), *messages]
    messages = with_tools(messages, tools)
    num_added = len(messages) - len(row["messages"])
    return as_row(messages, [index + num_added for index in row.get("untrained", [])])


def called(turn: dict, names: list[str]) -> dict:
    """A turn in which calls of these tools, where its text ends with any, stand apart."""
    return calls_apart(turn, names) if turn["role"] == "assistant" else turn


def from_xlam(values: dict, where: str) -> dict:
    """A question and the calls that answer it."""
    turns = [message("user", checked_text(values["query"], "query", where))]
    answer = message("assistant", "") | {CALLS: read_calls(values["answers"], f"{where}: answers")}
    return with_system({"messages": [*turns, answer]}, values, where)


def from_text(values: dict, where: str) -> dict:
    """The text of a row that is no conversation."""
    return {"text": checked_text(values["text"], "text", where)}


CONVERTERS = {
    "alpaca": from_alpaca,
    "prompt_completion": from_prompt_completion,
    "messages": from_messages,
    "sharegpt": from_sharegpt,
    "xlam": from_xlam,
    "text": from_text,
}


CONVERSATIONS = RowKind(FORMATS, to_conversation)


def message(role: str, content: str) -> dict:
    """One turn."""
    return {"role": role, "content": content}


def checked_text(value, name: str, where: str, may_be_blank: bool = False) -> str:
    """Return `value` if it is a string, and not blank unless it may be; raise UserError otherwise."""
    if value is None:
        raise UserError(f'{where}: "{name}" is null; fill it in or delete the row')
    if not isinstance(value, str):
        raise UserError(f'{where}: "{name}" must be a string, got {type(value).__name__}; put it in quotes')
    if not may_be_blank and not value.strip():
        raise UserError(f'{where}: "{name}" is empty; fill it in or delete the row')
    if "\0" in value:
        raise UserError(f'{where}: "{name}" holds a NUL character; delete it')
    return value


def optional_text(values: dict, name: str, where: str) -> str:
    """Return an optional field; absent and null (as parquet writes an absent one) are empty text."""
    value = values.get(name)
    return "" if value is None else checked_text(value, name, where, may_be_blank=True)


def read_turns(turns, where: str, column: str = "messages", keys: tuple[str, str] = OPENAI_KEYS) -> dict:
    """The row of turns in either form; raise UserError for wrong types, roles or order, or no answer.

    keys: those of a turn that has neither form's.
    """
    if turns is None:
        raise UserError(f'{where}: "{column}" is null; fill it in or delete the row')
    if not isinstance(turns, list):
        kind = type(turns).__name__
        raise UserError(f'{where}: "{column}" must be a list of turns, got {kind}; write [{{...}}, ...]')
    messages, untrained = [], []
    if all(isinstance(turn, dict) for turn in turns):
        turns = from_hermes(turns, SHAREGPT_ROLES)
    for number, turn in enumerate(turns, start=1):
        place = f"{where}: turn {number}"
        messages.append(checked_turn(turn, place, keys))
        check_order(messages, place)
        role = messages[-1]["role"]
        if not is_trained(turn, role, place) and role == "assistant":
            untrained.append(number - 1)
    if not any(turn["role"] == "assistant" for turn in messages):
        raise UserError(f"{where}: no assistant turn, so nothing to train on; add the answer or delete the row")
    return as_row(messages, untrained)


def as_row(messages: list[dict], untrained: list[int]) -> dict:
    """A row of messages. untrained: positions of the answers that are context."""
    return {"messages": messages} | ({"untrained": untrained} if untrained else {})


def keys_of(turn: dict, default: tuple[str, str]) -> tuple[str, str]:
    """The names of role and text in a turn."""
    return OPENAI_KEYS if "role" in turn else SHAREGPT_KEYS if "from" in turn else default


def checked_turn(turn, where: str, default: tuple[str, str] = OPENAI_KEYS) -> dict:
    """Return one turn as {"role", "content"}, with the thoughts and calls of an answer, the tools of a system turn.

    where: already names the turn. default: see `read_turns`.
    """
    if not isinstance(turn, dict):
        fix = f'write {{"{default[0]}": ..., "{default[1]}": ...}}'
        raise UserError(f"{where} must be an object, got {type(turn).__name__}; {fix}")
    role_key, text_key = keys = keys_of(turn, default)
    calls = calls_of(turn, where)
    check_keys_of_turn(turn if turn.get(text_key) is not None or not calls else {**turn, text_key: ""}, keys, where)
    check_turn(turn, where)
    role = checked_role(turn[role_key], where, SHAREGPT_ROLES if keys == SHAREGPT_KEYS else OPENAI_ROLES)
    if calls and role != "assistant":
        raise UserError(f"{where}: calls of a {role} turn; only an answer has any, delete them")
    text = checked_content(turn.get(text_key), text_key, role, where, has_calls=bool(calls))
    thought = thought_of(turn, with_calls({"content": text, CALLS: calls}), where)
    if thought and role != "assistant":
        raise UserError(f"{where}: thoughts of a {role} turn; only an answer has any, delete them")
    if turn[role_key] in CALL_ROLES and not calls:
        before, text = split_thought(text)
        thought |= {} if before is None else {THOUGHT: before}
        text, calls = "", read_calls(text, where)
    found = message(role, text) | thought | ({CALLS: calls} if calls else {})
    if role == "system" and (tools := tools_of(turn, where)):
        found[TOOLS] = tools
    if role == "tool":
        found |= {name: str(turn[name]) for name in RESULT_KEYS if turn.get(name)}
    return found


def check_keys_of_turn(turn: dict, keys: tuple[str, str], where: str) -> None:
    """Raise UserError for a turn without one of its two keys, with the one that misspells it."""
    present = [key for key, value in turn.items() if value is not None]
    for key in keys:
        if key not in turn:
            misspelt = [other for other in present if nearest_key(other, keys, present) == key]
            if misspelt:
                raise UserError(f'{where}: unknown key "{misspelt[0]}"; did you mean "{key}"?')
            raise UserError(f'{where}: key "{key}" is missing; add it')


def checked_content(content, name: str, role: str, where: str, *, has_calls: bool) -> str:
    """The text of a turn: of its parts, of a result also what it is as JSON. Beside calls it may be missing.

    Raises UserError for other than text, and for none.
    """
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(checked_text(part.get("text"), "text", where, may_be_blank=True) for part in content)
    elif role == "tool" and content is not None and not isinstance(content, str):
        content = json.dumps(content, ensure_ascii=False)
    elif isinstance(content, list):
        raise UserError(f"{where}: only text content is supported; remove the other parts")
    content = "" if has_calls and content is None else content
    return checked_text(content, name, where, may_be_blank=has_calls or role in ("system", "tool"))


def checked_role(role, where: str, roles: dict[str, str]) -> str:
    """The role that a turn's name for it stands for; raise UserError for one that is not in `roles`."""
    if not isinstance(role, str) or role not in roles:
        hint = did_you_mean(role, roles) if isinstance(role, str) else ""
        allowed = [name for name in roles if name not in {"developer", *TOOL_ROLES}] + ["tool"]
        raise UserError(f'{where}: unknown role "{role}"{hint or "; allowed: " + ", ".join(allowed)}')
    return roles[role]


def check_order(messages: list[dict], where: str) -> None:
    """Raise UserError unless the last message may follow those before it: [system,] user, assistant, [tool, ...] ..."""
    role = messages[-1]["role"]
    before = messages[-2]["role"] if len(messages) > 1 else None
    if role == "system" and before:
        raise UserError(f"{where}: a system turn after {before}; the system turn comes first")
    if role == "tool":
        return check_result(messages, where)
    if role == before:
        fix = "merge them, or give --join_turns" if role == "user" else "merge them"
        raise UserError(f"{where}: two {role} turns in a row; {fix}")
    if role == "assistant" and before not in ("user", "tool"):
        place = f"right after {before}" if before else "first"
        raise UserError(f"{where}: an assistant turn comes {place}; put a user turn before it")
