"""Brings a GPT that someone wrote and trained into FTGPT, with equal logits by its own formula.

imported = import_checkpoint("model.pth", "book", "runs/mine", "gpt2", Asked(num_heads=12))
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from ftkit import __version__
from ftkit.config.errors import UserError
from ftkit.config.files import sha256_of, staged_folder, write_json
from ftkit.config.paste import quoted
from ftkit.data.templates.lock import make_lock, write_lock
from ftkit.data.templates.templates import install_template
from ftkit.data.tokens.bpe import GPT2_FILES, load_gpt2
from ftkit.data.tokens.characters import META_FILE, load_characters
from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.finite import not_finite, some_of
from ftkit.model.loading import load_model, load_tokenizer
from ftkit.model.modeling_ftgpt import FTGPTForCausalLM
from ftkit.model.weights.checkpoint_file import Checkpoint, check_types, read_checkpoint
from ftkit.model.weights.from_scratch import HEAD_SIZES, SOURCES, Asked, Source
from ftkit.model.weights.plain_forward import Sizes
from ftkit.model.weights.shards import OutputTensor, write_shards
from ftkit.model.weights.tables import Facts, Rule, apply_table, expand_rules

SCHEMA = "ftkit.import/1"
NUM_COMPARED_TOKENS = 48
LARGEST_RELATIVE_DIFFERENCE = 1e-4  # of the largest logit: two orders of summation in float32
LEAST_USED_ROWS = 0.9  # of the embedding: below, the vocabulary is another model's
BETTER_NATS = 0.5  # by which another number of heads must be better to be worth a warning
TRIAL_TEXT = (
    "The cat sat on the mat and looked out of the window. It was a cold day, and there was snow in the garden. After a "
    "while the door was opened, and a man came in with a basket of wood for the fire."
)


@dataclass(frozen=True)
class Imported:
    """The result: its folder, its configuration, import.json's content, and what a person should look at."""

    folder: Path
    config: FTGPTConfig
    record: dict
    warnings: list[str]


def import_checkpoint(
    path: str | Path,
    source_name: str,
    output_dir: str | Path,
    vocabulary: str | Path,
    asked: Asked,
    *,
    template: str | None = None,
) -> Imported:
    """Write a checkpoint as an FTGPT folder with its tokenizer; it appears whole, after its logits were compared.

    source_name: of SOURCES. vocabulary: a tokenizer's folder, or "gpt2". template: one that the model was trained
    with, put on the tokenizer and locked. Tensors keep their type.
    Raises UserError for a file that is not such a model or holds NaN, for a number of heads or a vocabulary that
    can't be its own, and where the logits differ from what the source's own formula gives.
    """
    source, path, output_dir = SOURCES[source_name], Path(path), Path(output_dir)
    tokenizer = load_vocabulary(vocabulary)
    checkpoint = read_checkpoint(path)
    config = settled_config(source, checkpoint, asked, tokenizer)
    tensors = planned_tensors(source, checkpoint, config)
    warnings = vocabulary_warnings(config, tokenizer)
    tokenizer.model_max_length = config.max_position_embeddings
    info = install_template(tokenizer, template) if template else None
    with staged_folder(output_dir) as staging:
        write_shards(tensors, staging)
        config.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        if info:
            write_lock(staging, make_lock(tokenizer, info.name))
        compared = compare_logits(source, checkpoint, config, staging)
        warnings += heads_warnings(source, checkpoint, config, tokenizer)
        record = {
            "schema": SCHEMA, "from": source_name, "file": path.name, "sha256": sha256_of(path),
            "vocabulary": Path(vocabulary).name, **sizes_of(config), **compared, "ftkit_version": __version__,
        }  # fmt: skip
        write_json(staging / "import.json", record)
    return Imported(output_dir, config, record, warnings)


def load_vocabulary(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a name or folder; also nanoGPT's table of characters, and GPT-2's two files by any name.

    Raises UserError where there is none, or only a sentencepiece model, which transformers has to convert first.
    """
    folder = Path(name).expanduser()
    if (folder / "tokenizer.json").is_file() or (folder / "tokenizer_config.json").is_file():
        return load_tokenizer(folder)
    if (folder / META_FILE).is_file():
        return load_characters(folder / META_FILE)
    if any(all((folder / file).is_file() for file in files) for files in GPT2_FILES):
        return load_gpt2(folder)
    if (folder / "tokenizer.model").is_file():
        code = f"f = {str(folder)!r}; from transformers import LlamaTokenizer; "
        code += "LlamaTokenizer.from_pretrained(f).save_pretrained(f)"
        raise UserError(
            f"{folder}: holds only tokenizer.model; convert it once (pip install sentencepiece protobuf): "
            f"python -c {quoted(code)}"
        )
    return load_tokenizer(name)


def settled_config(
    source: Source, checkpoint: Checkpoint, asked: Asked, tokenizer: PreTrainedTokenizerBase
) -> FTGPTConfig:
    """The configuration with class, type of weights and special tokens. Raises UserError where it can't be."""
    try:
        config = source.config(checkpoint, asked)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    rows, used = config.vocab_size, len(tokenizer)
    if used > rows or used < LEAST_USED_ROWS * rows:
        raise UserError(
            f"{checkpoint.path}: embeds {rows} tokens and the vocabulary has {used}; give --vocab the tokenizer "
            "that the model was trained with: its folder, or gpt2"
        )
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    config.architectures = ["FTGPTForCausalLM"]
    return config


def planned_tensors(source: Source, checkpoint: Checkpoint, config: FTGPTConfig) -> dict[str, OutputTensor]:
    """FTGPT's tensors, made of the checkpoint's when they are written.

    Raises UserError that names what is missing, has no place, has another shape or type, or holds NaN.
    """
    facts = Facts.of(config)
    with torch.device("meta"):
        wanted = FTGPTForCausalLM(config).state_dict()
    if config.tie_word_embeddings:
        del wanted["lm_head.weight"]
    names = check_names(source, checkpoint, wanted, facts)
    check_types(checkpoint, names)
    if bad := not_finite((name, checkpoint.tensors[name]) for name in names):
        raise UserError(f"{checkpoint.path}: {some_of(bad)} NaN or infinity; take a checkpoint from before that")
    checkpoint.tensors = {name: checkpoint.tensors[name] for name in names}
    tensors = apply_table(source.rules, checkpoint, facts, where=str(checkpoint.path))
    config.dtype = checkpoint.tensors[names[0]].dtype
    for name in wanted.keys() - tensors.keys():  # LayerNorm's shift, where it has none
        zeros = torch.zeros(wanted[name].shape, dtype=config.dtype)
        tensors[name] = OutputTensor(zeros.to("meta"), lambda zeros=zeros: zeros)
    return {name: tensors[name] for name in wanted}


def check_names(source: Source, checkpoint: Checkpoint, wanted: Mapping[str, torch.Tensor], facts: Facts) -> list[str]:
    """The names of the weights, each once, in the order of the layers.

    Raises UserError for the first that is missing, has no place in the source's model, or has another shape.
    """
    found, path = checkpoint.tensors, checkpoint.path
    expected: dict[str, torch.Size] = {}
    for (left,), right, rule in expand_rules(source.rules, facts.num_layers):
        if applies(rule, facts.switches):
            parts = [torch.empty(wanted[name].shape, device="meta") for name in right]
            expected[left] = rule.op.backward(parts, facts.num_heads, facts.num_key_value_heads)[0].shape
    heads = {rule.left for rule in source.rules if rule.right == "lm_head.weight"}
    unused = [name for name in found if name not in expected | dict.fromkeys(heads)]
    unknown = [name for name in unused if not re.search(source.ignored, name)]
    missing = [name for name in expected if name not in found]
    if missing:
        more = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise UserError(f"{path}: has no tensor {missing[0]}{more}; save the state_dict() of the whole model")
    if unknown:
        more = f", nor for {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UserError(
            f"{path}: {source.title} has no place for tensor {unknown[0]}{more}; its architecture was changed, "
            "and FTGPT has no equivalent"
        )
    for name, shape in expected.items():
        if found[name].shape != shape:
            sizes = [" x ".join(map(str, each)) for each in (found[name].shape, shape)]
            raise UserError(f"{path}: tensor {name} is {sizes[0]}, where the other tensors need {sizes[1]}")
    return list(expected)


def applies(rule: Rule, switches: Mapping[str, bool]) -> bool:
    """Whether a model with these switches has the rule's tensors."""
    name = rule.when.removeprefix("not ")
    return not name or switches[name] != rule.when.startswith("not ")


def formula_sizes(config: FTGPTConfig, num_heads: int | None = None) -> Sizes:
    """What the source's formula needs to know; num_heads: another number than the configuration's."""
    heads = num_heads or config.num_attention_heads
    return Sizes(config.num_hidden_layers, heads, config.hidden_act, config.norm_eps)


def compare_logits(source: Source, checkpoint: Checkpoint, config: FTGPTConfig, folder: Path) -> dict:
    """How far FTGPT's logits are from the source's formula, on fixed random tokens; UserError where that is too far."""
    generator = torch.Generator().manual_seed(0)
    num_tokens = min(NUM_COMPARED_TOKENS, config.max_position_embeddings)
    ids = torch.randint(config.vocab_size, (num_tokens,), generator=generator).tolist()
    with torch.inference_mode():
        expected_TV = source.logits(checkpoint.tensors, formula_sizes(config), ids)
        logits_TV = load_model(folder)(torch.tensor([ids])).logits[0]
    difference, largest = float((logits_TV - expected_TV).abs().max()), float(expected_TV.abs().max())
    if not difference <= LARGEST_RELATIVE_DIFFERENCE * max(1.0, largest):  # also of NaN
        raise UserError(
            f"{checkpoint.path}: FTGPT's logits differ by {difference:.2g} (of {largest:.3g}) from {source.title}; "
            "nothing was written; please report it"
        )
    return {"num_tokens_compared": num_tokens, "largest_logit_difference": difference, "largest_logit": largest}


def heads_warnings(
    source: Source, checkpoint: Checkpoint, config: FTGPTConfig, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """A warning where English text is far likelier with another number of heads: nothing else shows a wrong one."""
    if config.num_key_value_heads != config.num_attention_heads or "n_head" in checkpoint.settings:
        return []
    ids = tokenizer(TRIAL_TEXT, verbose=False)["input_ids"][: config.max_position_embeddings]
    if len(ids) < 2:
        return []
    width, heads = config.hidden_size, config.num_attention_heads
    losses = {}
    for count in sorted({heads, *(width // size for size in HEAD_SIZES if width % size == 0)}):
        with torch.inference_mode():
            logits_TV = source.logits(checkpoint.tensors, formula_sizes(config, count), ids)
        losses[count] = float(torch.nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(ids[1:])))
    best = min(losses, key=lambda count: losses[count])
    if losses[best] > losses[heads] - BETTER_NATS:
        return []
    return [
        f"with --num_heads {best} English text costs {losses[best]:.2f} nats per token, with {heads} "
        f"{losses[heads]:.2f}: the model was most likely trained with {best}"
    ]


def vocabulary_warnings(config: FTGPTConfig, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Where the embedding has rows that no token uses."""
    unused = config.vocab_size - len(tokenizer)
    return [f"{unused} rows of the embedding belong to no token of the vocabulary; they are kept"] if unused else []


def sizes_of(config: FTGPTConfig) -> dict:
    """What was read from the tensors, and what was taken as the source has it."""
    names = (
        "vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "intermediate_size", "attention_bias", "tie_word_embeddings", "hidden_act", "norm_eps",
        "residual_dropout",
    )  # fmt: skip
    return {name: getattr(config, name) for name in names}


def num_parameters(config: FTGPTConfig) -> int:
    """Weights of a model of this configuration, a tied head counted once."""
    with torch.device("meta"):
        return sum(math.prod(weight.shape) for weight in FTGPTForCausalLM(config).parameters())
