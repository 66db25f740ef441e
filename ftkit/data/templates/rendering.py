"""Renders conversations as text and finds the characters of their answers, with or without generation markers.

text, spans = render_marked(messages, tokenizer)
"""

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from ftkit.config.assets import list_assets
from ftkit.config.errors import LimitError, UserError, first_line
from ftkit.config.foreign import tried, within
from ftkit.data.rows.thoughts import THOUGHT
from ftkit.data.rows.tools import CALLS, TOOLS, tools_apart

Span = tuple[int, int]  # characters [start, end) of a rendered conversation
Tokens = tuple[tuple[str, str | tuple[str, ...]], ...]  # the special tokens that a template may name

STAND_IN = "\u2060\u2060"  # for an answer: in no template, and no white space that one might strip
MAX_CHARACTERS = 2**17  # of a template; the longest known ones have a sixth of it
RENDER_SECONDS = 2  # of the processor, for a conversation
OTHER_TEMPLATE = "choose another one by --template"
TURNS = [{"role": "user", "content": "Hi.\n 1 2"}, {"role": "assistant", "content": "Yes."}] * 8
TRIALS = (
    # messages, whether they end where the assistant's answer starts
    (TURNS[:1], True),
    (TURNS[:2], False),
    ([{"role": "system", "content": "Be brief."}, *TURNS[:3]], True),
    (TURNS, False),
)
THOUGHTS_COMMENT = re.compile(r"\{#-? thoughts: <think> </think> -?#\}")
GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


def own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the template that came with the tokenizer; raise UserError if there is none."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        names = "|".join(list_assets("templates"))
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no chat template; choose one: --template {names}")
    if not isinstance(template, str):
        raise UserError(f"{tokenizer.name_or_path}: its chat template is not text; {OTHER_TEMPLATE}")
    return template


def has_place_for_thoughts(template: str) -> bool:
    """Whether a template declares that it renders the thoughts of answers, "reasoning_content"."""
    return THOUGHTS_COMMENT.search(template) is not None


def render(
    messages: list[dict],
    tokenizer: PreTrainedTokenizerBase,
    add_generation_prompt: bool = False,
    template: str | None = None,
    settings: Mapping | None = None,
) -> str:
    """Return the conversation as text. Raises UserError with the template's own reason if it refuses the messages.

    settings: what else the template is given: `tools`, `continue_final_message`, and variables of its own.
    """
    return render_marked(messages, tokenizer, template, add_generation_prompt, settings)[0]


def render_marked(
    messages: list[dict],
    tokenizer: PreTrainedTokenizerBase,
    template: str | None = None,
    add_generation_prompt: bool = False,
    settings: Mapping | None = None,
) -> tuple[str, list[Span]]:
    """Return the conversation as text and the characters inside `{% generation %}`, one span per answer."""
    template = template or own_template(tokenizer)
    messages, tools = tools_apart(messages)
    settings = {**(settings or {}), **({TOOLS: tools} if tools else {})}
    named = tokenizer.special_tokens_map.items()
    tokens = tuple((name, tuple(token) if isinstance(token, list) else token) for name, token in named)
    where = f"{tokenizer.name_or_path}: the template"
    try_template(template, tokens, where)
    with within(RENDER_SECONDS, where, OTHER_TEMPLATE):
        return _render(as_taken(messages, template, tokens), template, add_generation_prompt, tokens, settings)


def as_taken(messages: list[dict], template: str, tokens: Tokens) -> list[dict]:
    """Messages whose thoughts and calls are as this template reads them: gpt-oss has the key "thinking", and DeepSeek's
    arguments are texts of JSON."""
    if '"thinking"' in template:
        messages = [{**turn, "thinking": turn[THOUGHT]} if turn.get(THOUGHT) else turn for turn in messages]
    if not any(turn.get(CALLS) for turn in messages) or not takes_text_arguments(template, tokens):
        return messages
    return [
        {**turn, CALLS: list(map(with_text_arguments, turn[CALLS]))} if turn.get(CALLS) else turn for turn in messages
    ]


def with_text_arguments(call: dict) -> dict:
    """A call whose arguments are a text of JSON."""
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}


@lru_cache
def takes_text_arguments(template: str, tokens: Tokens) -> bool:
    """Whether a template takes a call with its arguments as text alone."""
    call = {"id": "sentinel1", "type": "function", "function": {"name": "a", "arguments": {"b": "c"}}}
    for text_call, taken in ((call, False), (with_text_arguments(call), True)):
        with suppress(UserError):
            messages = [*TURNS[:1], {"role": "assistant", "content": "", CALLS: [text_call]}]
            _render(messages, template, False, tokens, {})
            return taken
    return False


def _render(
    messages: list[dict], template: str, add_generation_prompt: bool, tokens: Tokens, settings: Mapping
) -> tuple[str, list[Span]]:
    """As `render_marked`, without limits."""
    try:
        texts, spans = render_jinja_template(
            conversations=[messages],
            chat_template=template,
            return_assistant_tokens_mask=GENERATION_TAG.search(template) is not None,
            add_generation_prompt=add_generation_prompt,
            **{**settings, **dict(tokens)},
        )
    except MemoryError as error:
        raise LimitError(f"the template needs more memory than there is; {OTHER_TEMPLATE}") from error
    except Exception as error:  # a template is somebody's program, so that whatever it raises is theirs
        reason = first_line(error)
        raise UserError(f"the template refuses this conversation ({reason}); change it or choose --template") from error
    return texts[0], spans[0] if spans else []


@lru_cache
def try_template(template: str, tokens: Tokens, where: str) -> None:
    """Render conversations by a template for the first time where it can do no harm. where: what it is, in a message.

    Raises UserError for one that is huge, LimitError for one that hangs or takes all memory.
    """
    if len(template) > MAX_CHARACTERS:
        raise UserError(f"{where} has more than {MAX_CHARACTERS:,} characters; {OTHER_TEMPLATE}")

    def work() -> None:
        for messages, is_open in TRIALS:
            with suppress(UserError):  # it may take no system text, say
                _render(messages, template, is_open, tokens, {})

    tried(work, where, OTHER_TEMPLATE)


class RewritesEarlier(UserError):
    """A template renders an earlier answer differently once more turns follow."""


def render_prefixes(
    messages: list[dict],
    tokenizer: PreTrainedTokenizerBase,
    controls: tuple[str, ...],
    untrained: Collection[int] = (),
) -> tuple[str, list[Span]]:
    """Find the answers of a template without markers: each begins where the prompt before it ends.

    untrained: places of answers that are context, of which an empty span is given.
    Raises RewritesEarlier if the template renders a prompt, or an answer, differently once more turns follow.
    """
    text = render(messages, tokenizer)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if index in untrained:
            spans.append((0, 0))
            continue
        prompt = render(messages[:index], tokenizer, add_generation_prompt=True)
        through = render(messages[: index + 1], tokenizer)
        start = len(prompt)
        end = end_of_turn(messages[: index + 1], through, start, tokenizer, controls)
        if not text.startswith(prompt) or text[start:end] != through[start:end]:
            raise RewritesEarlier(
                "the tokenizer's chat template renders earlier turns differently once more turns follow, so what is "
                f"trained is not what is generated (turn {index + 1}); use --template chatml or single-turn rows"
            )
        spans.append((start, end))
    return text, spans


def end_of_turn(
    messages: list[dict], text: str, start: int, tokenizer: PreTrainedTokenizerBase, controls: tuple[str, ...]
) -> int:
    """Position after the end token of the last message, an answer. text: the messages, rendered; start: of the answer.

    A stand-in without calls shows where an answer stands, and what follows it.
    """
    *earlier, answer = messages
    plain = {name: value for name, value in answer.items() if name != CALLS}
    stand_in = render([*earlier, plain | {"content": STAND_IN}], tokenizer)
    place = stand_in.rfind(STAND_IN)
    if not answer.get(CALLS):
        return end_of_answer(text, max(start, place), answer["content"].strip(), controls)
    after = stand_in[place + len(STAND_IN) :]
    end = end_of_answer(after, 0, "", controls)
    return len(text) - len(after) + end if place >= 0 and text.endswith(after) else len(text.rstrip())


def end_of_answer(text: str, start: int, answer: str, controls: tuple[str, ...]) -> int:
    """Position after the first control token after the answer that begins at `start`, else after its last letter."""
    found = text.find(answer, start)
    behind = found + len(answer) if found >= 0 else start
    ends = [(text.index(token, behind), -len(token)) for token in controls if token in text[behind:]]
    if not ends:
        return len(text.rstrip())
    position, negative_length = min(ends)
    return position - negative_length
