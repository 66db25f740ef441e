"""Whether two tokenizers mean the same by each id, compared by the bytes that the ids stand for.

vocabulary_difference(student, teacher)    # None, or in words the first id that stands for something else
"""

import json
from collections.abc import Mapping

from transformers import PreTrainedTokenizerBase

SPACE = "\u2581"  # stands for a space in SentencePiece's tokens


def vocabulary_difference(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> str | None:
    """In words, the first id that stands for different bytes in two tokenizers, or that lies inside one alone.

    Ids that follow all those both have, such as a template's tokens, are nothing to disagree on: who uses one that the
    other lacks has to look. How many rows an embedding has, padding included, does not count.
    """
    ours, theirs = bytes_of_ids(one), bytes_of_ids(other)
    common = ours.keys() & theirs.keys()
    if not common:
        return "no id is in both"
    for id in sorted(ours.keys() | theirs.keys()):
        if id > max(common):
            return None
        if ours.get(id) != theirs.get(id):
            return f"id {id} is {shown(ours.get(id))} in one and {shown(theirs.get(id))} in the other"
    return None


def shown(value: bytes | None) -> str:
    """Bytes as a person reads them."""
    return "none" if value is None else repr(value.decode("utf-8", "backslashreplace"))


def bytes_of_ids(tokenizer: PreTrainedTokenizerBase) -> dict[int, bytes]:
    """What each id stands for."""
    characters = byte_letters() if has_byte_letters(tokenizer) else None
    added = {id: token.content.encode() for id, token in tokenizer.added_tokens_decoder.items()}
    found = {id: bytes_of(token, characters) for token, id in tokenizer.get_vocab().items()}
    return found | added


def byte_letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for: GPT-2 writes visible bytes as themselves, and
    the others as letters from 256 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def has_byte_letters(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether each letter of a token stands for a byte, as of GPT-2."""
    if not tokenizer.is_fast:
        return hasattr(tokenizer, "byte_decoder")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return "ByteLevel" in json.dumps([state.get("decoder"), state.get("pre_tokenizer")])


def bytes_of(token: str, characters: Mapping[str, int] | None) -> bytes:
    """The bytes of one token. characters: the byte of each letter, of a vocabulary of such."""
    if characters is not None and all(letter in characters for letter in token):
        return bytes(characters[letter] for letter in token)
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace(SPACE, " ").encode("utf-8", "surrogatepass")
