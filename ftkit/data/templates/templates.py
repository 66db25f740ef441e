"""Prompt templates: puts a chat template on a tokenizer and says which characters of a conversation are trained.

    info = install_template(tokenizer, "alpaca")
    messages, num_changed = prepare_messages(messages, tokenizer, info)
    text, spans = render_training(messages, tokenizer, info)

A template is a Hugging Face chat template and nothing else; `{% generation %}` marks an answer and its end token.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from transformers import AddedToken, PreTrainedTokenizerBase

from ftkit.config.assets import asset_path, list_assets
from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.foreign import foreign, within
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.data.rows.thoughts import TAGS, THOUGHT, thought_apart
from ftkit.data.templates.forgery import break_strings, mend_strings
from ftkit.data.templates.rendering import (
    GENERATION_TAG,
    OTHER_TEMPLATE,
    RENDER_SECONDS,
    Span,
    has_place_for_thoughts,
    own_template,
    render,
    render_marked,
    render_prefixes,
)
from ftkit.data.templates.role_markers import role_markers

logger = logging.getLogger(__name__)

# Their length is bounded so that many unclosed ones take no time.
CONTROL_TOKENS_COMMENT = re.compile(r"\{#-? control tokens: (.{0,4096}?) -?#\}")
HEADINGS_COMMENT = re.compile(r"\{#-? headings: (.{0,4096}?) -?#\}")
ANSWERS_TAG = re.compile(r"</?[a-z_]+>")  # such as <think>: no role, and answers may contain it
END_OF_TURN_LINE = re.compile(r"(\{%- set end_of_turn = )'([^']*)'( -%\})")
HEADER_GAP_LINE = re.compile(r"(\{%- set header_gap = )'\\n\\n'( -%\})")
PROBES = (
    [("user", "What is two plus two?"), ("assistant", "It is four.")],
    [("system", "Be brief."), ("user", "A bird?"), ("assistant", "Crow."), ("user", "A fish?"), ("assistant", "Eel.")],
)


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
    if (has_thoughts := has_place_for_thoughts(source)) and not renders_thoughts(tokenizer):
        raise UserError(f"template {name}: it declares thoughts, but does not write them as <think> ... </think>")
    thoughts = [token for token in tokenizer.get_added_vocab() if token in source and token not in controls]
    anywhere, at_line_start = role_markers(tokenizer, controls)
    thoughts += [tag for tag in anywhere if ANSWERS_TAG.fullmatch(tag) and tag not in thoughts]
    thoughts = [] if has_thoughts else thoughts
    warn_of_unbreakable(tokenizer, (*controls, *thoughts, *(TAGS if has_thoughts else ())))
    return TemplateInfo(
        name=name,
        end_of_turn=end_of_turn,
        end_of_turn_id=end_of_turn_id,
        added_tokens=added,
        trains_with=trains_with,
        fingerprint=fingerprint,
        control_strings=controls,
        headings=tuple(dict.fromkeys((*headings, *at_line_start))),
        user_strings=tuple(thoughts),
        markers=tuple(marker for marker in anywhere if marker not in thoughts),
        training_template=variant,
        has_thoughts=has_thoughts,
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


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The texts that the tokenizer turns into one control id, wherever they stand."""
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


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


def renders_thoughts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template on the tokenizer writes the thought of an answer between its tags."""
    question, answer = probe_messages(PROBES[0])
    text = render([question, answer | {THOUGHT: "Two and two."}], tokenizer)
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
    """Whether another template renders the probe conversations as the tokenizer's own does."""
    for messages in map(probe_messages, PROBES):
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
    """The strings that a turn of this role may not contain."""
    everyones = (*info.control_strings, *info.markers, *(TAGS if info.has_thoughts else ()))
    return everyones if role == "assistant" else (*everyones, *info.user_strings)


def prepare_messages(
    messages: list[dict], tokenizer: PreTrainedTokenizerBase, info: TemplateInfo
) -> tuple[list[dict], int]:
    """Return messages in which no text is a control token or a heading of the template, and the number of changes.

    Training, chat and evaluation all render these. In a user turn of a template with "### Input:", the first marker
    between instruction and input (see `formats.to_messages`) stays. Where the template has a place for thoughts, the
    one that an answer begins with stands apart. Raises UserError for one that stands apart and has no place.
    """
    prepared, num_changes = [], 0
    for message in (with_thought_in_place(message, info) for message in messages):
        content = message["content"]
        parts = [content]
        if message["role"] == "user" and "### Input:" in info.headings:
            first, last = len(content) - len(content.lstrip()), len(content.rstrip())
            position = content.find(INPUT_MARKER, first, last)
            if position >= 0:
                parts = [content[:position], content[position + len(INPUT_MARKER) :]]
        strings = forbidden_strings(info, message["role"])
        broken = [break_strings(part, strings, info.headings) for part in parts]
        num_changes += sum(count for _, count in broken)
        changed = {"content": INPUT_MARKER.join(text for text, _ in broken)}
        if THOUGHT in message:
            changed[THOUGHT], count = break_strings(message[THOUGHT], strings, info.headings)
            num_changes += count
        prepared.append(message | changed)
    return prepared, num_changes


def with_thought_in_place(message: dict, info: TemplateInfo) -> dict:
    """A turn whose thought, if it has one, stands apart; UserError for one that the template has no place for."""
    if info.has_thoughts:
        return thought_apart(message) if message["role"] == "assistant" else message
    if message.get(THOUGHT) is not None:
        names = "|".join(name for name in list_assets("templates") if has_place_for_thoughts(read_template(name)))
        raise UserError(
            f'the template {info.name} has no place for thoughts ("{THOUGHT}"); use --template {names}, or write them '
            "in front of the answer, <think>...</think>"
        )
    return message


def render_training(
    messages: list[dict], tokenizer: PreTrainedTokenizerBase, info: TemplateInfo
) -> tuple[str, list[Span]]:
    """Return prepared messages as text, and for each assistant turn the characters of its answer with the end token."""
    if info.trains_with == "offsets":
        return render_prefixes(messages, tokenizer, info.control_strings)
    return render_marked(messages, tokenizer, info.training_template)
