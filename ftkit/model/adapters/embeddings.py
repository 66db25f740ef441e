"""Embeddings and heads that an adapter's file carries whole, in each of the forms in which PEFT writes them.

PEFT adds them where the vocabulary was resized or LoRA adapts them, as `X.weight`, `X.base_layer.weight`,
`X.original_module.weight`, ... They are weights of the base, of as many rows as it had in training.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from ftkit.config.errors import UserError
from ftkit.model.adapters.files import adapter_tensors, read_adapter_config

USUAL_NAMES = ("embed_tokens", "lm_head")  # which PEFT adds of itself
WHOLE = re.compile(
    r"(\.(token_adapter\.)?base_layer|\.original_module|\.modules_to_save)?\.(weight|bias)$"
    r"|\.token_adapter\.trainable_tokens_delta$"  # a second time, under the name of a tied head
)
BASE_COPY = re.compile(r"\.(base_layer|original_module)\.(weight|bias)$")  # of weights that training did not move


def embedding_names(model: PreTrainedModel) -> list[str]:
    """Names of the input embedding and of the head."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    wanted = {id(base.get_input_embeddings()), id(base.get_output_embeddings())}
    return [name for name, module in base.named_modules(remove_duplicate=False) if id(module) in wanted]


def is_whole(key: str, names: Iterable[str] = USUAL_NAMES) -> bool:
    """Whether a tensor of an adapter's file is an embedding or a head (`names`) as a whole, or a copy of its rows."""
    found = WHOLE.search(key)
    module = key[: found.start()].removeprefix("base_model.model.") if found else ""
    return bool(module) and any(module == name or module.endswith(f".{name}") for name in names)


def stored_vocabulary(adapter: str | Path, names: Iterable[str] = USUAL_NAMES) -> int | None:
    """Rows of the embedding that an adapter's file carries, which the base has to have; None where it carries none."""
    names = list(names)
    sizes = {len(t) for key, t in adapter_tensors(adapter) if key.endswith(".weight") and is_whole(key, names)}
    return max(sizes, default=None)


def fit_vocabulary(model: PreTrainedModel, adapter: str | Path, num_tokens: int) -> None:
    """Give the base the rows that the adapter was trained with: those it carries, else at least `num_tokens`.

    Raises UserError where it carries fewer than its tokenizer has tokens, or not those of both ends, and where the
    base is shared and has other ones.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    stored = stored_vocabulary(adapter, embedding_names(model))
    if stored is not None and stored < num_tokens:
        raise UserError(
            f"{adapter}: its embedding has {stored} rows, its tokenizer {num_tokens} tokens; take the tokenizer it was "
            "trained with"
        )
    wanted = stored or max(rows, num_tokens)
    if wanted == rows:
        return
    if isinstance(model, PeftModel):
        raise UserError(f"{adapter}: has {wanted} rows of embeddings, the adapters before it {rows}; load it alone")
    model.resize_token_embeddings(wanted, mean_resizing=False)
    if stored:
        clear_missing_rows(model, adapter, rows, num_tokens)


@torch.no_grad()
def clear_missing_rows(model: PreTrainedModel, adapter: str | Path, rows: int, num_tokens: int) -> None:
    """Set to zero what was appended after `rows` at an end that the adapter does not carry: PEFT saves one end alone
    where LoRA adapts one. Raises UserError where tokens of the tokenizer are among them."""
    keys = [key for key, _ in adapter_tensors(adapter)]
    is_tied = model.config.get_text_config().tie_word_embeddings
    ends = {name: model.get_submodule(name) for name in embedding_names(model)}
    missing = [name for name in ends if not any(is_whole(key, [name]) for key in keys)]
    for name in missing if len(missing) < len(ends) and not is_tied else []:
        if num_tokens > rows:
            raise UserError(
                f"{adapter}: its tokenizer has {num_tokens - rows} tokens more than its base, and PEFT saved no rows "
                f"of {name} for them; train again with --lora_modules_to_save {name.split('.')[-1]}"
            )
        ends[name].weight[rows:] = 0


def replaced_weight(model: PreTrainedModel, adapter: str | Path) -> str | None:
    """The first weight of the base in the adapter's file that is not the one that `model` has; None if all are.

    Modules that are saved as a whole stand beside those of the base, and replace nothing.
    """
    beside = read_adapter_config(adapter).get("modules_to_save") or []
    names = [name for name in embedding_names(model) if name.split(".")[-1] not in beside and name not in beside]
    own = dict(model.named_parameters(remove_duplicate=False))
    for key, tensor in adapter_tensors(adapter):
        mine = own.get(key if isinstance(model, PeftModel) else plain_name(key)) if is_whole(key, names) else None
        if mine is not None and not torch.equal(mine.cpu(), tensor.to(mine.dtype)):
            return key
    return None


def check_own_rows(adapter: str | Path, model: PreTrainedModel) -> None:
    """Raise UserError where the embedding or head that an adapter's file carries is not the model's, apart from
    padding after its rows, which no token has. Modules that are saved as a whole may be others."""
    beside = read_adapter_config(adapter).get("modules_to_save") or []
    names = [name for name in embedding_names(model) if name.split(".")[-1] not in beside and name not in beside]
    own = dict(model.named_parameters(remove_duplicate=False))
    for key, tensor in adapter_tensors(adapter):
        mine = own.get(plain_name(key)) if is_whole(key, names) else None
        if mine is not None and not torch.equal(mine.cpu(), tensor[: len(mine)].to(mine.dtype)):
            raise UserError(
                f"{adapter}: replaces the base's {plain_name(key)}, which others share; merge it: ftkit adapters merge"
            )


def plain_name(key: str) -> str:
    """What a weight of the base is called without PEFT."""
    return BASE_COPY.sub(r".\2", key).replace(".token_adapter.", ".").removeprefix("base_model.model.")


def tied_adapted(model: PreTrainedModel, config: PeftConfig, targets: list[str]) -> bool:
    """Whether an adapter changes one end of a tied embedding apart from the other. targets: `tied_targets`."""
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return False
    whole = config.modules_to_save or []
    return bool(targets) or any(name.split(".")[-1] in whole or name in whole for name in embedding_names(model))


def untie(model: PeftModel) -> None:
    """Give embedding and head a tensor each, so that merging into the one leaves the other as it was trained."""
    base = model.get_base_model()
    shared, seen = base.get_input_embeddings().weight, False
    for module in base.modules():
        if module._parameters.get("weight") is shared:
            if seen:
                module.weight = nn.Parameter(shared.detach().clone(), requires_grad=False)
            seen = True
    base.config.get_text_config().tie_word_embeddings = False
    base.config.tie_word_embeddings = False
    base.all_tied_weights_keys = {}


def check_stored(model: PeftModel, adapter: str | Path, state: dict[str, Tensor]) -> None:
    """Raise UserError unless the model has the weights of the base that the adapter's file carries."""
    names = embedding_names(model)
    for key, tensor in adapter_tensors(adapter):
        if key in state and is_whole(key, names) and not torch.equal(state[key].cpu(), tensor.to(state[key].dtype)):
            raise UserError(
                f"{adapter}: its {key} can't be loaded beside its other end, since this base ties the two; "
                "pass the base it was trained on by --model_name_or_path"
            )
