"""Reads a .gguf file: its metadata at once, its tensors dequantised to float32 when asked for.

gguf's own GGUFReader makes several numpy objects of every token: 2.5 s and 160 MiB for SmolLM2's vocabulary, against
0.2 s and 20 MiB here. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import contextlib
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError

from ftkit.config.errors import UserError, first_line

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32  # bytes
DEQUANTISE_ROWS = 4096  # at a time: more would hold the tensor twice
STRING, ARRAY = 8, 9
# GGUF's number types as letters of the module struct.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# What damaged bytes make the readers raise; each raises something else.
DAMAGE = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    StrictDataclassError,
)


class StoredTensor(NamedTuple):
    """Where a tensor lies: shape as torch has it, GGML type, first byte and bytes in a row (the last dimension)."""

    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    start: int
    row_bytes: int


class GgufFile:
    """A .gguf file's metadata, and its tensors as a source that dequantises to float32 on demand.

    Raises UserError if the file is missing, empty, not GGUF, or damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        _check_magic(self.path)
        with open(self.path, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._position = len(MAGIC)
        with reading(self.path):
            self._metadata, self._tensors = self._read_header()

    def get(self, key: str, default: Any = None) -> Any:
        """A metadata value in Python's own types, or `default`."""
        return self._metadata.get(key, default)

    @property
    def architecture(self) -> str:
        """The family's name in GGUF, such as llama."""
        return str(self.get("general.architecture", "unknown"))

    def specs(self) -> Mapping[str, torch.Tensor]:
        """As TensorSource gives them; float32, whatever the file stores."""
        return {
            name: torch.empty(tensor.shape, dtype=torch.float32, device="meta")
            for name, tensor in self._tensors.items()
        }

    def load(self, name: str) -> torch.Tensor:
        """One tensor on the CPU, dequantised to float32."""
        tensor = self._tensors[name]
        rows = math.prod(tensor.shape[:-1])
        stored = np.frombuffer(self._bytes, np.uint8, rows * tensor.row_bytes, tensor.start).reshape(rows, -1)
        values = np.empty((rows, tensor.shape[-1]), np.float32)
        for row in range(0, rows, DEQUANTISE_ROWS):
            chunk = slice(row, row + DEQUANTISE_ROWS)
            try:
                values[chunk] = gguf.dequantize(stored[chunk], tensor.kind)
            except NotImplementedError as error:
                kind = tensor.kind.name
                raise UserError(f"{self.path}: tensor {name} of type {kind} cannot be dequantised") from error
        return torch.from_numpy(values).reshape(tensor.shape)

    def _read_header(self) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
        version, num_tensors, num_settings = self._read("IQQ")
        if version not in VERSIONS:
            raise UserError(f"{self.path}: GGUF version {version}; readable are 2 and 3; convert the model again")
        metadata = {}
        for _ in range(num_settings):
            key = self._read_string()
            metadata[key] = self._read_value(*self._read("I"))
        entries = []
        for _ in range(num_tensors):
            name = self._read_string()
            sizes = self._read(f"{self._read('I')[0]}Q")
            entries.append((name, tuple(reversed(sizes)), *self._read("IQ")))  # GGML names the fastest dimension first
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        data_start = -(-self._position // alignment) * alignment
        return metadata, {name: self._locate(name, data_start, *entry) for name, *entry in entries}

    def _locate(self, name: str, data_start: int, shape: tuple[int, ...], kind: int, offset: int) -> StoredTensor:
        block_size, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        if not shape or shape[-1] % block_size:
            raise ValueError(f"tensor {name} has the impossible shape {shape}")
        row_bytes = shape[-1] // block_size * block_bytes
        if data_start + offset + math.prod(shape[:-1]) * row_bytes > len(self._bytes):
            raise ValueError(f"tensor {name} lies beyond the end of the file")
        return StoredTensor(shape, gguf.GGMLQuantizationType(kind), data_start + offset, row_bytes)

    def _read(self, letters: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{letters}", self._bytes, self._position)
        self._position += struct.calcsize(f"<{letters}")
        return values

    def _read_string(self) -> str:
        (size,) = self._read("Q")
        start, self._position = self._position, self._position + size
        return self._bytes[start : self._position].decode("utf-8")

    def _read_value(self, kind: int) -> Any:
        if kind == STRING:
            return self._read_string()
        if kind != ARRAY:
            return self._read(NUMBERS[kind])[0]
        item_kind, count = self._read("IQ")
        if item_kind == STRING:
            return [self._read_string() for _ in range(count)]
        return list(self._read(f"{count}{NUMBERS[item_kind]}"))


def _check_magic(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a .gguf file that exists")
    with open(path, "rb") as file:
        start = file.read(len(MAGIC))
    if start != MAGIC:
        what = "is empty" if not start else "is not a GGUF file (its first bytes are not GGUF)"
        raise UserError(f"{path}: {what}; download it again")


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what the readers of a damaged file raise into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        reason = first_line(error)
        raise UserError(f"{path}: broken GGUF file ({reason}); download it again") from error
