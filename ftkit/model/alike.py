"""Whether tokenizers and templates are alike, so that what was trained with one can be mixed with the other."""

from collections.abc import Mapping
from typing import Any

from ftkit.config.errors import UserError


def check_alike(
    tokenizers: Mapping[str, Any], *, templates: bool = True, fix: str = "take those of one vocabulary"
) -> None:
    """Raise UserError unless all tokenizers have one vocabulary and, where it matters, one chat template.

    tokenizers: by the name of their owner. fix: what to do where vocabularies differ.
    """
    (first, known), *others = tokenizers.items()
    for name, tokenizer in others:
        if known.get_vocab() != tokenizer.get_vocab():
            token, _ = min(known.get_vocab().items() ^ tokenizer.get_vocab().items())
            raise UserError(
                f'{first} and {name} have different vocabularies (token "{token}" is not in both alike); {fix}'
            )
        if templates and known.chat_template != tokenizer.chat_template:
            raise UserError(f"{first} and {name} have different chat templates; take those that were trained with one")
