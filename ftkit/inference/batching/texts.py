"""Tokenizers and templates of many adapters, of which those that are alike are in memory once."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.data.templates.lock import verify_lock
from ftkit.data.templates.templates import TemplateInfo
from ftkit.inference.asking import ModelSettings
from ftkit.inference.engine import Voice, text_side
from ftkit.model.adapters.files import tokenizer_folder
from ftkit.model.loading import TOKENIZER_FILES


class Texts:
    """(tokenizer, template) by what their files hold."""

    def __init__(self, base: Voice, settings: ModelSettings):
        self.base, self.folder, self.settings = base, str(base.folder), settings
        self.vocabulary = base.tokenizer.get_vocab()
        self.known: dict[str, tuple] = {content_of(Path(self.folder)): (base.tokenizer, base.template)}

    def of(self, adapter: str) -> tuple[object, TemplateInfo | None]:
        """Those of an adapter's folder, else of its base. Raises UserError where it was trained with others, or with
        tokens that the base does not have."""
        folder = tokenizer_folder(adapter, self.folder)
        content = content_of(folder)
        if content not in self.known:
            tokenizer, template = text_side(str(folder), self.settings, adapter)
            self.check_vocabulary(adapter, tokenizer.get_vocab())
            self.known[content] = tokenizer, template
        elif self.known[content][1]:
            verify_lock(adapter, self.known[content][0])
        return self.known[content]

    def check_vocabulary(self, adapter: str, vocabulary: dict[str, int]) -> None:
        """Raise UserError for a token that the base has not, or elsewhere."""
        if other := vocabulary.items() ^ self.vocabulary.items():
            raise UserError(
                f'{adapter}: its tokenizer is not the base\'s (token "{min(other)[0]}" is not in both alike), so that '
                "they can't share it; merge the adapter: ftkit adapters merge"
            )

    def keep_only(self, voices: Iterable[Voice]) -> None:
        """Forget those that none of the voices has."""
        used = {id(voice.tokenizer) for voice in voices}
        self.known = {content: text for content, text in self.known.items() if id(text[0]) in used}


def content_of(folder: Path) -> str:
    """SHA-256 of the files of a folder's tokenizer."""
    digest = hashlib.sha256()
    for path in sorted({*map(folder.joinpath, TOKENIZER_FILES), *folder.glob("additional_chat_templates/*.jinja")}):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
