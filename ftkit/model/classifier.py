"""Sequence classifiers, decoders and encoders alike: loading with named classes, the head, what is trained of the rest.

loaded = load_classifier(folder, ["ham", "spam"], pad_token_id=tokenizer.pad_token_id)
"""

from pathlib import Path
from types import MethodType
from typing import Any, NamedTuple

import torch
from peft import TaskType
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
from transformers.utils import logging as hf_logging

import ftkit.model  # noqa: F401  (registers FTGPT)
from ftkit.config.errors import UserError
from ftkit.config.foreign import foreign
from ftkit.config.json_object import read_object
from ftkit.model.adapters.methods import peft_config
from ftkit.model.context import context_size
from ftkit.model.finite import check_loaded
from ftkit.model.loading import load_config
from ftkit.model.weights.shards import safetensors_files

OUTPUTS_FIX = "load it as float32, or take an earlier checkpoint"
DEFAULT_LIMIT = 512  # tokens of a text, of a model that names no limit
CLASSIFIER_SUFFIX = "ForSequenceClassification"
# What a head's outputs are, by transformers' names for it.
LABEL = "reward"  # of a reward model's one output
ONE_CLASS, ANY_CLASSES, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


class LoadedClassifier(NamedTuple):
    """model: in evaluation mode. head: names of the modules that no checkpoint filled, or that stand outside the base
    model; they are trained in any case."""

    model: PreTrainedModel
    head: list[str]


def load_classifier(
    folder: str | Path,
    labels: list[str],
    *,
    pad_token_id: int | None,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    quantization_config: Any = None,
    trust_remote_code: bool = False,
    problem_type: str = ONE_CLASS,
    may_lack_head: bool = True,
) -> LoadedClassifier:
    """FTGPT or any AutoModelForSequenceClassification, with its classes named in the configuration.

    folder: local (`local_model_folder`). A base model gets a new head, with may_lack_head; a classifier keeps its own.
    problem_type: what the outputs are, see `problem_of`.
    Raises UserError where no classifier can be made of the folder, it has a head for other classes or lacks one, or a
    weight is NaN or infinite.
    """
    check_head(folder, labels)
    files = safetensors_files(folder)
    names = dict(enumerate(labels))
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # that the head is new is no news
    try:
        with foreign(folder, "does not load as a sequence classifier"):
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=len(labels),
                id2label=names,
                label2id={name: number for number, name in names.items()},
                problem_type=problem_type,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                attn_implementation=attn_implementation,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **({"quantization_config": quantization_config} if quantization_config else {}),
            )
    finally:
        hf_logging.set_verbosity(verbosity)
    if info["missing_keys"] and not may_lack_head:
        lost = min(info["missing_keys"])
        raise UserError(f"{folder}: {lost} is not in its weights, so its head is lost; save it again, or train it")
    check_loaded(model, files)
    if model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = pad_token_id  # stock decoders find the last token by it
    head = head_names(model, info["missing_keys"])
    if len(labels) == 1:
        score_in_float32(model, head, files)
    return LoadedClassifier(model, head)


def score_in_float32(model: PreTrainedModel, head: list[str], files: list[Path]) -> None:
    """Keep the linear layers of the head, and what they compute, in float32: bfloat16 has two decimals of a score.

    files: whose values of the head are taken as they are, not as the base's precision rounded them.
    """
    for name in head:
        module = model.get_submodule(name)
        for part in module.modules():
            if type(part) is nn.Linear:
                part.float().forward = MethodType(float32_linear, part)
        weights = {f"{name}.{key}": weight for key, weight in module.named_parameters()}
        for path in files:
            with safe_open(path, framework="pt") as file:
                for key in weights.keys() & set(file.keys()):
                    weights[key].data.copy_(file.get_tensor(key))


def float32_linear(self: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """A linear layer's forward without autocast."""
    with torch.autocast(hidden.device.type, enabled=False):
        return nn.functional.linear(hidden.float(), self.weight.float(), self.bias)


def pad_apart(model: PreTrainedModel, last_tokens: set[int]) -> int:
    """The id to pad with, which no sequence ends with; the model's configuration names it from then on.

    Stock decoders score the last token that is not padding by its id: where the end token is the pad token, they would
    score the one before it. last_tokens: the last token of each sequence.
    """
    config = model.config.get_text_config()
    if config.pad_token_id is None or config.pad_token_id in last_tokens:
        config.pad_token_id = next(number for number in range(config.vocab_size) if number not in last_tokens)
    return config.pad_token_id


def check_head(folder: str | Path, labels: list[str]) -> None:
    """Raise UserError where the folder holds a classifier of other classes than `labels`."""
    known = stored_labels(folder)
    if known is None or known == labels:
        return
    generic = known == [f"LABEL_{number}" for number in range(len(labels))]  # never named
    if not generic:
        raise UserError(
            f"{folder}: its head tells {', '.join(known)} apart, and the rows {', '.join(labels)}; start from a base, "
            f"or give the classes in its order: --class_names {' '.join(known)}"
        )


def stored_labels(folder: str | Path) -> list[str] | None:
    """The classes of a classifier's folder in order; None where the folder holds another kind of model."""
    config = read_object(Path(folder) / "config.json")
    if not any(name.endswith(CLASSIFIER_SUFFIX) for name in config.get("architectures") or []):
        return None
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # transformers leaves its default out
    return [names[key] for key in sorted(names, key=int)]


def stored_problem(folder: str | Path) -> str:
    """What the outputs are by a folder's configuration; ONE_CLASS where it says nothing."""
    config = read_object(Path(folder) / "config.json")
    return config.get("problem_type") or ONE_CLASS


def problem_of(config: PreTrainedConfig) -> str:
    """What a classifier's outputs are: ONE_CLASS of several (softmax), ANY_CLASSES, each by itself (sigmoid), or values
    of a REGRESSION.

    As transformers' pipeline reads a configuration: a single output that is no regression is a yes or no.
    """
    if config.problem_type == REGRESSION:
        return REGRESSION
    return ANY_CLASSES if config.problem_type == ANY_CLASSES or config.num_labels == 1 else ONE_CLASS


def head_names(model: PreTrainedModel, new_weights=()) -> list[str]:
    """Modules with weights outside the base model, and those of `new_weights`, which no checkpoint filled."""
    base = model.base_model_prefix
    outside = [
        name for name, module in model.named_children() if name != base and any(True for _ in module.parameters())
    ]
    inside = {name.rpartition(".")[0] for name in new_weights if name.startswith(f"{base}.")}
    return outside + sorted(inside)


def transformer_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The list of the model's layers, with its name: the first that has as many as the configuration says."""
    wanted = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return name, module
    raise UserError(f"{type(model).__name__} has no list of layers to choose from; train all weights or --use_peft")


def train_last_layers(model: PreTrainedModel, head: list[str], num_layers: int) -> None:
    """Leave only the head, the last `num_layers` layers and, with any layer, what follows them (the last norm) trained.

    Raises UserError for more layers than there are.
    """
    name, layers = transformer_layers(model)
    if not 0 <= num_layers <= len(layers):
        raise UserError(
            f"--num_trained_layers {num_layers}: the model has {len(layers)} layers; give 0 to {len(layers)}"
        )
    model.requires_grad_(False)
    trained = [model.get_submodule(module) for module in head]
    if num_layers:
        siblings = list(model.get_submodule(name.rpartition(".")[0]).children())
        after = siblings[next(index for index, module in enumerate(siblings) if module is layers) + 1 :]
        trained += [*layers[len(layers) - num_layers :], *after]
    for module in trained:
        module.requires_grad_(True)


def classifier_peft_config(model_args, model: PreTrainedModel, head: list[str]):
    """The LoRA configuration of the settings, which trains and saves the head whole; None without --use_peft.

    Raises UserError where LoRA is to adapt the head as well.
    """
    config = peft_config(model_args, model, [])
    if config is not None:
        targets = config.target_modules if isinstance(config.target_modules, set) else []
        if adapted := sorted({name for name in targets if any(one.endswith(name) for one in head)}):
            raise UserError(
                f"--lora_target_modules {adapted[0]}: is the head, which is trained and saved whole with any adapter; "
                "leave it out"
            )
        config.task_type = TaskType.SEQ_CLS
        config.modules_to_save = sorted({*(config.modules_to_save or []), *head})
        config.exclude_modules = head
    return config


def unquantised_head(folder: str | Path, quantization_config: Any, *, trust_remote_code: bool = False) -> Any:
    """The quantisation with the head left out of it, since the head is trained; None stays None."""
    if quantization_config is None:
        return None
    config = load_config(folder, trust_remote_code=trust_remote_code)
    with foreign(folder, "its model can't be built"), torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=trust_remote_code)
    quantization_config.llm_int8_skip_modules = [*head_names(model), "pooler"]
    return quantization_config


def text_probabilities(
    model: PreTrainedModel, tokenizer, texts: list[str], *, max_length: int | None = None, batch_size: int = 16
) -> torch.Tensor:
    """`class_probabilities` of texts, which are cut to `max_length` tokens; None cuts them to `text_limit`."""
    max_length = max_length or text_limit(model, tokenizer)
    sequences = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return class_probabilities(model, sequences, tokenizer, batch_size)


def text_limit(model: PreTrainedModel, tokenizer) -> int:
    """Tokens of a text that the model sees: what training cut at, within the context; DEFAULT_LIMIT where neither is
    known."""
    known = (context_size(model.config) or VERY_LARGE_INTEGER, tokenizer.model_max_length)
    return min(known) if min(known) < VERY_LARGE_INTEGER else DEFAULT_LIMIT


def class_probabilities(
    model: PreTrainedModel, sequences: list[list[int]], tokenizer, batch_size: int = 16
) -> torch.Tensor:
    """(rows, classes) float32 probabilities on the CPU, in the order of `sequences`: token ids, batched by length.

    Of a regression they are its values; what else they are says `problem_of`. Raises UserError for outputs that are not
    finite.
    """
    activation = {ONE_CLASS: lambda logits: logits.softmax(dim=-1), ANY_CLASSES: torch.sigmoid, REGRESSION: torch.clone}
    probabilities_of = activation[problem_of(model.config)]
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    device, found = next(model.parameters()).device, [None] * len(sequences)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            batch = tokenizer.pad({"input_ids": [sequences[index] for index in chunk]}, return_tensors="pt").to(device)
            logits = model(**batch).logits.float().cpu()
            if not logits.isfinite().all():
                number = chunk[int(logits.isfinite().all(dim=1).int().argmin())] + 1
                raise UserError(f"{model.name_or_path}: gives NaN or infinity for text {number}; {OUTPUTS_FIX}")
            for index, row in zip(chunk, probabilities_of(logits), strict=True):
                found[index] = row
    model.train(was_training)
    return torch.stack(found)
