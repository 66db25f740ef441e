"""Several LoRA adapters of one base combined into one, by PEFT's add_weighted_adapter.

    combined = combine(["runs/a", "runs/b"], Combination("svd", (0.5, 0.5), rank=16), staging)

PEFT works on the factors for linear, ties, dare_* and magnitude_prune, where the product of sums is not the sum of the
products; cat and *_svd work on the updates themselves. What a method should give is kept beside what it gave.
Sources: TIES arXiv:2306.01708, DARE arXiv:2311.03099.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.utils.merge_utils import magnitude_prune, task_arithmetic, ties
from torch import Tensor, nn

from ftkit.config.errors import UserError
from ftkit.config.foreign import foreign
from ftkit.model.adapters.files import tokenizer_folder
from ftkit.model.adapters.loading import put_adapter
from ftkit.model.adapters.merging import dequantise, load_base, trained_quantization
from ftkit.model.adapters.methods import tied_targets
from ftkit.model.adapters.updates import Update, check_lora, read_updates
from ftkit.model.adapters.writing import Base, base_of, plain_config, write_adapter
from ftkit.model.alike import check_alike
from ftkit.model.loading import load_tokenizer

ACTION = "can't be combined"
NAME = "combined"


@dataclass(frozen=True)
class Combination:
    """How adapters are combined. weights: of each. rank: of *_svd, None for the largest. density: share of values that
    ties, dare_* and magnitude_prune keep. seed: of what dare drops."""

    method: str
    weights: tuple[float, ...]
    rank: int | None = None
    density: float = 0.5
    seed: int = 0


def combine(
    adapters: Sequence[str], how: Combination, staging: Path, *, base: str | None = None, trust_remote_code=False
) -> tuple[Base, PeftModel]:
    """Write the combined adapter's folder; return its base, and the model with parent_0, parent_1, ... and combined.

    Raises UserError for adapters of different bases, vocabularies or templates, for those that are more than LoRA
    factors, and where PEFT does not combine them.
    """
    configs = [check_lora(adapter, ACTION) for adapter in adapters]
    found = base_of(adapters, base, trust_remote_code=trust_remote_code)
    check_alike({adapter: load_tokenizer(tokenizer_folder(adapter, found.folder)) for adapter in adapters})
    ups = [read_updates(adapter) for adapter in adapters]
    check_ranks(adapters, ups, how)
    tokenizer = load_tokenizer(tokenizer_folder(adapters[0], found.folder), trust_remote_code=trust_remote_code)
    quantization = trained_quantization(adapters[0]) if found.load_in_4bit else None
    model = load_base(found.folder, adapters[0], quantization, trust_remote_code=trust_remote_code)
    if getattr(model, "hf_quantizer", None) is not None:
        model = dequantise(model).float()
    for adapter, config in zip(adapters, configs, strict=True):
        if tied_targets(model, config):
            raise UserError(
                f"{adapter}: adapts an embedding that is tied to the head, so it {ACTION}; merge it instead"
            )
    all_names = [name for name, _ in model.named_modules()]
    for number, adapter in enumerate(adapters):
        model = put_adapter(model, adapter, tokenizer, name=f"parent_{number}")
    modules = dict.fromkeys(name for up in ups for name in up)
    for number, up in enumerate(ups):
        config = model.peft_config[f"parent_{number}"]
        ranks = [len(update.a_RI) for update in up.values()]
        model.peft_config[f"parent_{number}"] = plain_config(config, up, max(ranks), all_names)
    tensors = combined_tensors(model, how, len(adapters))
    config = model.peft_config[NAME]
    config = plain_config(config, modules, config.r, all_names)
    write_adapter(staging, config, tensors, text_from=adapters[0], base=found)
    return found, model.eval()


def combined_tensors(model: PeftModel, how: Combination, num_adapters: int) -> dict[str, Tensor]:
    """What PEFT makes of the adapters parent_0, parent_1, ... of a model."""
    settings = {"density": how.density} if uses_density(how.method) else {}
    if how.method.endswith("svd"):
        settings |= {"svd_rank": how.rank, "svd_full_matrices": False}
    names = [f"parent_{number}" for number in range(num_adapters)]
    with foreign("the adapters", "PEFT does not combine them"), warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(how.seed)
        model.add_weighted_adapter(names, list(how.weights), NAME, combination_type=how.method, **settings)
    tensors = get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)
    return {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}


def uses_density(method: str) -> bool:
    """Whether a method drops values."""
    return method.startswith(("ties", "dare", "magnitude"))


def check_ranks(adapters: Sequence[str], ups: Sequence[dict[str, Update]], how: Combination) -> None:
    """Raise UserError where a method adds up factors that have different ranks."""
    if how.method == "cat":
        return
    if how.method.endswith("svd"):
        sizes = {min(len(up.b_OR), up.a_RI.shape[1]): name for each in ups for name, up in each.items()}
        if how.rank and how.rank > min(sizes):
            raise UserError(f"--rank {how.rank} is more than {sizes[min(sizes)]} has, {min(sizes)}; give at most that")
        return
    ranks = {
        len(update.a_RI): f"{len(update.a_RI)} ({adapter}, {name})"
        for adapter, up in zip(adapters, ups, strict=True)
        for name, update in up.items()
    }
    if len(ranks) > 1:
        shown = " and ".join(list(ranks.values())[:2])
        raise UserError(f"--method {how.method} adds up factors, and ranks differ: {shown}; take --method svd or cat")


def targets(adapters: Sequence[str], how: Combination) -> Iterator[tuple[str, Tensor]] | None:
    """The update that each module should get, (O, I) float32, one at a time; None where only the factors define it.

    linear, cat and svd should give the weighted sum of the updates; ties_svd and magnitude_prune_svd what these make of
    the updates.
    """
    weigh = formula(how)
    if weigh is None:
        return None
    ups = [read_updates(adapter) for adapter in adapters]
    modules = dict.fromkeys(name for up in ups for name in up)

    def each() -> Iterator[tuple[str, Tensor]]:
        for module in modules:
            present = [
                (up[module].product(), weight) for up, weight in zip(ups, how.weights, strict=True) if module in up
            ]
            yield module, weigh([product for product, _ in present], torch.tensor([weight for _, weight in present]))

    return each()


def formula(how: Combination) -> Callable[[list[Tensor], Tensor], Tensor] | None:
    """What a method does to updates of one module and their weights; None for one that is defined by factors."""
    if how.method in ("linear", "cat", "svd"):
        return task_arithmetic
    by_density = {"ties_svd": ties, "magnitude_prune_svd": magnitude_prune}.get(how.method)
    return by_density and (lambda deltas, weights: by_density(deltas, weights, how.density))


@torch.no_grad()
def add_updates(model: nn.Module, found: Iterator[tuple[str, Tensor]]) -> None:
    """Add updates to the weights of a base, in place; an embedding's and a Conv1D's lie the other way round."""
    for name, delta in found:
        weight = model.get_submodule(name).weight
        is_turned = type(model.get_submodule(name)).__name__ in ("Embedding", "Conv1D")
        weight += (delta.T if is_turned else delta).to(weight)
