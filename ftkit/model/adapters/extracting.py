"""The difference of two models of one architecture as a LoRA, each weight's by SVD.

    extracted = extract("runs/full", "base", rank=16, staging)

Of all updates of a rank the truncated SVD is the nearest one (Eckart and Young 1936).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, TaskType
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ftkit.config.errors import UserError
from ftkit.config.foreign import foreign
from ftkit.model.adapters.updates import PREFIX, Update, factor_tensors, padded
from ftkit.model.adapters.writing import Base, plain_config, write_adapter
from ftkit.model.loading import load_config, local_model_folder
from ftkit.model.weights.shards import SafetensorsFolder, check_same_tensors


@dataclass
class Extracted:
    """What was found: by module (norm of the difference, norm of what the rank leaves of it); `rest`: norms of tensors
    that LoRA on linear layers can't hold; `whole`: modules that were saved as a whole for them."""

    base: Base
    modules: dict[str, tuple[float, float]] = field(default_factory=dict)
    rest: dict[str, float] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)

    def explained(self) -> float:
        """Share of the squared norm of the linear layers' difference that the rank holds."""
        total = sum(norm**2 for norm, _ in self.modules.values())
        return 1 - sum(left**2 for _, left in self.modules.values()) / total if total else 1.0


def extract(
    tuned: str, base: str, rank: int, staging: Path, *, save_whole: bool = False, trust_remote_code: bool = False
) -> Extracted:
    """Write the adapter's folder and return what it holds and what it can't. Tensors pass one at a time.

    save_whole: save embeddings, norms and heads that differ as whole modules (modules_to_save).
    Raises UserError for models of different shapes, for equal ones, and where a whole module can't be saved.
    """
    folders = [local_model_folder(name) for name in (tuned, base)]
    model = skeleton(folders[1], trust_remote_code)
    linear = {
        name: isinstance(module, Conv1D)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not model.get_output_embeddings()
    }
    found, updates = Extracted(Base(folders[1], base)), {}
    for name, difference in differences(*folders, tuned, base):
        module = name.removesuffix(".weight")
        norm = float(difference.double().norm())
        if norm and module in linear:
            updates[module], left = truncated(difference.T if linear[module] else difference, rank)
            found.modules[module] = (norm, left)
        elif norm:
            found.rest[name] = norm
    if not found.modules and not (found.rest and save_whole):
        what = f"differs from {base} only in {next(iter(found.rest))}" if found.rest else f"has the weights of {base}"
        raise UserError(f"{tuned}: {what}; there is nothing to extract")
    tensors = factor_tensors(updates)
    if save_whole:
        found.whole = whole_modules(found.rest, model, linear)
        tensors |= whole_tensors(folders[0], found.whole)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=rank, modules_to_save=found.whole or None,
        fan_in_fan_out=any(linear[name] for name in updates),
    )  # fmt: skip
    names = [name for name, _ in model.named_modules()]
    targets = updates or dict.fromkeys(list(linear)[:1])
    write_adapter(staging, plain_config(config, targets, rank, names), tensors, text_from=folders[0], base=found.base)
    return found


def skeleton(folder: str, trust_remote_code: bool) -> PreTrainedModel:
    """The model of a folder without weights."""
    with foreign(folder, "its model can't be built"), torch.device("meta"):
        config = load_config(folder, trust_remote_code=trust_remote_code)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def differences(tuned: str, base: str, *names: str) -> Iterator[tuple[str, Tensor]]:
    """(name, tuned - base), float32, of each tensor. names: of both, for messages."""
    first, second = SafetensorsFolder(tuned), SafetensorsFolder(base)
    check_same_tensors({names[0]: first, names[1]: second})
    for name in first.specs():
        yield name, first.load(name).float() - second.load(name).float()


def truncated(difference_OI: Tensor, rank: int) -> tuple[Update, float]:
    """The nearest update of a rank, with scaling 1, and the norm of what is left."""
    u_OR, values_R, v_RI = torch.linalg.svd(difference_OI, full_matrices=False)
    root_R = values_R[:rank].sqrt()
    update = Update(root_R[:, None] * v_RI[:rank], u_OR[:, :rank] * root_R, 1.0)
    return padded(update, rank), float(values_R[rank:].double().norm())


def whole_modules(rest: dict[str, float], model: PreTrainedModel, linear: dict[str, bool]) -> list[str]:
    """The modules of tensors that LoRA can't hold. Raises UserError where PEFT can't save them as a whole either."""
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in rest))
    is_tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    for module in modules:
        if module in linear:
            raise UserError(f"{module} has another bias, and LoRA adapts its weight; drop --save_whole to leave it out")
        if is_tied and model.get_submodule(module) in (model.get_input_embeddings(), model.get_output_embeddings()):
            raise UserError(f"{module} is embedding and head at once (tied): no adapter holds it; keep the whole model")
    return modules


def whole_tensors(folder: str, modules: list[str]) -> dict[str, Tensor]:
    """Tensors of whole modules as PEFT saves them."""
    source = SafetensorsFolder(folder)
    names = [name for name in source.specs() if name.rpartition(".")[0] in modules]
    return {f"{PREFIX}{name}": source.load(name) for name in names}
