"""Renders conversations as text and finds the characters of their answers, with or without generation markers.

text, spans = render_marked(messages, tokenizer)
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from ftkit.config.assets import list_assets
from ftkit.config.errors import LimitError, UserError, first_line
from ftkit.config.foreign import tried, within

Span = tuple[int, int]  # characters [start, end) of a rendered conversation
Tokens = tuple[tuple[str, str | tuple[str, ...]], ...]  # the special tokens that a template may name

STAND_IN = "\u2060"  # for an answer: in no template, and no white space that one might strip
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
    named = tokenizer.special_tokens_map.items()
    tokens = tuple((name, tuple(token) if isinstance(token, list) else token) for name, token in named)
    where = f"{tokenizer.name_or_path}: the template"
    try_template(template, tokens, where)
    with within(RENDER_SECONDS, where, OTHER_TEMPLATE):
        return _render(messages, template, add_generation_prompt, tokens, settings or {})


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


def render_prefixes(
    messages: list[dict], tokenizer: PreTrainedTokenizerBase, controls: tuple[str, ...]
) -> tuple[str, list[Span]]:
    """Find the answers of a template without markers: each begins where the prompt before it ends.

    Raises UserError if the template renders a prompt, or an answer, differently once more turns follow.
    """
    text = render(messages, tokenizer)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(messages[:index], tokenizer, add_generation_prompt=True)
        through = render(messages[: index + 1], tokenizer)
        start = len(prompt)
        stand_in = render([*messages[:index], {**message, "content": STAND_IN}], tokenizer)
        place = max(start, stand_in.find(STAND_IN, start))  # after what the template writes first, such as " to=user"
        end = end_of_answer(through, place, message["content"].strip(), controls)
        if not text.startswith(prompt) or text[start:end] != through[start:end]:
            raise UserError(
                "the tokenizer's chat template renders earlier turns differently once more turns follow, so what is "
                f"trained is not what is generated (turn {index + 1}); use --template chatml or single-turn rows"
            )
        spans.append((start, end))
    return text, spans


def end_of_answer(text: str, start: int, answer: str, controls: tuple[str, ...]) -> int:
    """Position after the first control token after the answer that begins at `start`, else after its last letter."""
    found = text.find(answer, start)
    behind = found + len(answer) if found >= 0 else start
    ends = [(text.index(token, behind), -len(token)) for token in controls if token in text[behind:]]
    if not ends:
        return len(text.rstrip())
    position, negative_length = min(ends)
    return position - negative_length
