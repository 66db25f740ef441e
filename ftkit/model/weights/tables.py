"""Which tensor and which setting of GPT-2, Llama, Qwen2 and GGUF is which: tables, and the one loop that applies them.

A rule joins the names of one side with the names of the other. `{n}` stands for a layer's number and `{p}` for
`weight` or `bias`. An op changes values on the way and back; most rules need none.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

from ftkit.config.errors import UserError
from ftkit.model.weights.shards import OutputTensor, TensorSource

Tensors = list[torch.Tensor]
SWITCHES = ("attention_bias", "attention_output_bias", "mlp_bias", "tie_word_embeddings")  # of FTGPTConfig


class Op(NamedTuple):
    """How values change from left to right and back. Both take the tensors of one side and the left model's heads."""

    forward: Callable[[Tensors, int, int], Tensors]
    backward: Callable[[Tensors, int, int], Tensors]


def _split_thirds(tensors: Tensors, *_) -> Tensors:
    return list(tensors[0].chunk(3))


def _join_thirds(tensors: Tensors, *_) -> Tensors:
    return [torch.cat(tensors)]


def _unpermute(tensor: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rows of a rotary projection from llama.cpp's order (pairs) to transformers' (halves)."""
    half = tensor.shape[0] // num_heads // 2
    return tensor.reshape(num_heads, half, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _permute(tensor: torch.Tensor, num_heads: int) -> torch.Tensor:
    """The way back of `_unpermute`."""
    half = tensor.shape[0] // num_heads // 2
    return tensor.reshape(num_heads, 2, half, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


PLAIN = Op(lambda tensors, *_: tensors, lambda tensors, *_: tensors)
TRANSPOSE = Op(lambda tensors, *_: [tensors[0].t()], lambda tensors, *_: [tensors[0].t()])  # Conv1D <-> Linear
SPLIT = Op(_split_thirds, _join_thirds)  # a joint q, k, v bias
SPLIT_TRANSPOSE = Op(  # a joint q, k, v Conv1D
    lambda tensors, *_: _split_thirds([tensors[0].t()]), lambda tensors, *_: [_join_thirds(tensors)[0].t()]
)
UNPERMUTE_Q = Op(
    lambda tensors, heads, kv_heads: [_unpermute(tensors[0], heads)],
    lambda tensors, heads, kv_heads: [_permute(tensors[0], heads)],
)
UNPERMUTE_K = Op(
    lambda tensors, heads, kv_heads: [_unpermute(tensors[0], kv_heads)],
    lambda tensors, heads, kv_heads: [_permute(tensors[0], kv_heads)],
)


class Rule(NamedTuple):
    """left, right: names joined by spaces. when: the FTGPTConfig switch that says whether these tensors exist
    ("not x" negates it); "" is always; "present" takes what the source has."""

    left: str
    right: str
    op: Op = PLAIN
    when: str = ""


def _same(name: str, when: str = "") -> Rule:
    return Rule(name, name, PLAIN, when)


HEADS = (
    _same("lm_head.weight", "not tie_word_embeddings"),
    _same("score.weight", "present"),  # a classifier has this in place of lm_head
)

GPT2_TENSORS = (
    Rule("transformer.wte.weight", "model.embed_tokens.weight"),
    Rule("transformer.wpe.weight", "model.embed_positions.weight"),
    Rule("transformer.h.{n}.ln_1.{p}", "model.layers.{n}.input_layernorm.{p}"),
    Rule(
        "transformer.h.{n}.attn.c_attn.weight",
        "model.layers.{n}.self_attn.q_proj.weight model.layers.{n}.self_attn.k_proj.weight "
        "model.layers.{n}.self_attn.v_proj.weight",
        SPLIT_TRANSPOSE,
    ),
    Rule(
        "transformer.h.{n}.attn.c_attn.bias",
        "model.layers.{n}.self_attn.q_proj.bias model.layers.{n}.self_attn.k_proj.bias "
        "model.layers.{n}.self_attn.v_proj.bias",
        SPLIT,
    ),
    Rule("transformer.h.{n}.attn.c_proj.weight", "model.layers.{n}.self_attn.o_proj.weight", TRANSPOSE),
    Rule("transformer.h.{n}.attn.c_proj.bias", "model.layers.{n}.self_attn.o_proj.bias"),
    Rule("transformer.h.{n}.ln_2.{p}", "model.layers.{n}.post_attention_layernorm.{p}"),
    Rule("transformer.h.{n}.mlp.c_fc.weight", "model.layers.{n}.mlp.up_proj.weight", TRANSPOSE),
    Rule("transformer.h.{n}.mlp.c_fc.bias", "model.layers.{n}.mlp.up_proj.bias"),
    Rule("transformer.h.{n}.mlp.c_proj.weight", "model.layers.{n}.mlp.down_proj.weight", TRANSPOSE),
    Rule("transformer.h.{n}.mlp.c_proj.bias", "model.layers.{n}.mlp.down_proj.bias"),
    Rule("transformer.ln_f.{p}", "model.norm.{p}"),
    *HEADS,
)

# FTGPT took Llama's parameter names; Qwen2 has the same with biases.
LLAMA_TENSORS = (
    _same("model.embed_tokens.weight"),
    _same("model.layers.{n}.input_layernorm.weight"),
    _same("model.layers.{n}.self_attn.q_proj.weight"),
    _same("model.layers.{n}.self_attn.k_proj.weight"),
    _same("model.layers.{n}.self_attn.v_proj.weight"),
    _same("model.layers.{n}.self_attn.o_proj.weight"),
    _same("model.layers.{n}.self_attn.q_proj.bias", "attention_bias"),
    _same("model.layers.{n}.self_attn.k_proj.bias", "attention_bias"),
    _same("model.layers.{n}.self_attn.v_proj.bias", "attention_bias"),
    _same("model.layers.{n}.self_attn.o_proj.bias", "attention_output_bias"),
    _same("model.layers.{n}.post_attention_layernorm.weight"),
    _same("model.layers.{n}.mlp.gate_proj.weight"),
    _same("model.layers.{n}.mlp.up_proj.weight"),
    _same("model.layers.{n}.mlp.down_proj.weight"),
    _same("model.layers.{n}.mlp.gate_proj.bias", "mlp_bias"),
    _same("model.layers.{n}.mlp.up_proj.bias", "mlp_bias"),
    _same("model.layers.{n}.mlp.down_proj.bias", "mlp_bias"),
    _same("model.norm.weight"),
    *HEADS,
)

# llama.cpp's names (github.com/ggml-org/llama.cpp, gguf-py/gguf/tensor_mapping.py) to the original class's.
GGUF_ROPE_TENSORS = (
    Rule("token_embd.weight", "model.embed_tokens.weight"),
    Rule("blk.{n}.attn_norm.weight", "model.layers.{n}.input_layernorm.weight"),
    Rule("blk.{n}.attn_q.weight", "model.layers.{n}.self_attn.q_proj.weight"),
    Rule("blk.{n}.attn_q.bias", "model.layers.{n}.self_attn.q_proj.bias", when="present"),
    Rule("blk.{n}.attn_k.weight", "model.layers.{n}.self_attn.k_proj.weight"),
    Rule("blk.{n}.attn_k.bias", "model.layers.{n}.self_attn.k_proj.bias", when="present"),
    Rule("blk.{n}.attn_v.weight", "model.layers.{n}.self_attn.v_proj.weight"),
    Rule("blk.{n}.attn_v.bias", "model.layers.{n}.self_attn.v_proj.bias", when="present"),
    Rule("blk.{n}.attn_output.weight", "model.layers.{n}.self_attn.o_proj.weight"),
    Rule("blk.{n}.attn_output.bias", "model.layers.{n}.self_attn.o_proj.bias", when="present"),
    Rule("blk.{n}.ffn_norm.weight", "model.layers.{n}.post_attention_layernorm.weight"),
    Rule("blk.{n}.ffn_gate.weight", "model.layers.{n}.mlp.gate_proj.weight"),
    Rule("blk.{n}.ffn_up.weight", "model.layers.{n}.mlp.up_proj.weight"),
    Rule("blk.{n}.ffn_down.weight", "model.layers.{n}.mlp.down_proj.weight"),
    Rule("output_norm.weight", "model.norm.weight"),
    Rule("output.weight", "lm_head.weight", when="present"),
)
_PERMUTED = {"attn_q": UNPERMUTE_Q, "attn_k": UNPERMUTE_K}  # only llama.cpp's "llama" reorders rotary rows
GGUF_TENSORS = {
    "llama": tuple(rule._replace(op=_PERMUTED.get(rule.left.split(".")[-2], PLAIN)) for rule in GGUF_ROPE_TENSORS),
    "qwen2": GGUF_ROPE_TENSORS,
    "gpt2": (
        Rule("token_embd.weight", "transformer.wte.weight"),
        Rule("position_embd.weight", "transformer.wpe.weight"),
        Rule("blk.{n}.attn_norm.{p}", "transformer.h.{n}.ln_1.{p}"),
        Rule("blk.{n}.attn_qkv.weight", "transformer.h.{n}.attn.c_attn.weight", TRANSPOSE),
        Rule("blk.{n}.attn_qkv.bias", "transformer.h.{n}.attn.c_attn.bias"),
        Rule("blk.{n}.attn_output.weight", "transformer.h.{n}.attn.c_proj.weight", TRANSPOSE),
        Rule("blk.{n}.attn_output.bias", "transformer.h.{n}.attn.c_proj.bias"),
        Rule("blk.{n}.ffn_norm.{p}", "transformer.h.{n}.ln_2.{p}"),
        Rule("blk.{n}.ffn_up.weight", "transformer.h.{n}.mlp.c_fc.weight", TRANSPOSE),
        Rule("blk.{n}.ffn_up.bias", "transformer.h.{n}.mlp.c_fc.bias"),
        Rule("blk.{n}.ffn_down.weight", "transformer.h.{n}.mlp.c_proj.weight", TRANSPOSE),
        Rule("blk.{n}.ffn_down.bias", "transformer.h.{n}.mlp.c_proj.bias"),
        Rule("output_norm.{p}", "transformer.ln_f.{p}"),
        Rule("output.weight", "lm_head.weight", when="present"),
    ),
}


class Facts(NamedTuple):
    """What a table needs to know of a model: its sizes, and which switches of FTGPTConfig are on."""

    num_layers: int
    num_heads: int
    num_key_value_heads: int
    switches: Mapping[str, bool] = {}

    @classmethod
    def of(cls, config: PreTrainedConfig) -> "Facts":
        """Those of a configuration; only FTGPT's has switches."""
        heads = config.num_attention_heads
        switches = {name: getattr(config, name) for name in SWITCHES if hasattr(config, name)}
        return cls(config.num_hidden_layers, heads, getattr(config, "num_key_value_heads", heads), switches)


def expand_rules(rules: Iterable[Rule], num_layers: int) -> Iterator[tuple[list[str], list[str], Rule]]:
    """Yield (left names, right names, rule) with layer numbers and weight/bias filled in, one layer after another."""
    for is_layered, group in itertools.groupby(rules, key=lambda rule: "{n}" in rule.left):
        group = list(group)
        for n, rule in itertools.product(range(num_layers) if is_layered else (0,), group):
            for kind in ("weight", "bias") if "{p}" in rule.left else ("",):
                yield rule.left.format(n=n, p=kind).split(), rule.right.format(n=n, p=kind).split(), rule


def apply_table(
    rules: Iterable[Rule],
    source: TensorSource,
    facts: Facts,
    *,
    backward: bool = False,
    where: str = "",
    ignored: Iterable[str] = (),
) -> dict[str, OutputTensor]:
    """Plan every output tensor of a table applied to `source`, left to right, or right to left if `backward`.

    Nothing is read yet but shapes. Raises UserError (naming `where`) if a tensor is missing, or if one that is not
    among `ignored` has no rule.
    """
    specs = source.specs()
    unused = {name: None for name in specs if name not in ignored}
    outputs: dict[str, OutputTensor] = {}
    for left, right, rule in expand_rules(rules, facts.num_layers):
        names, new_names = (right, left) if backward else (left, right)
        if not _applies(rule, names, specs, facts):
            continue
        missing = [name for name in names if name not in specs]
        if missing:
            raise UserError(f"{where}: tensor {missing[0]} is missing; the weights do not match config.json")
        change = rule.op.backward if backward else rule.op.forward
        for name in names:
            unused.pop(name)
        new_specs = change([specs[name] for name in names], facts.num_heads, facts.num_key_value_heads)
        for i, (name, spec) in enumerate(zip(new_names, new_specs, strict=True)):
            outputs[name] = OutputTensor(spec, partial(_make, source, names, change, facts, i))
    if unused:
        raise UserError(f"{where}: {len(unused)} tensors have no counterpart, such as {next(iter(unused))}")
    return outputs


def _applies(rule: Rule, names: list[str], specs: Mapping[str, torch.Tensor], facts: Facts) -> bool:
    if rule.when == "":
        return True
    if rule.when == "present":
        return any(name in specs for name in names)
    if rule.when == "not tie_word_embeddings":  # a classifier has no lm_head
        return not facts.switches["tie_word_embeddings"] and "score.weight" not in specs
    return bool(facts.switches[rule.when])


def check_shapes(tensors: Mapping[str, OutputTensor], config: PreTrainedConfig, *, where: str) -> None:
    """Raise UserError (naming `where`) unless the tensors are those of the class that `config.architectures` names."""
    is_classifier = config.architectures[0].endswith("ForSequenceClassification")
    auto_class = AutoModelForSequenceClassification if is_classifier else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto_class.from_config(config, trust_remote_code=False)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    for name in [*shapes, *tensors]:
        found = tensors[name].spec.shape if name in tensors else None
        if found != shapes.get(name):
            values = f"has {_sizes(found)}, the configuration says {_sizes(shapes.get(name))}"
            raise UserError(f"{where}: tensor {name} {values}; the weights are of another model")


def _sizes(shape: torch.Size | None) -> str:
    return "no such tensor" if shape is None else " x ".join(map(str, shape))


def _make(source: TensorSource, names: list[str], change: Callable, facts: Facts, index: int) -> torch.Tensor:
    tensors = [source.load(name) for name in names]
    return change(tensors, facts.num_heads, facts.num_key_value_heads)[index].contiguous()


class Setting(NamedTuple):
    """One setting under the original configuration's name and under FTGPTConfig's."""

    original: str
    ftgpt: str


class Family(NamedTuple):
    """An original architecture: its tensors, its settings, and what either side must be for the other to exist.

    original_lacks: settings that only FTGPT has and their neutral values; they matter in training alone.
    zero_biases: switches of biases that the original always has, or has together: zeros stand for those FTGPT lacks.
    """

    name: str
    class_prefix: str
    tensors: tuple[Rule, ...]
    settings: tuple[Setting, ...]
    original_needs: Mapping[str, Any]
    ftgpt_needs: Mapping[str, Any]
    original_lacks: Mapping[str, Any] = {}
    zero_biases: tuple[str, ...] = ()


def _settings(pairs: str) -> tuple[Setting, ...]:
    return tuple(Setting(*pair.split("=")) if "=" in pair else Setting(pair, pair) for pair in pairs.split())


SHARED_SETTINGS = "vocab_size initializer_range use_cache bos_token_id eos_token_id pad_token_id tie_word_embeddings "
ROPE_SETTINGS = SHARED_SETTINGS + (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "max_position_embeddings rms_norm_eps=norm_eps rope_parameters hidden_act attention_dropout "
)
ROPE_LACKS = {"residual_dropout": 0.0, "embedding_dropout": 0.0}
ROPE_NEEDS = {"norm_type": "rmsnorm", "position_embedding_type": "rope", "mlp_gated": True}
FAMILIES = {
    "gpt2": Family(
        "gpt2",
        "GPT2",
        GPT2_TENSORS,
        _settings(
            SHARED_SETTINGS + "n_embd=hidden_size n_inner=intermediate_size n_layer=num_hidden_layers "
            "n_head=num_attention_heads n_head=num_key_value_heads n_positions=max_position_embeddings "
            "layer_norm_epsilon=norm_eps activation_function=hidden_act attn_pdrop=attention_dropout "
            "resid_pdrop=residual_dropout embd_pdrop=embedding_dropout"
        ),
        {
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "reorder_and_upcast_attn": False,
            "add_cross_attention": False,
        },
        {
            "norm_type": "layernorm",
            "position_embedding_type": "learned",
            "mlp_gated": False,
            "attention_bias": True,
            "attention_output_bias": True,
            "mlp_bias": True,
        },
        zero_biases=("attention_bias", "attention_output_bias", "mlp_bias"),
    ),
    "llama": Family(
        "llama",
        "Llama",
        LLAMA_TENSORS,
        _settings(ROPE_SETTINGS + "attention_bias attention_bias=attention_output_bias mlp_bias"),
        {},
        ROPE_NEEDS,
        ROPE_LACKS,
        zero_biases=("attention_bias", "attention_output_bias"),
    ),
    "qwen2": Family(
        "qwen2",
        "Qwen2",
        LLAMA_TENSORS,
        _settings(ROPE_SETTINGS),
        {"layer_types": "full_attention"},
        {**ROPE_NEEDS, "attention_bias": True, "attention_output_bias": False, "mlp_bias": False},
        ROPE_LACKS,
        zero_biases=("attention_bias",),
    ),
}
