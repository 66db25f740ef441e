"""Which tokens end an answer: everything that generates, or writes a file for what generates, asks here.

end_token_ids(tokenizer, template, model.generation_config.eos_token_id)
"""

from collections.abc import Sequence
from pathlib import Path

from ftkit.config.json_object import read_object

CONFIG_FILES = ("generation_config.json", "config.json")  # the first that names end tokens counts, as in transformers


def end_token_ids(tokenizer, template=None, own: int | Sequence[int] | None = None) -> list[int]:
    """Ids of the tokens that end an answer: the template's end of turn, the tokenizer's eos, and the model's own.

    template: what `install_template` gave, or None for plain text. own: `eos_token_id` of the model's generation
    configuration, which may list more than the tokenizer knows of (Llama 3, Qwen2.5), or of its folder
    (`stored_end_tokens`).
    """
    own = [own] if isinstance(own, int) else own or []
    ids = [template.end_of_turn_id if template else None, tokenizer.eos_token_id, *own]
    return list(dict.fromkeys(token for token in ids if token is not None))


def stored_end_tokens(folder: str | Path) -> int | list[int] | None:
    """The `eos_token_id` that a model's folder names, as transformers would load it."""
    for name in CONFIG_FILES:
        path = Path(folder) / name
        found = read_object(path).get("eos_token_id") if path.is_file() else None
        if found is not None:
            return found
    return None
