"""How the answers of a template are found: by its own markers, by those of TRL's variant of it, or by offsets.

    trains_with, variant = find_markers(tokenizer, source, controls, allow_variant=True)
    token, id = find_end_of_turn(tokenizer, trains_with, variant, controls, "chatml")

Small conversations are rendered to see it.
"""

import logging
import re

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.config.foreign import foreign, within
from ftkit.data.rows.thoughts import THOUGHT
from ftkit.data.rows.tools import with_tools
from ftkit.data.templates.rendering import (
    GENERATION_TAG,
    OTHER_TEMPLATE,
    RENDER_SECONDS,
    render,
    render_marked,
    render_prefixes,
)
from ftkit.data.templates.tools import PROBE_CALL, PROBE_RESULT, PROBE_TOOL

logger = logging.getLogger(__name__)

PROBES = (
    [("user", "What is two plus two?"), ("assistant", "It is four.")],
    [("system", "Be brief."), ("user", "A bird?"), ("assistant", "Crow."), ("user", "A fish?"), ("assistant", "Eel.")],
)
PROBE_THOUGHT = "Two and two."


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The texts that the tokenizer turns into one control id, wherever they stand."""
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def find_markers(
    tokenizer: PreTrainedTokenizerBase, source: str, controls: tuple[str, ...], allow_variant: bool
) -> tuple[str, str | None]:
    """Return how answers are found ("markers", "trl" or "offsets") and TRL's training variant where that is used."""
    render(probe_messages(PROBES[0]), tokenizer)  # whatever is wrong with a template is said before TRL meets it
    if GENERATION_TAG.search(source):
        if not marks_end_of_turn(tokenizer, source, controls):
            logger.warning("the template's generation markers leave out the end token; answers are found by offsets")
        elif keeps_prefixes(tokenizer):
            return "markers", None
        else:
            logger.warning(
                "the template renders earlier turns differently once more follow; answers are found by offsets"
            )
    variant = trl_variant(tokenizer) if allow_variant else None
    if variant and renders_the_same(tokenizer, variant) and marks_end_of_turn(tokenizer, variant, controls):
        if not marks_role_prefix(tokenizer, variant) or not has_prefixes(tokenizer, controls):
            return "trl", variant
    return "offsets", None


def shows_thoughts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template on the tokenizer writes the thought of a last answer before it, with something between."""
    question, answer = probe_messages(PROBES[0])
    text = render([question, answer | {THOUGHT: PROBE_THOUGHT}], tokenizer)
    _, found, after = text.partition(PROBE_THOUGHT)
    between, answered, _ = after.partition(answer["content"])
    return bool(found and answered and between.strip())


def writes_thought_tags(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it writes that thought between its tags."""
    question, answer = probe_messages(PROBES[0])
    text = render([question, answer | {THOUGHT: PROBE_THOUGHT}], tokenizer)
    return re.search(r"<think>\s*Two and two\.\s*</think>\s*It is four\.", text) is not None


def keeps_prefixes(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether each generation prompt of the probes is the beginning of the whole conversation."""
    for messages in (probe_messages(PROBES[0]), probe_messages(PROBES[1][1:])):  # some templates take no system turn
        text = render(messages, tokenizer)
        prompts = (messages[:end] for end in range(1, len(messages), 2))
        if not all(text.startswith(render(prompt, tokenizer, add_generation_prompt=True)) for prompt in prompts):
            return False
    return True


def trl_variant(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """TRL's version of the tokenizer's template with generation markers, if it has one."""
    from trl.chat_template_utils import get_training_chat_template

    try:
        with foreign("the template", "TRL knows no variant"), within(RENDER_SECONDS, "the template", OTHER_TEMPLATE):
            return get_training_chat_template(tokenizer)
    except UserError:
        return None


def renders_the_same(tokenizer: PreTrainedTokenizerBase, variant: str) -> bool:
    """Whether another template renders the probe conversations as the tokenizer's own does, with tools and thoughts."""
    question, answer = probe_messages(PROBES[0])
    called = with_tools([question, PROBE_CALL, PROBE_RESULT, answer], [PROBE_TOOL])
    thinking = [question, answer | {THOUGHT: PROBE_THOUGHT}]
    for messages in (*map(probe_messages, PROBES), called, thinking):
        for add_generation_prompt in (False, True):
            texts = []
            for template in (None, variant):
                try:
                    texts.append(render(messages, tokenizer, add_generation_prompt, template))
                except UserError:
                    texts.append(None)
            if texts[0] != texts[1]:
                return False
    return True


def probe_messages(probe: list[tuple[str, str]]) -> list[dict]:
    """A probe as messages."""
    return [{"role": role, "content": content} for role, content in probe]


def marks_end_of_turn(tokenizer: PreTrainedTokenizerBase, template: str, controls: tuple[str, ...]) -> bool:
    """Whether the template's markers cover exactly one span of the first probe, which ends with a control token."""
    text, spans = render_marked(probe_messages(PROBES[0]), tokenizer, template)
    return len(spans) == 1 and text[slice(*spans[0])].endswith(controls)


def marks_role_prefix(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    """Whether the template's markers train a part of what the generation prompt already holds."""
    messages = probe_messages(PROBES[0])
    _, spans = render_marked(messages, tokenizer, template)
    return spans[0][0] < len(render(messages[:1], tokenizer, add_generation_prompt=True))


def has_prefixes(tokenizer: PreTrainedTokenizerBase, controls: tuple[str, ...]) -> bool:
    """Whether the answers of the first and, without its system turn, of the second probe are found by offsets."""
    try:
        for probe in (PROBES[0], PROBES[1][1:]):
            render_prefixes(probe_messages(probe), tokenizer, controls)
    except UserError:
        return False
    return True


def find_end_of_turn(
    tokenizer: PreTrainedTokenizerBase, trains_with: str, variant: str | None, controls: tuple[str, ...], name: str
) -> tuple[str, int]:
    """Return the token that ends the trained span of the first probe, and its id; raise UserError if there is none."""
    messages = probe_messages(PROBES[0])
    if trains_with == "offsets":
        text, spans = render_prefixes(messages, tokenizer, controls)
    else:
        text, spans = render_marked(messages, tokenizer, variant)
    start, end = spans[0]
    endings = [token for token in special_tokens(tokenizer) if text[start:end].endswith(token)]
    if not endings:
        raise UserError(
            f"template {name}: no end token of the tokenizer closes an answer, so the model would never learn to stop; "
            "write eos_token after the answer"
        )
    token = max(endings, key=len)
    return token, tokenizer.convert_tokens_to_ids(token)
