"""Moves weights between GPT-2, Llama or Qwen2 and FTGPT, both ways, bit for bit.

    import_weights("gpt2-folder", "ftgpt-folder")      # loads as FTGPTForCausalLM
    export_weights("ftgpt-folder", "plain-folder")     # loads as GPT2LMHeadModel wherever transformers does

What corresponds to what stands in tables.py; this file reads, checks and writes folders. Tensors pass one at a
time, so a conversion needs the memory of the largest tensor, whatever the size of the model.
"""

import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ftkit.config.errors import UserError
from ftkit.config.files import staged_folder
from ftkit.config.json_object import read_object
from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.weights.shards import MAX_SHARD_BYTES, SafetensorsFolder, TensorSource, write_shards
from ftkit.model.weights.tables import FAMILIES, Facts, Family, apply_table, check_shapes

logger = logging.getLogger(__name__)

# Files that mean the same to either class.
COPIED_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "template.lock.json",
)
COPIED_FOLDERS = ("additional_chat_templates",)
# Constants that old releases stored among the weights.
NOT_WEIGHTS = re.compile(r"\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$")
PROJECTIONS = {  # whose biases a switch is about
    "attention_bias": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_output_bias": ("self_attn.o_proj",),
    "mlp_bias": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
}


class OriginalTensors:
    """A folder's tensors under the names of its CausalLM class, without constants and without a tied head's copy."""

    def __init__(self, source: TensorSource, family: Family):
        prefix = family.tensors[0].left.split(".")[0] + "."
        self._source = source
        # A checkpoint of the bare decoder, such as the published GPT-2, has names without the prefix.
        self._names = {
            name if name.startswith((prefix, "lm_head.", "score.")) else prefix + name: name
            for name in source.specs()
            if not NOT_WEIGHTS.search(name)
        }

    def specs(self) -> Mapping[str, torch.Tensor]:
        """As TensorSource gives them, under their names in the original."""
        specs = self._source.specs()
        return {name: specs[stored] for name, stored in self._names.items()}

    def load(self, name: str) -> torch.Tensor:
        """One tensor on the CPU, by its name in the original."""
        return self._source.load(self._names[name])

    def drop_tied_head(self, embedding: str) -> bool:
        """Forget lm_head if it equals the embedding; return whether the two can be tied."""
        if "lm_head.weight" in self._names:
            if not torch.equal(self.load("lm_head.weight"), self.load(embedding)):
                return False
            del self._names["lm_head.weight"]
        return True


class WithZeroBiases:
    """FTGPT's tensors with zeros for the biases that it lacks and the original has."""

    def __init__(self, source: TensorSource, switches: Iterable[str]):
        projections = tuple(f"{name}.weight" for switch in switches for name in PROJECTIONS[switch])
        self._source = source
        self._zeros = {
            f"{name.removesuffix('weight')}bias": spec.new_empty(len(spec))
            for name, spec in source.specs().items()
            if name.endswith(projections)
        }

    def specs(self) -> Mapping[str, torch.Tensor]:
        """As TensorSource gives them."""
        return {**self._source.specs(), **self._zeros}

    def load(self, name: str) -> torch.Tensor:
        """One tensor on the CPU."""
        zeros = self._zeros.get(name)
        return self._source.load(name) if zeros is None else torch.zeros(zeros.shape, dtype=zeros.dtype)


def import_weights(
    source_folder: str | Path, output_dir: str | Path, *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> Path:
    """Write a GPT-2, Llama or Qwen2 folder as an FTGPT folder with the same dtype, tokenizer and logits; return it.

    `output_dir` appears whole by one rename. Raises UserError if the family or one of its settings has no counterpart
    in FTGPT, if the weights are pickles or do not match the config, or if `output_dir` is not empty.
    """
    source_folder, output_dir = Path(source_folder), Path(output_dir)
    settings = _read_json(source_folder / "config.json")
    if settings.get("quantization_config"):
        raise UserError(f"{source_folder}: its weights are quantised, which a conversion would lose; take it as it is")
    family = FAMILIES.get(model_type := settings.get("model_type", ""))
    if family is None:
        raise UserError(
            f'{source_folder}: model_type "{model_type}"; convertible to FTGPT are {", ".join(FAMILIES)}; '
            "every command also takes it as it is, without conversion"
        )
    original = CONFIG_MAPPING[family.name].from_pretrained(source_folder)
    source = OriginalTensors(SafetensorsFolder(source_folder), family)
    config = _to_ftgpt_config(family, original, source_folder)
    specs = source.specs()
    if config.tie_word_embeddings and not source.drop_tied_head(family.tensors[0].left):
        logger.warning("%s: lm_head differs from the embedding it is said to share; kept as untied", source_folder)
        config.tie_word_embeddings = False
    _describe(config, original, "FTGPT", specs)
    tensors = apply_table(family.tensors, source, Facts.of(config), where=str(source_folder))
    check_shapes(tensors, config, where=str(source_folder))
    with staged_folder(output_dir) as staging:
        write_shards(tensors, staging, max_shard_bytes)
        config.save_pretrained(staging)  # writes the model's two code files too
        copy_files(source_folder, staging)
    return output_dir


def export_weights(
    ftgpt_folder: str | Path,
    output_dir: str | Path,
    family: str | None = None,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """Write an FTGPT folder as a plain gpt2, llama or qwen2 folder that needs no remote code; return it.

    `family` is deduced from the config if None. Biases that only the original has become zeros.
    Raises UserError, naming the switch, if the original class has no equivalent of this FTGPT, if the folder is not
    FTGPT, or if `output_dir` is not empty.
    """
    ftgpt_folder, output_dir = Path(ftgpt_folder), Path(output_dir)
    model_type = _read_json(ftgpt_folder / "config.json").get("model_type", "")
    if model_type != "ftgpt":
        raise UserError(f'{ftgpt_folder}: model_type "{model_type}", not ftgpt; it needs no export')
    config = FTGPTConfig.from_pretrained(ftgpt_folder)
    chosen = _choose_family(config, family, ftgpt_folder)
    added = missing_biases(chosen, config)
    source = WithZeroBiases(SafetensorsFolder(ftgpt_folder), added)
    for switch in added:
        setattr(config, switch, True)
    tensors = apply_table(chosen.tensors, source, Facts.of(config), backward=True, where=str(ftgpt_folder))
    original = _to_original_config(chosen, config)
    _describe(original, config, chosen.class_prefix, source.specs())
    check_shapes(tensors, original, where=str(ftgpt_folder))
    with staged_folder(output_dir) as staging:
        write_shards(tensors, staging, max_shard_bytes)
        original.save_pretrained(staging)
        copy_files(ftgpt_folder, staging)
    return output_dir


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.parent}: has no {path.name}; name a model folder, as save_pretrained writes it")
    return read_object(path)


def _to_ftgpt_config(family: Family, original: PreTrainedConfig, where: Path) -> FTGPTConfig:
    for name, needed in family.original_needs.items():
        value = getattr(original, name, needed)
        if any(item != needed for item in (value if isinstance(value, list) else [value])):
            raise UserError(f"{where}: {name} is {value}; FTGPT has no equivalent, only {needed} converts")
    settings = {**family.ftgpt_needs, **family.original_lacks}
    settings |= {setting.ftgpt: getattr(original, setting.original, None) for setting in family.settings}
    # None is "the default of the class", which may differ between the classes; both derive sizes alike.
    settings = {name: value for name, value in settings.items() if value is not None}
    try:
        return FTGPTConfig(**settings)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _to_original_config(family: Family, config: FTGPTConfig) -> PreTrainedConfig:
    lost = [name for name, neutral in family.original_lacks.items() if getattr(config, name) != neutral]
    if lost:
        logger.warning("%s has no %s; left out (they act in training only)", family.class_prefix, ", ".join(lost))
    settings = {setting.original: getattr(config, setting.ftgpt) for setting in family.settings}
    if config.head_dim * config.num_attention_heads == config.hidden_size:
        settings.pop("head_dim", None)  # every class derives it so
    return CONFIG_MAPPING[family.name](**settings)


def _choose_family(config: FTGPTConfig, name: str | None, where: Path) -> Family:
    """The family asked for, else the one that this config is; UserError naming the switch that none has."""
    if name is not None and name not in FAMILIES:
        raise UserError(f"family {name}; allowed are {', '.join(FAMILIES)}")
    candidates = [FAMILIES[name]] if name else list(FAMILIES.values())
    conflicts = [(_conflicts(family, config), family) for family in candidates]
    problems, family = min(conflicts, key=lambda pair: (len(pair[0]), len(missing_biases(pair[1], config))))
    if problems:
        raise UserError(f"{where}: {problems[0]}; {family.class_prefix} has no equivalent, keep it as FTGPT")
    return family


def missing_biases(family: Family, config: FTGPTConfig) -> list[str]:
    """Switches of the biases that FTGPT lacks and the family has: always, or because it has them together."""
    has_some = any(getattr(config, name) for name in family.zero_biases)
    return [
        name
        for name in family.zero_biases
        if not getattr(config, name) and (family.ftgpt_needs.get(name) or (has_some and name not in family.ftgpt_needs))
    ]


def _conflicts(family: Family, config: FTGPTConfig) -> list[str]:
    """What in this config the family cannot express, as "switch is value (family: value)"."""
    added = missing_biases(family, config)
    problems = [
        f"{name} is {getattr(config, name)} ({family.name} needs {needed})"
        for name, needed in family.ftgpt_needs.items()
        if getattr(config, name) != needed and name not in added
    ]
    seen: dict[str, str] = {}
    for original, name in family.settings:
        first = seen.setdefault(original, name)
        if getattr(config, first) != getattr(config, name) and not {first, name} & set(added):
            values = f"{name} is {getattr(config, name)} and {first} is {getattr(config, first)}"
            problems.append(f"{values} ({family.name} has one setting for both)")
    derives_head_dim = all(setting.original != "head_dim" for setting in family.settings)
    if derives_head_dim and config.head_dim * config.num_attention_heads != config.hidden_size:
        problems.append(f"head_dim is {config.head_dim} ({family.name} needs hidden_size / num_attention_heads)")
    return problems


def _describe(
    config: PreTrainedConfig, source: PreTrainedConfig, class_prefix: str, specs: Mapping[str, torch.Tensor]
) -> None:
    """Set what every configuration has: the class, the dtype, and a classifier's labels."""
    is_classifier = "score.weight" in specs
    config.architectures = [class_prefix + ("ForSequenceClassification" if is_classifier else "ForCausalLM")]
    if class_prefix == "GPT2" and not is_classifier:
        config.architectures = ["GPT2LMHeadModel"]
    config.dtype = source.dtype or next(iter(specs.values())).dtype
    if is_classifier:
        config.id2label, config.label2id = source.id2label, source.label2id
        config.problem_type = source.problem_type


def copy_files(source: Path, target: Path) -> None:
    """Copy tokenizer, templates and generation settings of a model's folder."""
    for name in COPIED_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    for name in COPIED_FOLDERS:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
