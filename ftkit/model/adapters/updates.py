"""What a LoRA adapter adds to each weight, as a pair of factors and a scale; and which adapters are no more than that.

for module, update in updates(tensors, config).items(): print(module, update.norm())
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftType, TaskType
from peft.utils.other import get_pattern_key
from torch import Tensor

from ftkit.config.errors import UserError
from ftkit.model.adapters.embeddings import is_whole
from ftkit.model.adapters.files import adapter_tensors, read_adapter_config
from ftkit.model.adapters.loading import changes_base, peft_config_of

# R rank, I and O sizes of a module's input and output

PREFIX = "base_model.model."
FACTORS = ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B"))
FACTOR_NAME = re.compile(r"\.lora_(embedding_)?[AB](\.weight)?$")
# What an adapter may have besides factors, by the field of its configuration.
BESIDES = {
    "use_dora": "is a DoRA, whose magnitudes are no sum",
    "lora_bias": "has biases in its factors",
    "modules_to_save": "replaces modules as a whole (modules_to_save)",
    "trainable_token_indices": "has trained token rows",
    "target_parameters": "adapts parameters that are no modules (target_parameters)",
    "layer_replication": "repeats layers of its base (layer_replication)",
    "alora_invocation_tokens": "is an activated LoRA",
}


class Update(NamedTuple):
    """scaling * B A, the change of one weight; of an embedding, of its transpose. a_RI, b_OR: float32 factors."""

    a_RI: Tensor
    b_OR: Tensor
    scaling: float

    def product(self) -> Tensor:
        """The change itself, (O, I) float32."""
        return self.scaling * (self.b_OR @ self.a_RI)

    def dot(self, other: "Update") -> float:
        """Sum of the products of all elements of two changes of one weight; neither is formed.

        <B A, D C> = sum of (B'D) * (AC'), in float64.
        """
        a_RI, b_OR, c_RI, d_OR = (each.double() for each in (self.a_RI, self.b_OR, other.a_RI, other.b_OR))
        return self.scaling * other.scaling * float(((b_OR.T @ d_OR) * (a_RI @ c_RI.T)).sum())

    def norm(self) -> float:
        """Frobenius norm of the change."""
        return max(self.dot(self), 0.0) ** 0.5

    def truncated(self, rank: int) -> tuple["Update", float]:
        """The nearest change of a rank, with scaling 1, and the norm of what is left of the difference.

        By SVD of the product, from QR of its factors, in float64. Source: Eckart and Young 1936.
        """
        q_OR, r_RR = torch.linalg.qr(self.scaling * self.b_OR.double())
        p_IR, s_RR = torch.linalg.qr(self.a_RI.double().T)
        u_RR, values_R, v_RR = torch.linalg.svd(r_RR @ s_RR.T)
        root_R = values_R[:rank].sqrt()
        a_RI, b_OR = root_R[:, None] * (v_RR[:rank] @ p_IR.T), (q_OR @ u_RR[:, :rank]) * root_R
        return padded(Update(a_RI.float(), b_OR.float(), 1.0), rank), float(values_R[rank:].norm())


def padded(update: Update, rank: int) -> Update:
    """The same change in factors of `rank`, filled up with zeros."""
    missing = rank - len(update.a_RI)
    pad = torch.nn.functional.pad
    return Update(pad(update.a_RI, (0, 0, 0, missing)), pad(update.b_OR, (0, missing)), update.scaling)


def scaling_of(config: dict, module: str, rank: int) -> float:
    """What the update of a module is multiplied by. rank: of its factors."""
    patterns = config.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(patterns.keys(), module), config["lora_alpha"])
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def updates(tensors: Mapping[str, Tensor], config: dict) -> dict[str, Update]:
    """The update of each module by its name in the base; empty for other methods. config: adapter_config.json."""
    found: dict[str, Update] = {}
    for name, factor in tensors.items() if config["peft_type"] == PeftType.LORA else ():
        first, second = next((pair for pair in FACTORS if name.endswith(pair[0])), (None, None))
        module = name.removesuffix(first or "")
        if first is not None and f"{module}{second}" in tensors:
            plain = module.removeprefix(PREFIX)
            scaling = scaling_of(config, plain, len(factor))
            found[plain] = Update(factor.float(), tensors[f"{module}{second}"].float(), scaling)
    return found


def read_updates(adapter: str | Path) -> dict[str, Update]:
    """`updates` of an adapter's folder."""
    return updates(dict(adapter_tensors(adapter)), read_adapter_config(adapter))


def factor_tensors(found: Mapping[str, Update]) -> dict[str, Tensor]:
    """Updates of linear layers as PEFT saves them."""
    pairs = ((name, update) for name, update in found.items())
    return {
        f"{PREFIX}{name}.lora_{letter}.weight": factor.contiguous()
        for name, update in pairs
        for letter, factor in (("A", update.a_RI), ("B", update.b_OR))
    }


def check_lora(adapter: str | Path, action: str, *, allowed: tuple[str, ...] = ()) -> LoraConfig:
    """The configuration of an adapter of a language model that is LoRA factors and nothing else.

    action: what is refused, as in "can't be combined". allowed: fields of BESIDES that it may use.
    Raises UserError that names what else it has.
    """
    config = peft_config_of(adapter)
    if config.peft_type != PeftType.LORA:
        raise UserError(
            f"{adapter}: is {config.peft_type.value.lower().replace('_', ' ')}, so it {action}; give a LoRA"
        )
    if config.task_type == TaskType.SEQ_CLS:
        raise UserError(f"{adapter}: is a classifier's adapter, so it {action}; give one of a language model")
    found = [text for field, text in BESIDES.items() if getattr(config, field, None) and field not in allowed]
    if changes_base(config):
        found.append(f"moves its base's weights when it is loaded (init_lora_weights {config.init_lora_weights})")
    if found:
        raise UserError(f"{adapter}: {found[0]}, so it {action}; merge it instead: ftkit adapters merge")
    for key, tensor in () if allowed else adapter_tensors(adapter):
        if not FACTOR_NAME.search(key):
            what = f"an embedding of {len(tensor)} rows" if is_whole(key) else "a tensor that is no factor"
            raise UserError(f"{adapter}: holds {key}, {what}, so it {action}; merge it instead: ftkit adapters merge")
    return config
