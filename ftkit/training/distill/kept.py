"""What a teacher says of the rows, kept on the disk: its likeliest tokens at each trained one, with log-probabilities.

    ~/.cache/ftkit/teachers/KEY/00000.safetensors      ids (N, K) int32 and log_probs (N, K + 1), the last of the tail

KEY is a digest of the teacher's weights and precision, the tokens of the rows, K and the temperature: the same command
finds them again, and one that was killed goes on at the file it was making. The template is in the tokens.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ftkit.config.caches import cache_dir, is_writable, stand_in
from ftkit.config.disk import require_room
from ftkit.config.files import whole_file
from ftkit.config.terminal import Progress
from ftkit.inference.generation import evaluation_mode
from ftkit.inference.scoring import HEAD_CHUNK, IGNORE_INDEX, choose_scorer, padded
from ftkit.training.distill.divergence import Top, top_of

FOLDER = "teachers"
FILE_TOKENS = 8192  # of a file: some seconds of a teacher's work, which a kill may cost
ENTRY_BYTES = 8  # an id and a log-probability


@dataclass(frozen=True)
class Asked:
    """What is asked of a teacher: its `num` likeliest of the first `num_tokens` tokens, at a temperature."""

    num: int
    temperature: float
    num_tokens: int

    @property
    def bytes_per_token(self) -> int:
        """On the disk."""
        return ENTRY_BYTES * min(self.num, self.num_tokens) + ENTRY_BYTES // 2


class Kept:
    """The files of some rows. rows: {"input_ids", "labels"}; a row's number is its place among them."""

    def __init__(self, digest: str, asked: Asked, rows: Sequence[dict]):
        self.asked, self.rows = asked, rows
        self.counts = [sum(label != IGNORE_INDEX for label in row["labels"][1:]) for row in rows]
        self.num_tokens = sum(self.counts)
        self.num_bytes = self.num_tokens * asked.bytes_per_token
        key = hashlib.sha256(json.dumps([digest, vars(asked)]).encode())
        for row in rows:
            key.update(json.dumps([list(row["input_ids"]), list(row["labels"])]).encode())
        self.key = key.hexdigest()
        self.groups = list(groups_of(self.counts))
        self.places = {}  # of a row: file, first token
        for file, group in enumerate(self.groups):
            start = 0
            for row in group:
                self.places[row] = (file, start)
                start += self.counts[row]

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return place_of(self.key)

    def path(self, file: int) -> Path:
        """Of one file."""
        return self.folder / f"{file:05}.safetensors"

    @property
    def missing(self) -> list[int]:
        """The files that are not there yet."""
        return [file for file in range(len(self.groups)) if not self.path(file).is_file()]

    def make(self, model, files: Sequence[int], pad_token_id: int, batch_size: int, *, shown: bool) -> None:
        """Ask the teacher for some files' rows; each file appears whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        require_room(self.folder, sum(self.counts[row] for file in files for row in self.groups[file])
                     * self.asked.bytes_per_token)  # fmt: skip
        with Progress(len(files), "teacher", "files", shown=shown) as progress:
            for file in files:
                rows = [self.rows[row] for row in self.groups[file] if self.counts[row]]
                tops = list(ask(model, rows, self.asked, pad_token_id, batch_size))
                tensors = {
                    "ids": torch.cat([top.ids for top in tops]).int().cpu().contiguous(),
                    "log_probs": torch.cat([top.log_probs for top in tops]).float().cpu().contiguous(),
                }
                with whole_file(self.path(file)) as path:
                    save_file(tensors, path)
                progress.advance()

    def of(self, row: int) -> Top:
        """What the teacher says of a row's trained tokens."""
        file, start = self.places[row]
        rows = slice(start, start + self.counts[row])
        with safe_open(self.path(file), "pt") as tensors:
            return Top(tensors.get_slice("ids")[rows].long(), tensors.get_slice("log_probs")[rows])


def place_of(key: str) -> Path:
    """The folder of what is kept under a key, in the cache or, where that can't be written, in a temporary one."""
    usual = cache_dir()
    return (usual if is_writable(usual) else stand_in()) / FOLDER / key


def groups_of(counts: Sequence[int]) -> Iterator[list[int]]:
    """Rows, by number, of about FILE_TOKENS together; those without a token are among them."""
    group, tokens = [], 0
    for row, count in enumerate(counts):
        group.append(row)
        tokens += count
        if tokens >= FILE_TOKENS:
            yield group
            group, tokens = [], 0
    if tokens:
        yield group


@torch.no_grad()
def ask(model: Any, rows: list[dict], asked: Asked, pad_token_id: int, batch_size: int) -> Iterator[Top]:
    """What a model says of the rows' trained tokens, in their order, a chunk at a time."""
    with evaluation_mode(model):
        scorer = choose_scorer(model, min((row["input_ids"] for row in rows), key=len))
        for start in range(0, math.ceil(len(rows) / batch_size) * batch_size, batch_size):
            ids_BT, mask_BT, labels_BT = padded(rows[start : start + batch_size], pad_token_id, model.device)
            targets_BT = torch.nn.functional.pad(labels_BT[:, 1:], (0, 1), value=IGNORE_INDEX)
            kept_BT = targets_BT != IGNORE_INDEX
            for logits_NV, _ in scorer(ids_BT, mask_BT, kept_BT, targets_BT[kept_BT]):
                for logits_nV in logits_NV.split(HEAD_CHUNK):
                    yield top_of(logits_nV[:, : asked.num_tokens], asked.num, asked.temperature)
