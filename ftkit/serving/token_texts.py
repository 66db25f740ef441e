"""Tokens as clients read them: the text of one, and its bytes, which may be a part of a character.

token_entry(tokenizer, 123, -0.25)  # {"token": " the", "logprob": -0.25, "bytes": [32, 116, 104, 101]}
"""

import json
from functools import lru_cache

from transformers.convert_slow_tokenizer import bytes_to_unicode

HALF = "\N{REPLACEMENT CHARACTER}"


def token_entry(tokenizer, token: int, log_prob: float | None) -> dict:
    """A token with its log-probability, in nats."""
    return {"token": token_text(tokenizer, token), "logprob": log_prob, "bytes": list(token_bytes(tokenizer, token))}


def token_text(tokenizer, token: int) -> str:
    """The text of a token; for a part of a character as OpenAI writes it: "bytes:\\xe9"."""
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    if HALF not in text:
        return text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token_bytes(tokenizer, token))


def token_bytes(tokenizer, token: int) -> bytes:
    """What a token writes."""
    name = tokenizer.convert_ids_to_tokens(token) or ""
    letters = byte_letters(tokenizer)
    if letters and name not in tokenizer.get_added_vocab() and all(letter in letters for letter in name):
        return bytes(letters[letter] for letter in name)
    if len(name) == 6 and name.startswith("<0x"):  # a byte of a sentencepiece vocabulary
        return bytes.fromhex(name[3:5])
    return tokenizer.decode([token], clean_up_tokenization_spaces=False).encode()


@lru_cache(maxsize=32)
def byte_letters(tokenizer) -> dict[str, int]:
    """The byte of each letter of a byte-level vocabulary; {} for any other."""
    decoder = json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {}
    kinds = {decoder.get("type"), *(part.get("type") for part in decoder.get("decoders", ()))}
    return {letter: byte for byte, letter in bytes_to_unicode().items()} if "ByteLevel" in kinds else {}
