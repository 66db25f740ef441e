"""A LoRA adapter of a smaller rank: each update replaced by the nearest one of that rank (SVD of the product).

config, tensors, left = pruned("runs/a", rank=4)
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from peft import LoraConfig
from torch import Tensor

from ftkit.config.errors import UserError
from ftkit.model.adapters.files import adapter_tensors, read_adapter_config
from ftkit.model.adapters.updates import FACTORS, PREFIX, check_lora, updates

KEPT = ("use_dora", "modules_to_save", "trainable_token_indices")  # which stay as they are beside smaller factors


def pruned(adapter: str | Path, rank: int) -> tuple[LoraConfig, dict[str, Tensor], dict[str, tuple[float, float]]]:
    """Configuration and tensors at `rank`, and by module the norm of its update and that of what was cut off it.

    All that is no factor stays: magnitudes of a DoRA, modules that were saved as a whole, trained tokens.
    Raises UserError for other methods, and where no update has a rank above `rank`.
    """
    config = check_lora(adapter, "can't be pruned", allowed=KEPT)
    tensors = dict(adapter_tensors(adapter))
    found = updates(tensors, read_adapter_config(adapter))
    largest = max((len(update.a_RI) for update in found.values()), default=0)
    if largest <= rank:
        raise UserError(f"{adapter}: has rank {largest} already; give --rank below that")
    figures: dict[str, tuple[float, float]] = {}
    for module, update in found.items():
        smaller, left = update.truncated(rank)
        figures[module] = (update.norm(), left)
        first, second = next(pair for pair in FACTORS if f"{PREFIX}{module}{pair[0]}" in tensors)
        for suffix, factor in ((first, smaller.a_RI), (second, smaller.b_OR)):
            key = f"{PREFIX}{module}{suffix}"
            tensors[key] = factor.to(tensors[key].dtype).contiguous()
    plain: Mapping = {"use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, "inference_mode": True}
    return dataclasses.replace(config, r=rank, lora_alpha=rank, **plain), tensors, figures
