"""The messages of a request, checked and as templates take them: roles, texts, calls of tools and their results.

plain_messages([{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}, ...])
"""

from collections.abc import Mapping
from typing import Any

from ftkit.config.errors import UserError
from ftkit.data.rows.thoughts import THOUGHT
from ftkit.data.rows.tools import CALLS, check_result, checked_call

MAX_MESSAGES, MAX_PARTS, MAX_CALLS = 2048, 1024, 128
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
THOUGHT_KEYS = (THOUGHT, "reasoning")
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


def plain_messages(messages: Any) -> list[dict]:
    """Messages whose content is text. Raises UserError for what is none, too many, or more than text, and for a
    tool's result without its call."""
    if not isinstance(messages, list) or not messages:
        raise UserError("messages: must be an array of at least one message")
    if len(messages) > MAX_MESSAGES:
        raise UserError(f"messages: more than {MAX_MESSAGES:,}; send fewer")
    plain = [plain_message(message, f"messages.{number}") for number, message in enumerate(messages)]
    for number, message in enumerate(plain):
        if message["role"] == "tool":
            check_result(plain[: number + 1], f"messages.{number}")
    return plain


def plain_message(message: Any, where: str) -> dict:
    """One message. where: its place, for an error."""
    if not isinstance(message, Mapping):
        raise UserError(f"{where}: must be an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise UserError(f"{where}.role: must be one of {', '.join(ROLES)}")
    plain = {"role": ROLES[role], "content": plain_content(message.get("content"), role, f"{where}.content")}
    for name in ("name", "tool_call_id"):
        if message.get(name) is not None:
            plain[name] = text_of(message[name], f"{where}.{name}")
    thought = next((message[name] for name in THOUGHT_KEYS if message.get(name)), None)
    if thought is not None and role == "assistant":
        plain[THOUGHT] = text_of(thought, f"{where}.{THOUGHT}")
    calls = message.get("tool_calls")
    if calls and role == "assistant":
        if not isinstance(calls, list) or len(calls) > MAX_CALLS or not all(isinstance(one, Mapping) for one in calls):
            raise UserError(f"{where}.tool_calls: must be an array of at most {MAX_CALLS} calls")
        plain[CALLS] = [checked_call(call, where) for call in calls]
    return plain


def plain_content(content: Any, role: str, where: str) -> str:
    """The text of a content; an assistant's may be null, beside calls."""
    if content is None and role == "assistant":
        return ""
    if not isinstance(content, list):
        return text_of(content, where)
    if len(content) > MAX_PARTS:
        raise UserError(f"{where}: more than {MAX_PARTS:,} parts; send one text")
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in TEXT_PARTS:
            raise UserError(f"{where}.{number}: only parts of the type text are read")
        texts.append(text_of(part.get("refusal" if kind == "refusal" else "text"), f"{where}.{number}"))
    return "".join(texts)


def text_of(value: Any, where: str) -> str:
    """The value. Raises UserError for what is no text."""
    if not isinstance(value, str):
        raise UserError(f"{where}: must be a text")
    return value
