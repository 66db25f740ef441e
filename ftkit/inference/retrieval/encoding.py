"""Texts as vectors, by a sentence encoder; and pairs of a question and a passage scored, by a cross-encoder.

encoder = Encoder.load("all-MiniLM-L6-v2"); vectors = encoder.passages(["a text", "another"])
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.config.errors import UserError
from ftkit.config.files import sha256_of
from ftkit.config.foreign import foreign

PROMPTS_FILE = "config_sentence_transformers.json"  # what stands before each text, in sentence-transformers' folders
IDENTITY = ("config.json", "*.safetensors", "1_Pooling/config.json", "tokenizer.json", "vocab.txt", PROMPTS_FILE)
PAIRS_A_BATCH = 16
MAX_PAIR_TOKENS = 512


class Encoder:
    """A sentence encoder for searching. fingerprint: SHA-256 of all that a vector depends on, beside the text."""

    def __init__(self, model: Any, fingerprint: str, query_prompt: str = "", passage_prompt: str = ""):
        self.model, self.fingerprint = model, fingerprint
        self.query_prompt, self.passage_prompt = query_prompt, passage_prompt

    @classmethod
    def load(cls, name: str) -> "Encoder":
        """The encoder of a folder or a Hub id, with the prompts that it was trained with. UserError for none such."""
        from ftkit.inference.sentences import SentenceModel, local_folder, prompts_of

        folder = local_folder(name)
        return cls(SentenceModel.load(str(folder)), fingerprint_of(folder), *prompts_of(folder))

    def count_tokens(self, text: str) -> int:
        """The tokens of a text, without those that stand around it."""
        return len(self.model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @property
    def max_tokens(self) -> int:
        """The longest text that is read whole, in tokens without those that stand around it."""
        return self.model.max_length - len(self.model.tokenizer("")["input_ids"])

    def question(self, text: str) -> np.ndarray:
        """(D,) float32 of length 1."""
        return self._vectors([self.query_prompt + text])[0]

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, D) float32 of length 1."""
        return self._vectors([self.passage_prompt + text for text in texts])

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors of texts, each cut where the encoder reads no further."""
        rows = self.model.tokenizer(list(texts), truncation=True, max_length=self.model.max_length)["input_ids"]
        blank = [self.model.tokenizer.pad_token_id or 0]  # of a text without a token
        found = np.asarray(self.model.embed_ids([ids or blank for ids in rows]), dtype=np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.where(lengths == 0, 1, lengths)


def fingerprint_of(folder: Path) -> str:
    """SHA-256 of the files that make an encoder."""
    files = sorted({path for pattern in IDENTITY for path in folder.glob(pattern)})
    return hashlib.sha256("\0".join(f"{path.name} {sha256_of(path)}" for path in files).encode()).hexdigest()


class CrossEncoder:
    """Reads a question and a passage together and gives them one score, the higher the better."""

    def __init__(self, name: str, model: Any, tokenizer: Any):
        self.name, self.model, self.tokenizer = name, model, tokenizer

    @classmethod
    def load(cls, name: str) -> "CrossEncoder":
        """The cross-encoder of a folder or a Hub id. Raises UserError for one that gives more than one score."""
        import torch
        from transformers import AutoModelForSequenceClassification

        from ftkit.config.hardware import probe
        from ftkit.config.quiet import quiet_libraries
        from ftkit.model.loading import load_tokenizer

        quiet_libraries()
        with foreign(name, "has no cross-encoder that loads", "choose another --reranker"):
            tokenizer = load_tokenizer(name)
            model = AutoModelForSequenceClassification.from_pretrained(
                name, trust_remote_code=False, dtype=torch.float32
            ).to(probe().device)
        if model.config.num_labels != 1:
            raise UserError(f"{name}: gives {model.config.num_labels} scores, a cross-encoder one; choose another")
        return cls(name, model.eval(), tokenizer)

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """The score of the question with each text, cut where the model reads no further."""
        import torch

        limit = min(MAX_PAIR_TOKENS, getattr(self.model.config, "max_position_embeddings", None) or MAX_PAIR_TOKENS)
        found: list[float] = []
        for start in range(0, len(texts), PAIRS_A_BATCH):
            batch = list(texts[start : start + PAIRS_A_BATCH])
            with torch.inference_mode():
                inputs = self.tokenizer(
                    [question] * len(batch), batch, truncation=True, max_length=limit, padding=True, return_tensors="pt"
                ).to(self.model.device)
                found += self.model(**inputs).logits[:, 0].float().tolist()
        return found
