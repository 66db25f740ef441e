"""A tokenizer and its chat template as GGUF metadata: the vocabulary, how words are cut, special tokens.

    metadata = describe_tokenizer(tokenizer, num_rows=model.config.vocab_size)
    write_tokenizer(writer, metadata)

Byte-level BPE only (GPT-2, SmolLM2, Llama 3, Qwen2). Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import json
import logging
import re
from dataclasses import dataclass

from gguf import GGUFWriter, TokenType
from tokenizers import Regex, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.templates.answers import PROBES, probe_messages
from ftkit.data.templates.rendering import own_template, render
from ftkit.data.templates.templates import install_template

logger = logging.getLogger(__name__)

GPT2_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
DIGITS = "{digits}"
# Llama 3 and Qwen2 differ in how many digits stay together. Source: llama.cpp, src/llama-vocab.cpp.
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|{digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _split_by(digits: str) -> pre_tokenizers.PreTokenizer:
    pattern = Regex(LLAMA3_PATTERN.replace(DIGITS, digits))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, behavior="isolated"), bytes_only])


# How llama.cpp cuts text into words under each value of tokenizer.ggml.pre.
PRE_TOKENIZERS = {
    "gpt-2": lambda: GPT2_SPLIT,
    "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2_SPLIT]),
    "llama-bpe": lambda: _split_by(r"\p{N}{1,3}"),
    "qwen2": lambda: _split_by(r"\p{N}"),
}
# Text on which the four differ, and which a fifth is unlikely to cut like any of them.
TRICKY_TEXT = (
    "It's 3 o'clock, WE'LL pay 1234567 or 3.14; don't\n\n\n ask   why!?...\r\n\tif (x_1 >= 10) { return y--; }   \n"
    'ein Straßenname, 我想在 2024 年, ¿qué?, ½ ٣٤ naïve_word  — \'RE "quoted"/path/to_file.py #hash 🙂🙂 a\u00a0b \n \n'
)
GENERATION_TAGS = re.compile(r"\{%([-+]?)\s*(generation|endgeneration)\s*([-+]?)%\}")


@dataclass(frozen=True)
class TokenizerMetadata:
    """What a GGUF file says of a tokenizer.

    pre: llama.cpp's name of the way text is cut into words; is_pre_known: whether it cuts as this tokenizer does.
    special_ids: GGUF's name of a special token ("bos", "eos", "eot"...) and its id.
    """

    tokens: list[str]
    token_types: list[int]
    merges: list[str]
    pre: str
    is_pre_known: bool
    special_ids: dict[str, int]
    add_bos: bool
    add_eos: bool
    chat_template: str | None


def describe_tokenizer(tokenizer: PreTrainedTokenizerBase, num_rows: int) -> TokenizerMetadata:
    """Return the metadata of a tokenizer, its vocabulary filled up to the model's `num_rows` embeddings.

    Raises UserError if it is no byte-level BPE, knows more tokens than the model embeds, or if its chat template
    renders different text without `{% generation %}`.
    """
    if not tokenizer.is_fast:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no tokenizer.json; save it as a fast tokenizer")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    _check_byte_level(tokenizer, state)
    if len(tokenizer) > num_rows:
        raise UserError(f"the tokenizer has {len(tokenizer)} tokens and the model embeds {num_rows}; resize the model")
    tokens, types = _vocabulary(tokenizer, num_rows)
    pre, is_known = find_pre_tokenizer(tokenizer)
    template = portable_template(tokenizer) if tokenizer.chat_template else None
    add_bos, add_eos = _added_to_text(tokenizer, template)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
    ids = _special_ids(tokenizer, template)
    return TokenizerMetadata(tokens, types, merges, pre, is_known, ids, add_bos, add_eos, template)


def _check_byte_level(tokenizer: PreTrainedTokenizerBase, state: dict) -> None:
    model = state["model"]
    decoder = json.dumps(state.get("decoder"))
    if model["type"] != "BPE" or model.get("byte_fallback") or "ByteLevel" not in decoder:
        kind = f"{model['type']}{' with byte fallback' if model.get('byte_fallback') else ''}"
        raise UserError(
            f"{tokenizer.name_or_path}: the tokenizer is {kind}; GGUF export knows byte-level BPE (GPT-2, SmolLM2, "
            "Llama 3, Qwen2); use llama.cpp's own converter on a plain folder (ftkit export --format llama)"
        )


def _vocabulary(tokenizer: PreTrainedTokenizerBase, num_rows: int) -> tuple[list[str], list[int]]:
    """Every row's token and GGUF type; rows without a token get a name that no text produces."""
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for row in range(num_rows):
        token = tokenizer.convert_ids_to_tokens(row)
        if token is None:
            tokens.append(f"[PAD{row}]")
            types.append(TokenType.UNUSED)
        else:
            tokens.append(token)
            kind = TokenType.CONTROL if row in added and added[row].special else TokenType.USER_DEFINED
            types.append(kind if row in added else TokenType.NORMAL)
    return tokens, types


def find_pre_tokenizer(tokenizer: PreTrainedTokenizerBase) -> tuple[str, bool]:
    """llama.cpp's name of the way this tokenizer cuts text into words, and whether it is exactly that way.

    The words of a probe text are compared, so it does not matter how tokenizer.json spells it. Warns and returns the
    nearest name if none is the same.
    """

    def words(pre_tokenizer) -> list[str]:
        return [word for word, _ in pre_tokenizer.pre_tokenize_str(TRICKY_TEXT)]

    own = tokenizer.backend_tokenizer.pre_tokenizer
    found = words(own) if own is not None else []
    references = {name: words(make()) for name, make in PRE_TOKENIZERS.items()}
    for name, expected in references.items():
        if found == expected:
            return name, True
    nearest = max(references, key=lambda name: len(set(found) & set(references[name])))
    logger.warning(
        'the tokenizer cuts text like none of %s; "%s" is written into the file, so some text becomes different tokens',
        ", ".join(references),
        nearest,
    )
    return nearest, False


def portable_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template without `{% generation %}`, which other engines than transformers and vLLM do not know.

    The tags become `{% if true %}`, so that white space is cut as before. Raises UserError if it then renders other
    text (a variable set between the tags and read after them would do that).
    """
    template = own_template(tokenizer)
    statements = {"generation": "if true", "endgeneration": "endif"}
    portable = GENERATION_TAGS.sub(lambda match: f"{{%{match[1]} {statements[match[2]]} {match[3]}%}}", template)
    for probe in PROBES:
        for prompt_only in (False, True):
            messages = probe_messages(probe)[: -1 if prompt_only else None]
            texts = [_rendered(messages, tokenizer, prompt_only, source) for source in (template, portable)]
            if texts[0] != texts[1]:
                raise UserError(
                    "the chat template renders different text without its generation markers; don't set a variable "
                    "between {% generation %} and {% endgeneration %}"
                )
    return portable


def _rendered(messages: list[dict], tokenizer, add_generation_prompt: bool, template: str) -> str | None:
    try:
        return render(messages, tokenizer, add_generation_prompt, template)
    except UserError:  # a template may refuse a system turn
        return None


def _added_to_text(tokenizer: PreTrainedTokenizerBase, template: str | None) -> tuple[bool, bool]:
    """Whether an engine shall put bos before, and eos behind, every text.

    Engines do that to rendered conversations too. So bos is announced only if the template begins with it as well
    (llama.cpp then writes one); else conversations would start with a token they were not trained with.
    """
    ids = tokenizer("a")["input_ids"]
    adds_bos = tokenizer.bos_token_id is not None and len(ids) > 1 and ids[0] == tokenizer.bos_token_id
    adds_eos = tokenizer.eos_token_id is not None and len(ids) > 1 and ids[-1] == tokenizer.eos_token_id
    if template is None:
        return adds_bos, adds_eos
    if adds_bos and not begins_with_bos(tokenizer):
        logger.warning(
            "the tokenizer puts %s before text, the chat template does not; the file says no, as conversations were "
            "trained without",
            tokenizer.bos_token,
        )
        adds_bos = False
    return adds_bos, False


def begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template writes the tokenizer's bos token first, and not in front of every turn (SmolLM2)."""
    text, bos = render(probe_messages(PROBES[0]), tokenizer), tokenizer.bos_token
    return bool(bos) and text.startswith(bos) and text.count(bos) == 1


def _special_ids(tokenizer: PreTrainedTokenizerBase, template: str | None) -> dict[str, int]:
    names = {"bos": "bos", "eos": "eos", "unk": "unk", "pad": "pad"}
    ids = {name: getattr(tokenizer, f"{attribute}_token_id") for name, attribute in names.items()}
    if template is not None:
        ids["eot"] = install_template(tokenizer).end_of_turn_id
    return {name: token_id for name, token_id in ids.items() if token_id is not None}


def write_tokenizer(writer: GGUFWriter, metadata: TokenizerMetadata) -> None:
    """Add a tokenizer to a GGUF file that is being written."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(metadata.pre)
    writer.add_token_list(metadata.tokens)
    writer.add_token_types(metadata.token_types)
    writer.add_token_merges(metadata.merges)
    for name, token_id in metadata.special_ids.items():
        getattr(writer, f"add_{name}_token_id")(token_id)
    # Always said: llama.cpp's own default depends on the pre-tokenizer.
    writer.add_add_bos_token(metadata.add_bos)
    writer.add_add_eos_token(metadata.add_eos)
    if metadata.chat_template is not None:
        writer.add_chat_template(metadata.chat_template)
