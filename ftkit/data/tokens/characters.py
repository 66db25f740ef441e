"""One token per character, as nanoGPT's data/shakespeare_char/prepare.py numbers them in meta.pkl.

tokenizer = load_characters("data/shakespeare_char/meta.pkl")
"""

import pickle
from pathlib import Path

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from ftkit.config.errors import UserError

META_FILE = "meta.pkl"
MAX_BYTES = 2**22  # of a table of characters


class PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, texts and numbers; whatever else a pickle asks for is refused before it runs."""

    def find_class(self, module, name):
        """Refuse: nothing of any module is needed."""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_characters(path: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a meta.pkl. Characters that are not in it are left out of a text; there is no end token.

    Raises UserError for a file that holds anything but the characters with their numbers.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: larger than a table of characters is; name the folder of nanoGPT's character data")
    try:
        with open(path, "rb") as file:
            numbers = PlainUnpickler(file).load()["stoi"]
        is_table = sorted(numbers.values()) == list(range(len(numbers)))
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not a table of characters ({error}); write it again by nanoGPT's prepare.py"
        ) from error
    if not is_table or not all(isinstance(letter, str) and len(letter) == 1 for letter in numbers):
        raise UserError(f"{path}: its stoi does not number single characters from 0; write it again by prepare.py")
    backend = Tokenizer(models.BPE(vocab=numbers, merges=[]))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False)
