"""Gives a tokenizer a pad token that is not its end token, out of the tokens it already has."""

import logging

from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Existing tokens that are safe to pad with, best first.
PAD_CANDIDATES = (
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<|finetune_right_pad_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<unk>",
)


def ensure_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Set `tokenizer.pad_token` to an existing token other than eos if it has none or has eos. Adds no token.

    A pad token equal to eos hides the end of every answer from training, since padding is masked. Where the vocabulary
    offers nothing else (GPT-2) pad becomes eos: ftkit masks padding by its place, never by its id.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    taken = {tokenizer.eos_token, tokenizer.bos_token}
    vocabulary = tokenizer.get_vocab()
    for candidate in PAD_CANDIDATES:
        if candidate in vocabulary and candidate not in taken:
            tokenizer.pad_token = candidate
            return
    logger.info("pad token = end token (%s): the vocabulary has no other", tokenizer.eos_token)
    tokenizer.pad_token = tokenizer.eos_token
