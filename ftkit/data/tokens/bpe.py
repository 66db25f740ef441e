"""Byte-level BPE tokenizers: trained from texts, or GPT-2's own from its two files; and how well they compress.

tokenizer = train_bpe(texts, vocab_size=4096)
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ftkit.config.assets import bundled_gpt2
from ftkit.config.errors import UserError
from ftkit.data.templates.templates import CONTROL_TOKENS_COMMENT, read_template

END_TOKEN, PAD_TOKEN = "<|endoftext|>", "<|pad|>"
NUM_BYTES = 256  # tokens that every byte-level vocabulary has
GPT2_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # the Hub's names, OpenAI's names


def control_tokens(templates: list[str]) -> list[str]:
    """The control tokens that bundled templates or .jinja files declare, each once, in order."""
    found = [CONTROL_TOKENS_COMMENT.findall(read_template(name)) for name in templates]
    return list(dict.fromkeys(token for lists in found for line in lists for token in line.split()))


def train_bpe(texts: Iterable[str], vocab_size: int, extra_tokens: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Learn merges on `texts`. The end token has id 0, the pad token 1, then `extra_tokens`, bytes and merges follow.

    Numbers are split into digits, words as GPT-2 splits them, and nothing is normalised: text comes back byte by byte.
    Raises UserError where `vocab_size` has no room for the bytes and the special tokens, or no texts are given.
    """
    special = list(dict.fromkeys((END_TOKEN, PAD_TOKEN, *extra_tokens)))
    smallest = NUM_BYTES + len(special)
    if vocab_size < smallest:
        raise UserError(
            f"--vocab_size {vocab_size} is below {smallest}: 256 bytes and {len(special)} special tokens; raise it"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    counted = CountedTexts(texts)
    backend.train_from_iterator(counted, trainer)
    if not counted.num_texts:
        raise UserError("there is no text to learn a vocabulary from; give --files with text")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END_TOKEN, pad_token=PAD_TOKEN)


class CountedTexts:
    """Passes texts on and counts them."""

    def __init__(self, texts: Iterable[str]):
        self.texts, self.num_texts = texts, 0

    def __iter__(self):
        for text in self.texts:
            self.num_texts += 1
            yield text


def load_gpt2(folder: str | Path = "", extra_tokens: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """GPT-2's tokenizer: the bundled one, or a folder's vocabulary and merges, by the Hub's names or by OpenAI's.

    Raises UserError where the folder does not hold both.
    """
    folder = Path(folder).expanduser() if folder else bundled_gpt2()
    names = next((names for names in GPT2_FILES if all((folder / name).is_file() for name in names)), None)
    if names is None:
        wanted = " or ".join(" and ".join(names) for names in GPT2_FILES)
        raise UserError(f"{folder}: GPT-2's vocabulary is {wanted}; name the folder that holds them")
    backend = Tokenizer(models.BPE.from_file(*(str(folder / name) for name in names)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END_TOKEN, bos_token=END_TOKEN)
    tokens = [AddedToken(token, special=True, normalized=False) for token in extra_tokens]
    tokenizer.add_tokens(tokens, special_tokens=True)
    return tokenizer


def bytes_per_token(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> float:
    """UTF-8 bytes of the texts over the tokens they become, end tokens not counted."""
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return sum(len(text.encode()) for text in texts) / sum(map(len, encoded))
