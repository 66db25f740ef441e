"""Prompt templates: puts a chat template on a tokenizer and says which characters of a conversation are trained.

    info = install_template(tokenizer, "alpaca")
    messages, num_changed = prepare_messages(messages, tokenizer, info)
    text, spans = render_training(messages, tokenizer, info)

A template is a Hugging Face chat template and nothing else; `{% generation %}` marks an answer and its end token.
"""

import hashlib
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AddedToken, PreTrainedTokenizerBase

from ftkit.config.assets import asset_path, list_assets
from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.rows.extras import RESULT_KEYS
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.data.rows.thoughts import TAGS, THOUGHT, thought_apart
from ftkit.data.rows.tools import (
    CALLS,
    calls_apart,
    check_name,
    has_tool_turns,
    names_of,
    tools_apart,
    with_tools,
)
from ftkit.data.templates.answers import (
    find_end_of_turn,
    find_markers,
    shows_thoughts,
    special_tokens,
    writes_thought_tags,
)
from ftkit.data.templates.forgery import break_strings, mend_strings
from ftkit.data.templates.rendering import (
    Span,
    has_place_for_thoughts,
    own_template,
    render_marked,
    render_prefixes,
)
from ftkit.data.templates.role_markers import role_markers
from ftkit.data.templates.tools import HERMES, ToolPlace, tool_place

logger = logging.getLogger(__name__)

# Their length is bounded so that many unclosed ones take no time.
CONTROL_TOKENS_COMMENT = re.compile(r"\{#-? control tokens: (.{0,4096}?) -?#\}")
HEADINGS_COMMENT = re.compile(r"\{#-? headings: (.{0,4096}?) -?#\}")
ANSWERS_TAG = re.compile(r"</?[a-z_]+>")  # such as <think>: no role, and answers may contain it
END_OF_TURN_LINE = re.compile(r"(\{%- set end_of_turn = )'([^']*)'( -%\})")
HEADER_GAP_LINE = re.compile(r"(\{%- set header_gap = )'\\n\\n'( -%\})")


@dataclass(frozen=True)
class TemplateInfo:
    """What training, chat and evaluation need to know about the template on a tokenizer.

    end_of_turn, end_of_turn_id: the token that closes an answer; generation stops at it.
    added_tokens: ids of the tokens that were added to the vocabulary.
    trains_with: how answers are found: by the template's own "markers", by those of "trl"'s training variant of it, or
    by the "offsets" at which rendering continues a prompt; "text" where there is no template, only plain text.
    fingerprint: SHA-256 of the template and its end token. control_strings, headings: what text may not contain, the
    latter at the start of a line. markers: nor these, by which a template sets roles apart without control tokens.
    user_strings: what only answers may contain, such as Qwen's <think>, which is a token but no special one.
    training_template: TRL's variant; renders the same text as the tokenizer's template, with markers.
    has_thoughts: the template has a place for the thoughts before an answer; no text may then hold their tags.
    tools: its place for tools, calls and results; None where it has none.
    """

    name: str
    end_of_turn: str
    end_of_turn_id: int
    added_tokens: list[int]
    trains_with: str
    fingerprint: str
    control_strings: tuple[str, ...]
    headings: tuple[str, ...] = ()
    user_strings: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    training_template: str | None = None
    has_thoughts: bool = False
    tools: ToolPlace | None = None


def install_template(
    tokenizer: PreTrainedTokenizerBase, name_or_path: str = "auto", *, add_tokens: bool = False
) -> TemplateInfo:
    """Set `tokenizer.chat_template` and return what was installed.

    name_or_path: "auto" (the tokenizer's own template), a bundled name or a path to a .jinja file. A control token the
    tokenizer lacks stays plain text and its eos token closes the answers; with `add_tokens` the template's control
    tokens are added to the tokenizer instead (the caller resizes and trains the model's embeddings).
    Raises UserError for an unknown name, a tokenizer without a template, an eos token or offsets, and a template that
    can't be rendered, or writes no end token after an answer.
    """
    if not tokenizer.is_fast:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer gives no offsets; it needs a tokenizer.json")
    source = own_template(tokenizer) if name_or_path == "auto" else read_template(name_or_path)
    declared = tuple(" ".join(CONTROL_TOKENS_COMMENT.findall(source)).split())
    headings = tuple(heading.strip() for found in HEADINGS_COMMENT.findall(source) for heading in found.split("|"))
    if tokenizer.eos_token is None:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no eos token to close an answer; set eos_token")
    added = add_control_tokens(tokenizer, declared) if add_tokens else []
    if name_or_path != "auto":
        tokenizer.chat_template = source = fit_to_tokenizer(source, tokenizer)
    controls = tuple(dict.fromkeys((*special_tokens(tokenizer), *declared)))
    name = Path(name_or_path).stem
    trains_with, variant = find_markers(tokenizer, source, controls, allow_variant=name_or_path == "auto")
    end_of_turn, end_of_turn_id = find_end_of_turn(tokenizer, trains_with, variant, controls, name)
    fingerprint = hashlib.sha256("\0".join((source, variant or "", end_of_turn)).encode()).hexdigest()
    if has_place_for_thoughts(source) and not writes_thought_tags(tokenizer):
        raise UserError(f"template {name}: it declares thoughts, but does not write them as <think> ... </think>")
    has_thoughts, tools = shows_thoughts(tokenizer), tool_place(tokenizer)
    guarded = (*(TAGS if has_thoughts else ()), *(tools.marks if tools else ()))
    answers_own = [token for token in tokenizer.get_added_vocab() if token in source and token not in controls]
    anywhere, at_line_start = role_markers(tokenizer, controls)
    answers_own += [tag for tag in anywhere if ANSWERS_TAG.fullmatch(tag) and tag not in answers_own]
    answers_own = [tag for tag in answers_own if tag not in guarded]
    warn_of_unbreakable(tokenizer, (*controls, *answers_own, *(mark for mark in guarded if mark not in controls)))
    return TemplateInfo(
        name=name,
        end_of_turn=end_of_turn,
        end_of_turn_id=end_of_turn_id,
        added_tokens=added,
        trains_with=trains_with,
        fingerprint=fingerprint,
        control_strings=controls,
        headings=tuple(dict.fromkeys((*headings, *at_line_start))),
        user_strings=tuple(answers_own),
        markers=tuple(marker for marker in anywhere if marker not in answers_own and marker not in guarded),
        training_template=variant,
        has_thoughts=has_thoughts,
        tools=tools,
    )


def plain_text_info(tokenizer: PreTrainedTokenizerBase) -> TemplateInfo:
    """What `tokenize_rows` needs for plain-text rows of a tokenizer without a chat template: its eos token."""
    if tokenizer.eos_token is None:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no eos token to close a text; set eos_token")
    eos = tokenizer.eos_token
    fingerprint = hashlib.sha256(eos.encode()).hexdigest()
    controls = tuple(special_tokens(tokenizer))
    return TemplateInfo("none", eos, tokenizer.eos_token_id, [], "text", fingerprint, controls)


def read_template(name_or_path: str) -> str:
    """Return the text of a bundled template or of a .jinja file, without the line break that ends the file."""
    path = Path(name_or_path).expanduser()
    bundled = list_assets("templates")
    if path.suffix == ".jinja" or "/" in name_or_path:
        if not path.is_file():
            raise UserError(f"{path}: no such template file; check the path, or use one of: {', '.join(bundled)}")
    elif name_or_path in bundled:
        path = asset_path("templates", f"{name_or_path}.jinja")
    else:
        hint = did_you_mean(name_or_path, ["auto", *bundled])
        names = ", ".join(["auto", *bundled])
        raise UserError(f'unknown template "{name_or_path}"{hint}; allowed: {names}, or the path of a .jinja file')
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 ({error.reason}); save the template as UTF-8") from error


def is_token(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `text` is one added token of the tokenizer, and so never merged with its neighbours."""
    return text in tokenizer.get_added_vocab()


def add_control_tokens(tokenizer: PreTrainedTokenizerBase, declared: tuple[str, ...]) -> list[int]:
    """Add the control tokens the tokenizer lacks as special tokens; return their ids."""
    missing = [token for token in declared if not is_token(token, tokenizer)]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in missing], special_tokens=True)
    return tokenizer.convert_tokens_to_ids(missing)


def fit_to_tokenizer(source: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Write into the template what depends on the tokenizer, so that the stored template needs nothing else.

    The eos token closes answers where the template's own end token is missing. The empty line after a Llama-3 header
    becomes a line break where the tokenizer splits it differently once an answer follows.
    """

    def end_of_turn(match):
        token = match[2] if is_token(match[2], tokenizer) else tokenizer.eos_token
        return f"{match[1]}{token!r}{match[3]}"

    source = END_OF_TURN_LINE.sub(end_of_turn, source)
    return HEADER_GAP_LINE.sub(r"\1'\\n'\2", source) if splits_header_gap(tokenizer) else source


def splits_header_gap(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether an empty line at the end of a prompt becomes different tokens once an answer follows it."""
    alone = tokenizer("|>\n\n", add_special_tokens=False)["input_ids"]
    followed = tokenizer("|>\n\nAn answer", add_special_tokens=False)["input_ids"]
    return followed[: len(alone)] != alone


def warn_of_unbreakable(tokenizer: PreTrainedTokenizerBase, tokens: tuple[str, ...]) -> None:
    """Warn if the tokenizer reads a token also where a word joiner breaks it: then text can hold that token."""
    broken = [break_strings(token, tokens)[0] for token in tokens]
    encoded = tokenizer(broken, add_special_tokens=False)["input_ids"]
    ids = [tokenizer.convert_tokens_to_ids(token) if is_token(token, tokenizer) else None for token in tokens]
    found = [token for token, id, row in zip(tokens, ids, encoded, strict=True) if token.strip() and id in row]
    if found:
        logger.warning("text can't be kept from holding the control tokens %s of this tokenizer", found)


def restore(text: str, info: TemplateInfo, role: str = "assistant") -> str:
    """Return the content of a `role` turn that `prepare_messages` changed into `text`, to show it to a person."""
    return mend_strings(text, forbidden_strings(info, role), info.headings)


def forbidden_strings(info: TemplateInfo, role: str) -> tuple[str, ...]:
    """The strings that a turn of this role may not contain.

    An answer may hold the marks of tools where its calls are not read out of it: they are what a model wrote.
    """
    is_answer = role == "assistant"
    marks = info.tools.marks if info.tools and (not is_answer or info.tools.style == HERMES) else ()
    everyones = (*info.control_strings, *info.markers, *(TAGS if info.has_thoughts else ()), *marks)
    return tuple(dict.fromkeys(everyones if is_answer else (*everyones, *info.user_strings)))


class Neutraliser:
    """Breaks what texts may not contain, and counts it. info: of the template."""

    def __init__(self, info: TemplateInfo):
        self.info, self.num_changes = info, 0

    def text(self, text: str, role: str = "user") -> str:
        """A text of a turn of this role."""
        changed, count = break_strings(text, forbidden_strings(self.info, role), self.info.headings)
        self.num_changes += count
        return changed

    def value(self, value: Any, role: str = "user") -> Any:
        """JSON with each text in it changed, the keys as well."""
        if isinstance(value, str):
            return self.text(value, role)
        if isinstance(value, Mapping):
            return {self.text(str(key), role): self.value(item, role) for key, item in value.items()}
        return [self.value(item, role) for item in value] if isinstance(value, list | tuple) else value

    def content(self, message: dict) -> str:
        """The content of a turn; in a user's the first marker between instruction and input stays."""
        content = message["content"]
        parts = [content]
        if message["role"] == "user" and "### Input:" in self.info.headings:
            first, last = len(content) - len(content.lstrip()), len(content.rstrip())
            position = content.find(INPUT_MARKER, first, last)
            if position >= 0:
                parts = [content[:position], content[position + len(INPUT_MARKER) :]]
        return INPUT_MARKER.join(self.text(part, message["role"]) for part in parts)

    def turn(self, message: dict) -> dict:
        """A turn: its content, its thought, its calls, and what names a result."""
        changed: dict[str, Any] = {"content": self.content(message)}
        changed |= {name: self.text(message[name]) for name in (THOUGHT, *RESULT_KEYS) if message.get(name)}
        if message.get(CALLS):
            changed[CALLS] = [self.call(call) for call in message[CALLS]]
        return message | changed

    def call(self, call: Mapping) -> dict:
        """A call of an answer; its texts may hold no more than a user's."""
        named = {"id": self.text(str(call["id"]))} if call.get("id") else {}
        function = call["function"]
        arguments = self.value(function["arguments"])
        return {**named, "type": "function", "function": {"name": check_name(function["name"]), "arguments": arguments}}


def prepare_messages(
    messages: list[dict], tokenizer: PreTrainedTokenizerBase, info: TemplateInfo
) -> tuple[list[dict], int]:
    """Return messages in which no text is a control token or a heading of the template, and the number of changes.

    Training, chat and evaluation all render these. In a user turn of a template with "### Input:", the first marker
    between instruction and input (see `formats.to_messages`) stays. Where the template has a place for thoughts and
    calls, those that an answer's text holds stand apart. Raises UserError for thoughts, tools, calls and results
    without a place.
    """
    bare, tools = tools_apart(messages)
    names = names_of(tools) or None
    turns = [in_its_place(message, info, names) for message in bare]
    check_place(turns, tools, info)
    neutraliser = Neutraliser(info)
    prepared = [neutraliser.turn(turn) for turn in turns]
    return with_tools(prepared, neutraliser.value(tools)), neutraliser.num_changes


def in_its_place(message: dict, info: TemplateInfo, names: list[str] | None) -> dict:
    """A turn whose thought and calls, if it has any, stand apart; UserError for a thought without a place.

    names: of the tools that may be called, None for any.
    """
    if message["role"] != "assistant":
        return message
    if info.has_thoughts:
        message = thought_apart(message)
    elif message.get(THOUGHT) is not None:
        raise UserError(
            f'the template {info.name} has no place for thoughts ("{THOUGHT}"); {other_templates()}, or write them '
            "in front of the answer, <think>...</think>"
        )
    return calls_apart(message, names) if info.tools and info.tools.takes_turns else message


def check_place(messages: list[dict], tools: list[dict], info: TemplateInfo) -> None:
    """Raise UserError for tools, or turns of them, that the template does not show."""
    if tools and not (info.tools and info.tools.takes_tools):
        raise UserError(f"the template {info.name} has no place for tools; {other_templates()}, or leave the tools out")
    if has_tool_turns(messages) and not (info.tools and info.tools.takes_turns):
        raise UserError(
            f"the template {info.name} has no place for tool calls and their results; {other_templates()}, or write "
            "them as text"
        )


def other_templates() -> str:
    """What to do where a template has no place: the bundled ones that have places for thoughts and tools."""
    names = (name for name in list_assets("templates") if has_place_for_thoughts(read_template(name)))
    return f"use --template {'|'.join(names)}"


def render_training(
    messages: list[dict], tokenizer: PreTrainedTokenizerBase, info: TemplateInfo, untrained: Collection[int] = ()
) -> tuple[str, list[Span]]:
    """Return prepared messages as text, and for each assistant turn the characters of its answer with the end token.

    untrained: places of answers, among the turns that are rendered, that are context; their spans may be empty.
    Raises RewritesEarlier where a trained answer is rendered differently once more turns follow.
    """
    if info.trains_with == "offsets":
        return render_prefixes(messages, tokenizer, info.control_strings, untrained)
    return render_marked(messages, tokenizer, info.training_template)
