"""Tells a file's format from its columns and turns every row into chat messages, or into plain text.

    alpaca             {"instruction", "output"[, "input"][, "system"]}
    prompt_completion  {"prompt", "completion"}: two strings, or two lists of messages
    messages           {"messages": [{"role", "content"}, ...]}
    sharegpt           {"conversations": [{"from", "value"}, ...]}
    text               {"text"}

Every mistake is a UserError `file:line: reason; fix`.
"""

import re

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.reading.records import Record
from ftkit.data.rows.columns import RowKind, nearest_key

INPUT_MARKER = "\n\n### Input:\n"  # stands between instruction and input in the user turn of an Alpaca row
JOINER = "\u2060"  # word joiner: invisible, no whitespace; put into text that must not be read as a heading or a token
INPUT_HEADING = re.compile(f"(?<=\n\n#){JOINER}*(?=## Input:)")
ESCAPED_INPUT_HEADING = re.compile(f"(?<=\n\n#){JOINER}(?={JOINER}*## Input:)")

# Format -> (required keys, optional keys). Where a row fits several, the first counts.
FORMATS = {
    "messages": (("messages",), ()),
    "sharegpt": (("conversations",), ("system",)),
    "alpaca": (("instruction", "output"), ("input", "system")),
    "prompt_completion": (("prompt", "completion"), ()),
    "text": (("text",), ()),
}
ROLES = ("system", "user", "assistant")
TOOL_ROLES = ("tool", "function", "function_call", "observation")
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant"} | {role: role for role in ROLES}


def to_messages(record: Record, format: str, path: str) -> dict:
    """Return {"messages": [{"role", "content"}, ...]}, or {"text": str} for the format text.

    alpaca: an optional `system` becomes a system turn; the user turn is the instruction, followed by
    "\\n\\n### Input:\\n" and the input unless that is blank; the assistant turn is the output. An instruction that
    itself holds the heading "### Input:" gets a word joiner (U+2060) behind its first "#". `alpaca_row` undoes it.
    prompt_completion: the key "num_prompt_messages" is added when the prompt holds assistant turns, which are then
    context and not trained.
    Raises UserError for null, blank or wrongly typed fields, unknown or misordered roles, and rows without an answer.
    """
    where = f"{path}:{record.line}"
    return CONVERTERS[format](record.values, where)


def alpaca_row(messages: list[dict]) -> dict:
    """Return the {"instruction", "input", "output"[, "system"]} row that `to_messages` maps to `messages`.

    A blank input comes back as "". Raises UserError if there is more than one user and one assistant turn.
    """
    roles = [message["role"] for message in messages]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        raise UserError(f"roles {', '.join(roles)} do not fit an Alpaca row; allowed: [system,] user, assistant")
    instruction, _, input = messages[-2]["content"].partition(INPUT_MARKER)
    row = {
        "instruction": ESCAPED_INPUT_HEADING.sub("", instruction),
        "input": input,
        "output": messages[-1]["content"],
    }
    return row | ({"system": messages[0]["content"]} if roles[0] == "system" else {})


def from_alpaca(values: dict, where: str) -> dict:
    """Messages of an Alpaca row; see `to_messages`."""
    instruction = checked_text(values["instruction"], "instruction", where)
    input, system = optional_text(values, "input", where), optional_text(values, "system", where)
    output = checked_text(values["output"], "output", where)
    user = INPUT_HEADING.sub(lambda match: match.group() + JOINER, instruction)
    messages = [message("system", system)] if system.strip() else []
    messages += [message("user", user + INPUT_MARKER + input if input.strip() else user), message("assistant", output)]
    return {"messages": messages}


def from_prompt_completion(values: dict, where: str) -> dict:
    """Messages of a prompt and what completes it, two strings or two lists."""
    prompt, completion = values["prompt"], values["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        turns = from_messages({"messages": [*prompt, *completion]}, where)["messages"]
        if [turn["role"] for turn in turns[len(prompt) :]][:1] != ["assistant"]:
            raise UserError(f"{where}: a completion starts with an assistant turn; move other turns to the prompt")
        answered = any(turn["role"] == "assistant" for turn in turns[: len(prompt)])
        return {"messages": turns} | ({"num_prompt_messages": len(prompt)} if answered else {})
    if isinstance(prompt, list) or isinstance(completion, list):
        raise UserError(f"{where}: prompt and completion must both be strings or both be lists of messages; change one")
    prompt = checked_text(prompt, "prompt", where)
    return {"messages": [message("user", prompt), message("assistant", checked_text(completion, "completion", where))]}


def from_messages(values: dict, where: str) -> dict:
    """Messages of a row that holds them already."""
    check_no_tools(values, where)
    roles = {role: role for role in ROLES}
    return {"messages": checked_turns(values["messages"], where, "role", "content", roles, "messages")}


def check_no_tools(values: dict, where: str) -> None:
    """Raise UserError for a filled column of tools, which no template is given."""
    if values.get("tools"):
        fix = "write the tools into a system turn"
        raise UserError(f'{where}: the column "tools" is not supported, and a model would never see it; {fix}')


def from_sharegpt(values: dict, where: str) -> dict:
    """Messages of ShareGPT's turns, or of messages in a column of its name."""
    check_no_tools(values, where)
    turns = values["conversations"]
    first = turns[0] if isinstance(turns, list) and turns else None
    if isinstance(first, dict) and "role" in first and "from" not in first:
        messages = from_messages({"messages": turns}, where)["messages"]
    else:
        messages = checked_turns(turns, where, "from", "value", SHAREGPT_ROLES, "conversations")
    system = optional_text(values, "system", where)
    if system.strip() and messages[0]["role"] != "system":
        messages = [message("system", system), *messages]
    return {"messages": messages}


def from_text(values: dict, where: str) -> dict:
    """The text of a row that is no conversation."""
    return {"text": checked_text(values["text"], "text", where)}


CONVERTERS = {
    "alpaca": from_alpaca,
    "prompt_completion": from_prompt_completion,
    "messages": from_messages,
    "sharegpt": from_sharegpt,
    "text": from_text,
}


CONVERSATIONS = RowKind(FORMATS, lambda values, format, where: CONVERTERS[format](values, where))


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


def checked_turns(turns, where: str, role_key: str, text_key: str, roles: dict, column: str) -> list[dict]:
    """Return the turns as role/content messages; raise UserError for wrong types, roles or order, or no answer."""
    if turns is None:
        raise UserError(f'{where}: "{column}" is null; fill it in or delete the row')
    if not isinstance(turns, list):
        kind = type(turns).__name__
        raise UserError(f'{where}: "{column}" must be a list of turns, got {kind}; write [{{...}}, ...]')
    messages = []
    for number, turn in enumerate(turns, start=1):
        messages.append(checked_turn(turn, f"{where}: turn {number}", role_key, text_key, roles))
        check_order(messages, f"{where}: turn {number}")
    if not any(turn["role"] == "assistant" for turn in messages):
        raise UserError(f"{where}: no assistant turn, so nothing to train on; add the answer or delete the row")
    return messages


def checked_turn(turn, where: str, role_key: str, text_key: str, roles: dict) -> dict:
    """Return one turn as {"role", "content"}. `where` already names the turn."""
    if not isinstance(turn, dict):
        fix = f'write {{"{role_key}": ..., "{text_key}": ...}}'
        raise UserError(f"{where} must be an object, got {type(turn).__name__}; {fix}")
    present = [key for key, value in turn.items() if value is not None]
    for key in (role_key, text_key):
        if key not in turn:
            misspelt = [other for other in present if nearest_key(other, (role_key, text_key), present) == key]
            if misspelt:
                raise UserError(f'{where}: unknown key "{misspelt[0]}"; did you mean "{key}"?')
            raise UserError(f'{where}: key "{key}" is missing; add it')
    if turn.get("tool_calls"):
        raise UserError(f"{where}: tool calls are not supported; write the call into the content")
    role = turn[role_key]
    if role in TOOL_ROLES:
        raise UserError(f"{where}: a {role} turn, which is not supported; write what the tool said into a user turn")
    if not isinstance(role, str) or role not in roles:
        hint = did_you_mean(role, roles) if isinstance(role, str) else ""
        raise UserError(f'{where}: unknown role "{role}"{hint or "; allowed: " + ", ".join(roles)}')
    content = turn[text_key]
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(checked_text(part.get("text"), "text", where, may_be_blank=True) for part in content)
    elif isinstance(content, list):
        raise UserError(f"{where}: only text content is supported; remove the other parts")
    return message(roles[role], checked_text(content, text_key, where, may_be_blank=roles[role] == "system"))


def check_order(messages: list[dict], where: str) -> None:
    """Raise UserError unless the last message may follow those before it: [system,] user, assistant, user, ..."""
    role = messages[-1]["role"]
    before = messages[-2]["role"] if len(messages) > 1 else None
    if role == "system" and before:
        raise UserError(f"{where}: a system turn after {before}; the system turn comes first")
    if role == before:
        raise UserError(f"{where}: two {role} turns in a row; merge them")
    if role == "assistant" and before != "user":
        place = f"right after {before}" if before else "first"
        raise UserError(f"{where}: an assistant turn comes {place}; put a user turn before it")
