"""Embeddings of texts by a sentence encoder: the mean of its last hidden states, as sentence-transformers has it.

model = SentenceModel.load("all-MiniLM-L6-v2"); vectors, num_tokens = model.embed(["a text", "another"])
"""

import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ftkit.config.errors import UserError
from ftkit.config.foreign import foreign
from ftkit.config.hardware import probe
from ftkit.config.json_object import read_object
from ftkit.config.quiet import quiet_libraries
from ftkit.inference.generation import evaluation_mode
from ftkit.model.context import context_size
from ftkit.model.loading import load_tokenizer

# B texts, T tokens, D hidden

MAX_LENGTH = 512  # tokens, of an encoder that names no limit
BATCH_TOKENS = 16_384  # of one forward
# Of sentence-transformers' folders.
PARTS_FILE, POOLING_FILE, PROMPTS_FILE = "modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"
LIMITS_FILE = "sentence_bert_config.json"
PASSAGE_PROMPTS = ("document", "passage", "corpus")
WHOLE = 10**9  # tokens: what tokenizers name that know no limit
KNOWN_PARTS = ("Transformer", "Pooling", "Normalize")
MEAN, FIRST = "mean", "cls"
FORMER_NAMES = {"pooling_mode_mean_tokens": MEAN, "pooling_mode_cls_token": FIRST}  # before its version 6


class SentenceModel:
    """An encoder in memory. pools_first: the first token's state is the embedding, in place of the mean of all."""

    def __init__(self, name: str, model: Any, tokenizer: Any, *, max_length: int, pools_first: bool = False,
                 normalizes: bool = True):  # fmt: skip
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.max_length, self.pools_first, self.normalizes = max_length, pools_first, normalizes
        self.lock = threading.Lock()

    @classmethod
    def load(cls, name: str) -> "SentenceModel":
        """The encoder of a folder or a Hub id. Raises UserError where it can't be loaded, or pools in another way."""
        from transformers import AutoModel

        quiet_libraries()
        folder = local_folder(name)
        tokenizer = load_tokenizer(str(folder))
        with foreign(name, "has no encoder that loads", "choose another --embedding_model"):
            model = AutoModel.from_pretrained(folder, trust_remote_code=False, dtype=torch.float32).to(probe().device)
        chosen = pooling_of(folder)
        if chosen not in ([MEAN], [FIRST]):
            raise UserError(f"{name}: its pooling is {', '.join(chosen)}; ftkit knows the mean and the first token")
        check_parts(folder)
        return cls(
            name, model, tokenizer, max_length=longest_text(folder, model.config, tokenizer),
            pools_first=chosen == [FIRST], normalizes=normalizes(folder),
        )  # fmt: skip

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """The embedding of each text, and the tokens of all. Raises UserError for one that is too long."""
        rows = self.tokenizer(list(texts), add_special_tokens=True, verbose=False)["input_ids"]
        for number, ids in enumerate(rows):
            if len(ids) > self.max_length:
                raise UserError(f"input.{number}: has {len(ids)} tokens, {self.name} reads {self.max_length}; split it")
        return self.embed_ids(rows), sum(map(len, rows))

    def embed_ids(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """The embedding of each row of token ids, the longest computed first."""
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        found: list[list[float]] = [[] for _ in rows]
        start = 0
        while start < len(order):
            batch = order[start : start + max(1, BATCH_TOKENS // len(rows[order[start]]))]
            with self.lock, evaluation_mode(self.model):
                vectors = self.forward([rows[row] for row in batch])
            for row, vector in zip(batch, vectors, strict=True):
                found[row] = vector
            start += len(batch)
        return found

    def forward(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """The embeddings of some rows, by one forward."""
        width = max(map(len, rows))
        ids_BT = torch.full((len(rows), width), self.tokenizer.pad_token_id or 0)
        mask_BT = torch.zeros(len(rows), width, dtype=torch.long)
        for number, ids in enumerate(rows):
            ids_BT[number, : len(ids)] = torch.tensor(ids)
            mask_BT[number, : len(ids)] = 1
        device = self.model.device
        mask_BT = mask_BT.to(device)
        states_BTD = self.model(input_ids=ids_BT.to(device), attention_mask=mask_BT).last_hidden_state
        weights_BT1 = mask_BT[:, :, None].to(states_BTD.dtype)
        summed_BD = (states_BTD * weights_BT1).sum(dim=1)
        vectors_BD = states_BTD[:, 0] if self.pools_first else summed_BD / weights_BT1.sum(dim=1)
        return (torch.nn.functional.normalize(vectors_BD, dim=-1) if self.normalizes else vectors_BD).cpu().tolist()


def has_parts(folder: Path) -> bool:
    """Whether a folder is in sentence-transformers' form, and not a plain encoder."""
    return (folder / PARTS_FILE).is_file()


def part_types(folder: Path) -> list[str]:
    """The classes of its parts, such as sentence_transformers.models.Pooling; none of a plain encoder."""
    if not has_parts(folder):
        return []
    with foreign(folder / PARTS_FILE, "is not as sentence-transformers writes it", "choose another encoder"):
        return [str(part["type"]) for part in json.loads((folder / PARTS_FILE).read_text("utf-8"))]


def check_parts(folder: Path) -> None:
    """Raise UserError for an encoder with parts that are not known here: they would be left out of its vectors, and
    may be anybody's code."""
    for kind in part_types(folder):
        if not re.fullmatch(rf"sentence_transformers\.[\w.]*\b({'|'.join(KNOWN_PARTS)})", kind):
            raise UserError(f"{folder}: has a part {kind:.60}; ftkit knows {', '.join(KNOWN_PARTS)}")


def normalizes(folder: Path) -> bool:
    """Whether its vectors have length 1, as those of a plain encoder are given here."""
    return not has_parts(folder) or any(kind.endswith(".Normalize") for kind in part_types(folder))


def pooling_of(folder: Path) -> list[str]:
    """How an encoder pools; the mean where its folder says nothing."""
    if not (folder / POOLING_FILE).is_file():
        return [MEAN]
    stated = read_object(folder / POOLING_FILE)
    if "pooling_mode" in stated:
        return [stated["pooling_mode"]] if isinstance(stated["pooling_mode"], str) else list(stated["pooling_mode"])
    modes = [key for key, value in stated.items() if key.startswith("pooling_mode_") and value is True]
    return [FORMER_NAMES.get(key, key.removeprefix("pooling_mode_")) for key in modes]


def longest_text(folder: Path, config: Any, tokenizer: Any) -> int:
    """The tokens of the longest text that an encoder embeds whole; MAX_LENGTH at most where no folder says so."""
    stated = read_object(folder / LIMITS_FILE) if (folder / LIMITS_FILE).is_file() else {}
    own = None if has_parts(folder) else MAX_LENGTH
    limits = (stated.get("max_seq_length"), tokenizer.model_max_length, context_size(config), own)
    return min(MAX_LENGTH if limit > WHOLE else limit for limit in limits if limit)


def prompts_of(folder: Path) -> tuple[str, str]:
    """What stands before each question and before each passage; "" for nothing."""
    stated = read_object(folder / PROMPTS_FILE) if (folder / PROMPTS_FILE).is_file() else {}
    prompts = stated.get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    found = {name: prompt for name, prompt in prompts.items() if isinstance(prompt, str)}
    return found.get("query", ""), next((found[name] for name in PASSAGE_PROMPTS if name in found), "")


def local_folder(name: str) -> Path:
    """The folder of an encoder; from the Hub, with the files that say how it pools."""
    from huggingface_hub import snapshot_download

    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    patterns = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*"]
    with foreign(name, "is no folder, and was not found on the Hub", "check --embedding_model"):
        return Path(snapshot_download(name, allow_patterns=patterns))
