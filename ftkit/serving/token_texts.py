"""Tokens as clients read them: the text of one, and its bytes, which may be a part of a character.

token_entry(tokenizer, 123, -0.25)  # {"token": " the", "logprob": -0.25, "bytes": [32, 116, 104, 101]}
"""

import json
from functools import lru_cache

from transformers.convert_slow_tokenizer import bytes_to_unicode

HALF = "\N{REPLACEMENT CHARACTER}"
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # as a sentencepiece vocabulary writes one


def token_entry(tokenizer, token: int, log_prob: float | None, *, by_id: bool = False) -> dict:
    """A token with its log-probability, in nats. by_id: see `token_text`."""
    text = token_text(tokenizer, token, by_id=by_id)
    return {"token": text, "logprob": log_prob, "bytes": list(token_bytes(tokenizer, token))}


def token_text(tokenizer, token: int, *, by_id: bool = False) -> str:
    """The text of a token; for a part of a character as OpenAI writes it: "bytes:\\xe9".

    by_id: as vLLM writes it where it was asked for `return_tokens_as_token_ids`: "token_id:123".
    """
    if by_id:
        return f"token_id:{token}"
    text = lone_text(tokenizer, token)
    if HALF not in text:
        return text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token_bytes(tokenizer, token))


def token_bytes(tokenizer, token: int) -> bytes:
    """What a token writes."""
    name = tokenizer.convert_ids_to_tokens(token) or ""
    letters = byte_letters(tokenizer)
    if letters and name not in added_tokens(tokenizer) and all(letter in letters for letter in name):
        return bytes(letters[letter] for letter in name)
    if len(name) == 6 and name.startswith("<0x"):  # a byte of a sentencepiece vocabulary
        return bytes.fromhex(name[3:5])
    return lone_text(tokenizer, token).encode()


def lone_text(tokenizer, token: int) -> str:
    """A token decoded by itself, with the space before it that some decoders leave out where a text begins."""
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    has_space = (tokenizer.convert_ids_to_tokens(token) or "").startswith(SPACE)
    return f" {text}" if has_space and not text.startswith(" ") else text


def num_letters(tokenizer, token: int) -> int:
    """Characters that begin in a token; none in one that answers do not show."""
    if token in special_ids(tokenizer):
        return 0
    return sum(byte & 0xC0 != 0x80 for byte in token_bytes(tokenizer, token))


@lru_cache(maxsize=32)
def byte_letters(tokenizer) -> dict[str, int]:
    """The byte of each letter of a byte-level vocabulary; {} for any other."""
    decoder = json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {}
    kinds = {decoder.get("type"), *(part.get("type") for part in decoder.get("decoders", ()))}
    return {letter: byte for byte, letter in bytes_to_unicode().items()} if "ByteLevel" in kinds else {}


@lru_cache(maxsize=32)
def added_tokens(tokenizer) -> frozenset[str]:
    """Tokens that are written as they are."""
    return frozenset(tokenizer.get_added_vocab())


@lru_cache(maxsize=32)
def special_ids(tokenizer) -> frozenset[int]:
    """Tokens that answers do not show."""
    return frozenset(tokenizer.all_special_ids)
