"""Ollama's Modelfile for an exported .gguf: the trained chat template in Go's template language, stop strings.

    pieces = probe_template(tokenizer)
    text = modelfile(pieces, stop_strings(tokenizer, pieces, stored_end_tokens(folder)), begin="")

Nothing is known of any particular template: the conversation's fixed text is read off between the contents of
rendered turns, and the result is compared with the template on other conversations.
Ollama's side: github.com/ollama/ollama, template/template.go (what a template is given) and parser/parser.go (quoting).
"""

import re
from dataclasses import dataclass
from os.path import commonprefix

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.data.templates.answers import special_tokens
from ftkit.data.templates.rendering import own_template, render
from ftkit.data.templates.templates import install_template
from ftkit.inference.end_tokens import end_token_ids
from ftkit.publish.export.gguf_tokenizer import begins_with_bos

ROLES = {"s": "system", "u": "user", "a": "assistant"}
# One letter a turn. The last two are only compared where the template takes them.
CONVERSATIONS = ("u", "su", "uau", "suau", "uauau", "suauau", "uasu", "suasu")
CONTENTS = ("Name a bird.", "crow\n\nand 2 magpies: *Pica pica*", "Ünïcode 鳥?", "x", "- one\n- two", '{"a": "b {c}"}')
TROUBLE_OR_LETTER = re.compile(r'\{\{|"""|.', re.DOTALL)


@dataclass(frozen=True)
class TemplatePieces:
    """The fixed text of a chat template: what stands before and after the content of each role's turns.

    bos: what every conversation begins with. without_system: what follows it where no system turn does.
    default_system: the system text that `without_system` is the rendering of, if it is one ("" then stands there).
    takes_system: whether the template accepts a system turn. ignores_input: whether questions with an
    "### Input:" part begin otherwise in training, which Go's language can't express.
    """

    bos: str
    without_system: str
    default_system: str | None
    prefixes: dict[str, str]
    suffixes: dict[str, str]
    generation_prompt: str
    takes_system: bool
    ignores_input: bool


def probe_template(tokenizer: PreTrainedTokenizerBase) -> TemplatePieces:
    """Read the pieces off the tokenizer's chat template.

    Raises UserError if there is no template, or if it can't be put together from fixed pieces: one that prints the
    date, moves the system text into the first question, or renders a turn by its place.
    """
    if "strftime_now" in own_template(tokenizer):
        raise UserError("the chat template prints today's date, which an Ollama template can't; choose --format gguf")
    pieces = _cut_pieces(tokenizer)
    for kinds in CONVERSATIONS:
        expected = _try_render(messages_of(kinds), tokenizer)
        if expected is None:
            continue
        found = render_pieces(pieces, messages_of(kinds))
        if expected != found:
            position = len(commonprefix([expected, found]))
            raise UserError(
                "the chat template can't be written for Ollama: with turns "
                f"{', '.join(ROLES[kind] for kind in kinds)} it renders {expected[position : position + 30]!r} where "
                f"fixed pieces give {found[position : position + 30]!r}; choose --format gguf"
            )
    return pieces


def _cut_pieces(tokenizer: PreTrainedTokenizerBase) -> TemplatePieces:
    alone, talk = _gaps("u", tokenizer), _gaps("uau", tokenizer)
    closed_question, closed_answer = _gaps("u", tokenizer, False)[-1], _gaps("ua", tokenizer, False)[-1]
    try:
        instructed = _gaps("su", tokenizer)
    except UserError:
        instructed = None
    bos = tokenizer.bos_token if begins_with_bos(tokenizer) else ""
    first = alone[0][len(bos) :]
    # Between an answer and a question: the one's end and the other's heading. Where to part them shows at the end of
    # a conversation, if questions begin so everywhere.
    before_question = [first, talk[2], *([instructed[1]] if instructed else [])]
    question = talk[2].removeprefix(closed_answer)
    if not talk[2].startswith(closed_answer) or not all(gap.endswith(question) for gap in before_question):
        question = _common_suffix(before_question)
    before_answer = (talk[1], alone[1])
    question_end = closed_question if all(gap.startswith(closed_question) for gap in before_answer) else ""
    prefixes = {"user": question, "assistant": talk[1][len(question_end) :]}
    suffixes = {"user": question_end, "assistant": talk[2].removesuffix(question)}
    if instructed:
        prefixes["system"], suffixes["system"] = instructed[0][len(bos) :], instructed[1].removesuffix(question)
    without_system = first.removesuffix(question)
    default_system = _default_system(without_system, prefixes, suffixes)
    with_input = _try_render([{"role": "user", "content": f"A{INPUT_MARKER}B"}], tokenizer)
    pieces = TemplatePieces(
        bos=bos,
        without_system=without_system if default_system is None else "",
        default_system=default_system,
        prefixes=prefixes,
        suffixes=suffixes,
        generation_prompt=alone[1][len(question_end) :],
        takes_system=instructed is not None,
        ignores_input=False,
    )
    ignores_input = with_input != render_pieces(pieces, [{"role": "user", "content": f"A{INPUT_MARKER}B"}])
    return TemplatePieces(**{**vars(pieces), "ignores_input": ignores_input})


def _default_system(without_system: str, prefixes: dict[str, str], suffixes: dict[str, str]) -> str | None:
    """The text of the system turn that `without_system` is, or None if it is no such turn."""
    if "system" not in prefixes or not without_system:
        return None
    start, end = prefixes["system"], suffixes["system"]
    is_turn = without_system.startswith(start) and without_system.endswith(end) and (start or end)
    text = without_system[len(start) : len(without_system) - len(end)] if is_turn else ""
    can_be_quoted = text == text.strip() and go_literal(text) == text
    return text if text and can_be_quoted else None


def _gaps(kinds: str, tokenizer: PreTrainedTokenizerBase, add_generation_prompt: bool = True) -> list[str]:
    """The text before, between and after the contents of a conversation. Raises UserError if one is not rendered."""
    contents = [f"Sentinel{number}letters" for number in range(len(kinds))]
    messages = [{"role": ROLES[kind], "content": content} for kind, content in zip(kinds, contents, strict=True)]
    rest, gaps = render(messages, tokenizer, add_generation_prompt), []
    for content in contents:
        if rest.count(content) != 1:
            raise UserError("the chat template leaves out or repeats a turn, so it can't be written for Ollama")
        gap, rest = rest.split(content)
        gaps.append(gap)
    return [*gaps, rest]


def _common_suffix(texts: list[str]) -> str:
    return commonprefix([text[::-1] for text in texts])[::-1]


def _try_render(messages: list[dict], tokenizer: PreTrainedTokenizerBase) -> str | None:
    try:
        return render(messages, tokenizer, add_generation_prompt=True)
    except UserError:  # some take no system turn, or only a first one
        return None


def messages_of(kinds: str) -> list[dict]:
    """A conversation with turns of these kinds, for comparison."""
    contents = (CONTENTS * 2)[: len(kinds)]
    return [{"role": ROLES[kind], "content": content} for kind, content in zip(kinds, contents, strict=True)]


def render_pieces(pieces: TemplatePieces, messages: list[dict]) -> str:
    """The prompt that the pieces give for a conversation that ends with a question; with the default system text.

    The default goes first, as Ollama does it, unless the conversation begins with a system turn.
    """
    has_system = messages[0]["role"] == "system"
    if not has_system and pieces.default_system is not None:
        messages, has_system = [{"role": "system", "content": pieces.default_system}, *messages], True
    turns = [
        pieces.prefixes.get(role, "") + content + pieces.suffixes.get(role, "")
        for role, content in ((message["role"], message["content"]) for message in messages)
    ]
    start = pieces.bos + ("" if has_system else pieces.without_system)
    return start + "".join(turns) + pieces.generation_prompt


def go_template(pieces: TemplatePieces, begin: str) -> str:
    """The template in Go's language. begin: the bos token where the engine does not put one itself, else "".

    A last assistant turn is left open, so that the model goes on with it.
    """
    text = {name: go_literal(value) for name, value in vars(pieces).items() if isinstance(value, str)}
    before = {role: go_literal(value) for role, value in pieces.prefixes.items()}
    after = {role: go_literal(value) for role, value in pieces.suffixes.items()}
    opening = turns = ""
    if pieces.without_system:
        opening = f'{{{{ if and (eq $i 0) (ne .Role "system") }}}}{text["without_system"]}{{{{ end }}}}'
    for role in ("system", "user"):
        if role in before:
            condition = f'{{{{ {"else if" if turns else "if"} eq .Role "{role}" }}}}'
            turns += f"{condition}{before[role]}{{{{ .Content }}}}{after[role]}"
    turns += '{{ else if eq .Role "assistant" }}' + before["assistant"] + "{{ .Content }}"
    turns += f"{{{{ if not $last }}}}{after['assistant']}{{{{ end }}}}{{{{ end }}}}"
    prompt = ""
    if pieces.generation_prompt:
        prompt = f'{{{{ if and $last (ne .Role "assistant") }}}}{text["generation_prompt"]}{{{{ end }}}}'
    last = "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
    return f"{go_literal(begin)}{{{{ range $i, $_ := .Messages }}}}{last}{opening}{turns}{prompt}{{{{ end }}}}"


def go_literal(text: str) -> str:
    """Text as it stands in a Go template inside a Modelfile's triple quotes.

    What either would misread is written as an escaped string: opening braces, triple quotes, a brace or quote at the
    end, and unprintable letters, which Ollama's parser drops.
    """
    parts = TROUBLE_OR_LETTER.findall(text)
    for place, part in enumerate(parts):
        is_fine = len(part) == 1 and (part.isprintable() or part in "\n\t")
        if not is_fine or (place == len(parts) - 1 and part in '{"'):
            letters = "".join(letter if letter == "{" else f"\\U{ord(letter):08x}" for letter in part)
            parts[place] = f'{{{{ "{letters}" }}}}'
    return "".join(parts)


def stop_strings(
    tokenizer: PreTrainedTokenizerBase, pieces: TemplatePieces | None, own: int | list[int] | None
) -> list[str]:
    """What ends an answer: the end tokens, and text that closes a turn where the tokenizer lacks the token.

    pieces: None for a model without a chat template. own: the model's end tokens (`stored_end_tokens`); those that are
    unknown to the tokenizer are left out. Text that closes a turn matters for a model that was trained on it: it may
    write it.
    """
    if pieces is None:
        ends = end_token_ids(tokenizer, None, own)
        return [tokenizer.decode([token]) for token in ends if token < len(tokenizer)]
    info = install_template(tokenizer)
    after_turns = "".join(pieces.suffixes.values())
    as_text = [text for text in info.control_strings if text in after_turns and text not in special_tokens(tokenizer)]
    ends = [tokenizer.decode([token]) for token in end_token_ids(tokenizer, info, own) if token < len(tokenizer)]
    return list(dict.fromkeys([*ends, *as_text]))


def modelfile(
    pieces: TemplatePieces | None,
    stops: list[str],
    *,
    begin: str,
    model_file: str = "model.gguf",
    adapter_file: str | None = None,
) -> str:
    """The Modelfile's text. pieces: None for a model that continues text. begin: see `go_template`. adapter_file: of a
    LoRA on the model, that is not merged into it."""
    lines = ["# Made by ftkit export. Use it: ollama create NAME -f Modelfile && ollama run NAME"]
    if pieces is None:
        lines += ["# The model has no chat template: it continues the text of a prompt.", f"FROM ./{model_file}"]
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    else:
        lines += chat_lines(pieces, begin, model_file)
    if adapter_file:
        lines.append(f"ADAPTER ./{adapter_file}")
    for stop in stops:
        quotes = '"""' if '"' in stop else '"'
        lines.append(f"PARAMETER stop {quotes}{stop}{quotes}")
    return "\n".join(lines) + "\n"


def chat_lines(pieces: TemplatePieces, begin: str, model_file: str) -> list[str]:
    """The Modelfile's lines about a chat template, with what a person must know of it."""
    lines = [
        "# TEMPLATE renders what the chat template in the .gguf does; that one also trims white space around a turn.",
        "# Training broke control tokens and headings inside messages; Ollama does not, so a user's text can forge a",
        "# turn here. Neutralise it first where that matters (ftkit.data.templates.templates.prepare_messages).",
    ]
    if pieces.ignores_input:
        lines.append(
            '# Questions with an "### Input:" part had another opening in training, which can\'t be expressed here.'
        )
    if not pieces.takes_system:
        lines.append("# The chat template refuses a system turn; one is left out here.")
    lines += [f"FROM ./{model_file}", f'TEMPLATE """{go_template(pieces, begin)}"""']
    if pieces.default_system is not None:
        lines.append(f'SYSTEM """{pieces.default_system}"""')
    return lines
