"""What an adapter does to the rows of a batch, module by module: its parts, read from its folder.

    parts = read_parts("runs/a", model)                # of a folder that was checked before
    parts["model.layers.0.self_attn.q_proj"][0].apply(module, given, output, slice(0, 2))

Equal to PEFT's layers for LoRA and its kin (rsLoRA, DoRA, ranks and scalings by module, biases), for tokens that were
trained one by one, and for modules saved as a whole.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import PeftConfig
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from ftkit.config.errors import UserError
from ftkit.model.adapters.embeddings import embedding_names, is_whole
from ftkit.model.adapters.files import adapter_tensors, read_adapter_config
from ftkit.model.adapters.loading import changes_base, peft_config_of
from ftkit.model.adapters.updates import PREFIX, scaling_of

# N rows of the batch that a part is for, T tokens, M = N T, I inputs, O outputs, R rank, V vocabulary, K trained tokens

FACTOR = re.compile(r"^(?P<module>.+)\.(lora_|token_adapter\.trainable_)(?P<kind>.+?)(\.weight)?$")
# Settings of a LoRA that change what it computes in ways that are not known here.
UNKNOWN_SETTINGS = (
    "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "layer_replication", "target_parameters",
    "megatron_config", "velora_config", "lora_ga_config",
)  # fmt: skip
MERGE = "ftkit adapters merge"


class Part(ABC):
    """What one adapter does to the output of one module, in place; `rows` are those of the adapter."""

    @abstractmethod
    def apply(self, module: nn.Module, given: Tensor, output: Tensor, rows: slice) -> None:
        """Change `output[rows]`, of what the module made of `given[rows]`."""

    def tensors(self) -> Iterator[Tensor]:
        """All of them, for their size."""
        return (value for value in vars(self).values() if isinstance(value, Tensor))


@dataclass(frozen=True)
class LoraPart(Part):
    """y + s (x A') B' + d, and for DoRA (Liu et al. 2024, arXiv:2402.09353) the sum without the module's bias by column
    times m / |W + s B A|."""

    a_RI: Tensor
    b_OR: Tensor
    scaling: float
    bias_O: Tensor | None = None
    column_O: Tensor | None = None
    token: object = field(default_factory=object, repr=False)  # names it, without keeping its tensors in memory

    @property
    def is_plain(self) -> bool:
        """Whether it is y + s (x A') B'."""
        return self.bias_O is None and self.column_O is None

    def apply(self, module: nn.Module, given: Tensor, output: Tensor, rows: slice) -> None:
        """See Part."""
        x_MI, y_NTO = given[rows].flatten(0, -2).to(self.a_RI.dtype), output[rows]
        h_MR, y_MO = x_MI @ self.a_RI.t(), y_NTO.view(-1, y_NTO.shape[-1])
        if self.column_O is not None:
            plain_MO = y_MO if getattr(module, "bias", None) is None else y_MO - module.bias
            update_MO = self.column_O * self.scaling * (h_MR @ self.b_OR.t())
            y_MO += (update_MO + (self.column_O - 1) * plain_MO).to(y_MO.dtype)
        elif y_MO.dtype == h_MR.dtype:
            y_MO.addmm_(h_MR, self.b_OR.t(), alpha=self.scaling)
        else:
            y_MO += (self.scaling * (h_MR @ self.b_OR.t())).to(y_MO.dtype)
        if self.bias_O is not None:
            y_MO += self.bias_O.to(y_MO.dtype)


@dataclass(frozen=True)
class EmbeddingPart(Part):
    """e(i) + s A[:, i]' B' of an embedding."""

    a_RV: Tensor
    b_OR: Tensor
    scaling: float

    def apply(self, module: nn.Module, given: Tensor, output: Tensor, rows: slice) -> None:
        """See Part."""
        update = F.embedding(given[rows], self.a_RV.t()) @ self.b_OR.t()
        output[rows] = (output[rows] + self.scaling * update).to(output.dtype)


@dataclass(frozen=True)
class TokensPart(Part):
    """Rows of an embedding, or of the head that is tied to it, in place of the base's. place_V: of each token among
    them, -1 for all others."""

    place_V: Tensor
    tokens_K: Tensor
    weight_KO: Tensor

    def apply(self, module: nn.Module, given: Tensor, output: Tensor, rows: slice) -> None:
        """See Part."""
        if given.is_floating_point():  # a head: logits of these tokens
            own = given[rows].to(self.weight_KO.dtype) @ self.weight_KO.t()
            output[rows][..., self.tokens_K] = own.to(output.dtype)
            return
        place = self.place_V[given[rows]]
        own = F.embedding(place.clamp(min=0), self.weight_KO).to(output.dtype)
        output[rows] = torch.where((place >= 0)[..., None], own, output[rows])


@dataclass(frozen=True)
class WholePart(Part):
    """A module's weights in place of the base's."""

    weight: Tensor
    bias: Tensor | None = None

    def apply(self, module: nn.Module, given: Tensor, output: Tensor, rows: slice) -> None:
        """See Part."""
        if isinstance(module, nn.Embedding):
            output[rows] = F.embedding(given[rows], self.weight).to(output.dtype)
            return
        weight = self.weight.t() if isinstance(module, Conv1D) else self.weight
        output[rows] = F.linear(given[rows].to(weight.dtype), weight, self.bias).to(output.dtype)


Parts = Mapping[str, Sequence[Part]]  # of an adapter, by the module's name


def read_parts(adapter: str | Path, model: nn.Module) -> dict[str, list[Part]]:
    """What an adapter does, by module of the model it is for; on the model's device.

    The adapter is one that passed `check_keys` for this model. Raises UserError, with what to do instead, for what
    can't be given to single rows: soft prompts, IA3, and adapters that move the base's weights when they are loaded.
    """
    config = peft_config_of(adapter)
    check_can_share(adapter, config)
    raw, modules = read_adapter_config(adapter), dict(model.named_modules(remove_duplicate=False))
    found: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, dict[str, Tensor]] = {}
    kept, ends = config.modules_to_save or [], embedding_names(model)
    for key, tensor in adapter_tensors(adapter):
        plain = key.removeprefix(PREFIX)
        factor = FACTOR.match(plain)
        owner, _, leaf = plain.rpartition(".")
        if factor and factor["kind"] == "tokens_delta" and not token_indices(raw, factor["module"]):
            continue  # once more, under the name of a tied head
        if factor:
            found.setdefault(factor["module"], {})[factor["kind"]] = tensor
        elif any(owner.endswith(one) for one in kept):  # as PEFT looks for them
            whole.setdefault(owner, {})[leaf] = tensor
        elif not is_whole(key, ends):
            raise UserError(f"{adapter}: tensor {key} is of a kind that can't share a base; merge it: {MERGE}")
    parts: dict[str, list[Part]] = {}
    for name, tensors in found.items():
        parts.setdefault(name, []).append(part_of(adapter, raw, name, modules[name], tensors))
    for name, tensors in whole.items():
        check_whole(adapter, name, modules[name])
        parts.setdefault(name, []).append(
            WholePart(**{key: placed(one, modules[name]) for key, one in tensors.items()})
        )
    return with_tied_head(model, parts)


def check_can_share(adapter: str | Path, config: PeftConfig) -> None:
    """Raise UserError for an adapter whose effect is not one on single rows of single modules."""
    kind = config.peft_type.value
    if kind != "LORA":
        fix = "ask it alone by ftkit chat" if config.is_prompt_learning else f"merge it: {MERGE}"
        raise UserError(f"{adapter}: is {kind}, which can't share a base with others here; {fix}")
    if changes_base(config):
        raise UserError(
            f"{adapter}: init_lora_weights {config.init_lora_weights} moves the base's weights, so others can't share "
            f"them; merge it: {MERGE}"
        )
    if unknown := [name for name in UNKNOWN_SETTINGS if getattr(config, name, None)]:
        raise UserError(f"{adapter}: {unknown[0]} is not supported beside other adapters; merge it: {MERGE}")


def check_whole(adapter: str | Path, name: str, module: nn.Module) -> None:
    """Raise UserError for a module saved as a whole that is not one layer of weights."""
    if not isinstance(module, nn.Linear | nn.Embedding | Conv1D):
        raise UserError(f"{adapter}: replaces {name}, a {type(module).__name__}; only layers can be; merge it: {MERGE}")


def part_of(adapter: str | Path, config: dict, name: str, module: nn.Module, tensors: dict[str, Tensor]) -> Part:
    """The part that some tensors of a file are, by their kind in PEFT's names."""
    if "tokens_delta" in tensors:
        return tokens_part(adapter, token_indices(config, name), module, placed(tensors["tokens_delta"], module))
    if "embedding_A" in tensors:
        a_RV, b_OR = placed(tensors["embedding_A"], module), placed(tensors["embedding_B"], module)
        return EmbeddingPart(a_RV, b_OR, scaling_of(config, name, len(a_RV)))
    a_RI, b_OR = tensors.pop("A"), tensors.pop("B")
    scaling = scaling_of(config, name, len(a_RI))
    bias_O, magnitude_O = tensors.pop("B.bias", None), tensors.pop("magnitude_vector", None)
    if tensors or a_RI.ndim != 2:
        kinds = ", ".join(tensors) or f"{a_RI.ndim} dimensions"
        raise UserError(f"{adapter}: {name} has {kinds}, which can't share a base; merge it: {MERGE}")
    column_O = None if magnitude_O is None else magnitude_O / weight_norm(module, a_RI, b_OR, scaling)
    return LoraPart(
        placed(a_RI, module), placed(b_OR, module), scaling,
        None if bias_O is None else placed(scaling * bias_O, module),
        None if column_O is None else placed(column_O, module),
    )  # fmt: skip


def weight_norm(module: nn.Module, a_RI: Tensor, b_OR: Tensor, scaling: float) -> Tensor:
    """|W + s B A| of each output, (O,)."""
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(module).detach().float().cpu()
    weight_OI = weight.t() if isinstance(module, Conv1D) else weight
    return (weight_OI + scaling * (b_OR.float() @ a_RI.float())).norm(dim=1)


def token_indices(config: dict, name: str) -> list[int]:
    """The tokens that were trained one by one in a module; the configuration has them for all embeddings or by name."""
    indices = config.get("trainable_token_indices") or []
    if not isinstance(indices, dict):
        return indices
    return next((tokens for key, tokens in indices.items() if name == key or name.endswith(f".{key}")), [])


def tokens_part(adapter: str | Path, tokens: list[int], module: nn.Module, weight_KO: Tensor) -> TokensPart:
    """Trained tokens. Raises UserError for some that the module does not have."""
    rows = len(module.weight)
    if other := [token for token in tokens if not 0 <= token < rows]:
        raise UserError(f"{adapter}: trains token {other[0]}, and the base has {rows}; merge it: {MERGE}")
    tokens_K = torch.tensor(tokens, device=weight_KO.device)
    place_V = torch.full((rows,), -1, device=weight_KO.device)
    place_V[tokens_K] = torch.arange(len(tokens_K), device=weight_KO.device)
    return TokensPart(place_V, tokens_K, weight_KO)


def with_tied_head(model, parts: dict[str, list[Part]]) -> dict[str, list[Part]]:
    """The parts, with tokens that were trained in a tied embedding given to the head as well, as PEFT does."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or getattr(head, "weight", None) is not embedding.weight:
        return parts
    names = {id(module): name for name, module in model.named_modules()}
    own = [part for part in parts.get(names[id(embedding)], ()) if isinstance(part, TokensPart)]
    if own and not any(isinstance(part, TokensPart) for part in parts.get(names[id(head)], ())):
        parts.setdefault(names[id(head)], []).extend(own)
    return parts


def placed(tensor: Tensor, module: nn.Module) -> Tensor:
    """A copy on a module's device, as tensors of a file change with it; in its precision, or float32 where the base is
    quantised."""
    weight = next(module.parameters())
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    return tensor.to(weight.device, dtype, copy=True).contiguous()


def num_bytes(parts: Parts) -> int:
    """Memory that an adapter takes."""
    every = (tensor for several in parts.values() for part in several for tensor in part.tensors())
    each = {id(tensor): tensor for tensor in every}  # a tied head has its embedding's
    return sum(tensor.numel() * tensor.element_size() for tensor in each.values())
