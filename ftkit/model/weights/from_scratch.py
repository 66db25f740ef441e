"""GPTs as people write and save them: which tensor is which in FTGPT, and their sizes.

source = SOURCES["book"]
config = source.config(checkpoint, Asked(num_heads=12))     # FTGPTConfig, sizes read from the tensors
logits_TV = source.logits(checkpoint.tensors, sizes, ids)  # by the source's own formula, without FTGPT
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import torch

from ftkit.config.errors import UserError
from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.weights.checkpoint_file import Checkpoint
from ftkit.model.weights.plain_forward import (
    LAYER_NORM_EPS,
    ROPE_THETA,
    Sizes,
    Tensors,
    book_logits,
    llama2c_logits,
    nanogpt_logits,
)
from ftkit.model.weights.tables import SPLIT, UNPERMUTE_K, UNPERMUTE_Q, Rule

HEAD_SIZES = (64, 32, 128, 80, 96, 16)  # that GPTs have, the usual one first
BOOK_DROPOUT = 0.1  # GPT_CONFIG_124M's; it acts in training only

QKV, OUT, MLP, HEAD = "attention_bias", "attention_output_bias", "mlp_bias", "not tie_word_embeddings"
BOOK_TENSORS = (
    Rule("tok_emb.weight", "model.embed_tokens.weight"),
    Rule("pos_emb.weight", "model.embed_positions.weight"),
    Rule("trf_blocks.{n}.norm1.scale", "model.layers.{n}.input_layernorm.weight"),
    Rule("trf_blocks.{n}.norm1.shift", "model.layers.{n}.input_layernorm.bias"),
    Rule("trf_blocks.{n}.att.W_query.weight", "model.layers.{n}.self_attn.q_proj.weight"),
    Rule("trf_blocks.{n}.att.W_query.bias", "model.layers.{n}.self_attn.q_proj.bias", when=QKV),
    Rule("trf_blocks.{n}.att.W_key.weight", "model.layers.{n}.self_attn.k_proj.weight"),
    Rule("trf_blocks.{n}.att.W_key.bias", "model.layers.{n}.self_attn.k_proj.bias", when=QKV),
    Rule("trf_blocks.{n}.att.W_value.weight", "model.layers.{n}.self_attn.v_proj.weight"),
    Rule("trf_blocks.{n}.att.W_value.bias", "model.layers.{n}.self_attn.v_proj.bias", when=QKV),
    Rule("trf_blocks.{n}.att.out_proj.{p}", "model.layers.{n}.self_attn.o_proj.{p}"),
    Rule("trf_blocks.{n}.norm2.scale", "model.layers.{n}.post_attention_layernorm.weight"),
    Rule("trf_blocks.{n}.norm2.shift", "model.layers.{n}.post_attention_layernorm.bias"),
    Rule("trf_blocks.{n}.ff.layers.0.{p}", "model.layers.{n}.mlp.up_proj.{p}"),
    Rule("trf_blocks.{n}.ff.layers.2.{p}", "model.layers.{n}.mlp.down_proj.{p}"),
    Rule("final_norm.scale", "model.norm.weight"),
    Rule("final_norm.shift", "model.norm.bias"),
    Rule("out_head.weight", "lm_head.weight", when=HEAD),
)
Q, K, V = (
    "model.layers.{n}.self_attn.q_proj", "model.layers.{n}.self_attn.k_proj", "model.layers.{n}.self_attn.v_proj",
)  # fmt: skip
NANOGPT_TENSORS = (
    Rule("transformer.wte.weight", "model.embed_tokens.weight"),
    Rule("transformer.wpe.weight", "model.embed_positions.weight"),
    Rule("transformer.h.{n}.ln_1.weight", "model.layers.{n}.input_layernorm.weight"),
    Rule("transformer.h.{n}.ln_1.bias", "model.layers.{n}.input_layernorm.bias", when=MLP),
    Rule("transformer.h.{n}.attn.c_attn.weight", f"{Q}.weight {K}.weight {V}.weight", SPLIT),
    Rule("transformer.h.{n}.attn.c_attn.bias", f"{Q}.bias {K}.bias {V}.bias", SPLIT, QKV),
    Rule("transformer.h.{n}.attn.c_proj.weight", "model.layers.{n}.self_attn.o_proj.weight"),
    Rule("transformer.h.{n}.attn.c_proj.bias", "model.layers.{n}.self_attn.o_proj.bias", when=OUT),
    Rule("transformer.h.{n}.ln_2.weight", "model.layers.{n}.post_attention_layernorm.weight"),
    Rule("transformer.h.{n}.ln_2.bias", "model.layers.{n}.post_attention_layernorm.bias", when=MLP),
    Rule("transformer.h.{n}.mlp.c_fc.weight", "model.layers.{n}.mlp.up_proj.weight"),
    Rule("transformer.h.{n}.mlp.c_fc.bias", "model.layers.{n}.mlp.up_proj.bias", when=MLP),
    Rule("transformer.h.{n}.mlp.c_proj.weight", "model.layers.{n}.mlp.down_proj.weight"),
    Rule("transformer.h.{n}.mlp.c_proj.bias", "model.layers.{n}.mlp.down_proj.bias", when=MLP),
    Rule("transformer.ln_f.weight", "model.norm.weight"),
    Rule("transformer.ln_f.bias", "model.norm.bias", when=MLP),
    Rule("lm_head.weight", "lm_head.weight", when=HEAD),
)
LLAMA2C_TENSORS = (
    Rule("tok_embeddings.weight", "model.embed_tokens.weight"),
    Rule("layers.{n}.attention_norm.weight", "model.layers.{n}.input_layernorm.weight"),
    Rule("layers.{n}.attention.wq.weight", "model.layers.{n}.self_attn.q_proj.weight", UNPERMUTE_Q),
    Rule("layers.{n}.attention.wk.weight", "model.layers.{n}.self_attn.k_proj.weight", UNPERMUTE_K),
    Rule("layers.{n}.attention.wv.weight", "model.layers.{n}.self_attn.v_proj.weight"),
    Rule("layers.{n}.attention.wo.weight", "model.layers.{n}.self_attn.o_proj.weight"),
    Rule("layers.{n}.ffn_norm.weight", "model.layers.{n}.post_attention_layernorm.weight"),
    Rule("layers.{n}.feed_forward.w1.weight", "model.layers.{n}.mlp.gate_proj.weight"),
    Rule("layers.{n}.feed_forward.w3.weight", "model.layers.{n}.mlp.up_proj.weight"),
    Rule("layers.{n}.feed_forward.w2.weight", "model.layers.{n}.mlp.down_proj.weight"),
    Rule("norm.weight", "model.norm.weight"),
    Rule("output.weight", "lm_head.weight", when=HEAD),
)


class Asked(NamedTuple):
    """What a person said of a model because its tensors don't."""

    num_heads: int | None = None
    hidden_act: str | None = None


def shape_of(checkpoint: Checkpoint, source: "Source", name: str, num_dimensions: int = 2) -> torch.Size:
    """The shape of a tensor that every such model has. Raises UserError that names the source it may be of."""
    tensor = checkpoint.tensors.get(name)
    if tensor is None:
        likely = [
            key for key, other in SOURCES.items() if other.rules[0].left in checkpoint.tensors and other != source
        ]
        hint = f"its names are those of --from {likely[0]}" if likely else f"save the state_dict() of {source.title}"
        raise UserError(f"{checkpoint.path}: has no tensor {name}, so it is not {source.title}; {hint}")
    if tensor.ndim != num_dimensions or not tensor.numel():
        raise UserError(f"{checkpoint.path}: tensor {name} has the shape {tuple(tensor.shape)}; it is not a matrix")
    return tensor.shape


def num_layers(checkpoint: Checkpoint, pattern: str) -> int:
    """One more than the highest layer that a tensor's name holds; at least 1, whose tensors are then missed."""
    found = [int(match[1]) for name in checkpoint.tensors if (match := re.match(pattern, name))]
    return min(max(found, default=0), len(checkpoint.tensors)) + 1


def heads_of(checkpoint: Checkpoint, asked: Asked, setting: str, width: int) -> int:
    """The number of heads, asked for or saved. Raises UserError, naming likely ones, where it is neither or wrong."""
    saved = checkpoint.settings.get(setting)
    heads = asked.num_heads if asked.num_heads is not None else saved
    likely = [str(width // size) for size in HEAD_SIZES if width % size == 0] or ["1"]
    if heads is None:
        raise UserError(
            f"{checkpoint.path}: the number of heads is not in the weights; add --num_heads N, the n_heads of your "
            f"configuration: likely {likely[0]}" + (f", maybe {' or '.join(likely[1:])}" if likely[1:] else "")
        )
    if saved is not None and heads != saved:
        raise UserError(f"{checkpoint.path}: --num_heads {heads}, but its model_args say {saved}; drop the flag")
    if type(heads) is not int or heads < 1 or width % heads:
        raise UserError(f"--num_heads {heads} does not divide the width {width}; likely: {', '.join(likely)}")
    return heads


def check_settings(checkpoint: Checkpoint, found: dict[str, int]) -> None:
    """Raise UserError where the saved model_args say something else than the tensors."""
    for name, value in found.items():
        if (said := checkpoint.settings.get(name)) is not None and said != value:
            raise UserError(
                f"{checkpoint.path}: model_args say {name} {said!r:.20}, its tensors {value}; not one model"
            )


def number_in(checkpoint: Checkpoint, name: str, default: float) -> float:
    """A number among the saved settings."""
    value = checkpoint.settings.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{checkpoint.path}: {name} in its model_args is {value!r:.40}, no number; save it again")
    return value


def is_tied(checkpoint: Checkpoint, head: str, embedding: str) -> bool:
    """Whether the head is the embedding, or a copy of it."""
    tensors = checkpoint.tensors
    return head not in tensors or torch.equal(tensors[head], tensors[embedding])


def book_config(checkpoint: Checkpoint, asked: Asked) -> FTGPTConfig:
    """The configuration of the book's GPT. Raises UserError where its tensors are not that."""
    source = SOURCES["book"]
    vocab_size, width = shape_of(checkpoint, source, "tok_emb.weight")
    head = shape_of(checkpoint, source, "out_head.weight")
    if head[0] != vocab_size and head[1] == width:
        raise UserError(
            f"{checkpoint.path}: out_head has {head[0]} rows for {vocab_size} tokens: a classifier, as chapter 6 makes "
            "it; import the model before it got that head, and train it with ftkit classify"
        )
    return FTGPTConfig.gpt2(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=shape_of(checkpoint, source, "trf_blocks.0.ff.layers.0.weight")[0],
        num_hidden_layers=num_layers(checkpoint, r"trf_blocks\.(\d{1,4})\."),
        num_attention_heads=heads_of(checkpoint, asked, "n_heads", width),
        max_position_embeddings=shape_of(checkpoint, source, "pos_emb.weight")[0],
        hidden_act=asked.hidden_act or "gelu_new",  # the book writes the tanh form out
        norm_eps=LAYER_NORM_EPS,
        attention_bias="trf_blocks.0.att.W_query.bias" in checkpoint.tensors,
        tie_word_embeddings=is_tied(checkpoint, "out_head.weight", "tok_emb.weight"),
        **dict.fromkeys(("attention_dropout", "residual_dropout", "embedding_dropout"), BOOK_DROPOUT),
    )


def nanogpt_config(checkpoint: Checkpoint, asked: Asked) -> FTGPTConfig:
    """The configuration of a nanoGPT checkpoint. Raises UserError where its tensors are not that."""
    source = SOURCES["nanogpt"]
    vocab_size, width = shape_of(checkpoint, source, "transformer.wte.weight")
    context = shape_of(checkpoint, source, "transformer.wpe.weight")[0]
    if shape_of(checkpoint, source, "transformer.h.0.attn.c_attn.weight") == (width, 3 * width):
        raise UserError(
            f"{checkpoint.path}: its matrices are transposed, as in transformers' GPT-2, whose names are the same; "
            "save that model by save_pretrained, and every command takes the folder"
        )
    layers, has_bias = (
        num_layers(checkpoint, r"transformer\.h\.(\d{1,4})\."),
        "transformer.ln_f.bias" in checkpoint.tensors,
    )
    found = {"n_layer": layers, "n_embd": width, "block_size": context, "vocab_size": vocab_size, "bias": has_bias}
    check_settings(checkpoint, found)
    dropout = number_in(checkpoint, "dropout", 0.0)
    return FTGPTConfig.gpt2(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=shape_of(checkpoint, source, "transformer.h.0.mlp.c_fc.weight")[0],
        num_hidden_layers=layers,
        num_attention_heads=heads_of(checkpoint, asked, "n_head", width),
        max_position_embeddings=context,
        hidden_act=asked.hidden_act or "gelu",
        norm_eps=LAYER_NORM_EPS,
        tie_word_embeddings=is_tied(checkpoint, "lm_head.weight", "transformer.wte.weight"),
        **dict.fromkeys((QKV, OUT, MLP), has_bias),
        **dict.fromkeys(("attention_dropout", "residual_dropout", "embedding_dropout"), dropout),
    )


def llama2c_config(checkpoint: Checkpoint, asked: Asked) -> FTGPTConfig:
    """The configuration of a llama2.c checkpoint. Raises UserError where its tensors are not that."""
    source = SOURCES["llama2.c"]
    vocab_size, width = shape_of(checkpoint, source, "tok_embeddings.weight")
    if asked.hidden_act:
        raise UserError("--hidden_act: llama2.c computes SwiGLU with silu; drop the flag")
    if "max_seq_len" not in checkpoint.settings:
        raise UserError(
            f'{checkpoint.path}: has no model_args, which hold the context; save {{"model": model.state_dict(), '
            '"model_args": {"max_seq_len": ..., "n_heads": ..., "norm_eps": ...}}'
        )
    layers, heads = num_layers(checkpoint, r"layers\.(\d{1,4})\."), heads_of(checkpoint, asked, "n_heads", width)
    check_settings(checkpoint, {"n_layers": layers, "dim": width, "vocab_size": vocab_size})
    key_rows = shape_of(checkpoint, source, "layers.0.attention.wk.weight")[0]
    dropout = number_in(checkpoint, "dropout", 0.0)
    return FTGPTConfig.llama(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=shape_of(checkpoint, source, "layers.0.feed_forward.w1.weight")[0],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, key_rows // (width // heads)),
        max_position_embeddings=number_in(checkpoint, "max_seq_len", 0),
        norm_eps=number_in(checkpoint, "norm_eps", 1e-5),
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=is_tied(checkpoint, "output.weight", "tok_embeddings.weight"),
        **dict.fromkeys(("attention_dropout", "residual_dropout", "embedding_dropout"), dropout),
    )


class Source(NamedTuple):
    """A way to write a GPT. rules: the first is the embedding's. ignored: names of buffers that are no weights."""

    title: str
    rules: tuple[Rule, ...]
    ignored: str
    config: Callable[[Checkpoint, Asked], FTGPTConfig]
    logits: Callable[[Tensors, Sizes, list[int]], torch.Tensor]


SOURCES = {
    "book": Source(
        "the book's GPTModel", BOOK_TENSORS, r"\.att\.mask$", book_config, book_logits,
    ),
    "nanogpt": Source(
        "nanoGPT's GPT", NANOGPT_TENSORS, r"\.attn\.(masked_)?bias$", nanogpt_config, nanogpt_logits,
    ),
    "llama2.c": Source(
        "llama2.c's Transformer", LLAMA2C_TENSORS, r"^freqs_(cos|sin)$|\.attention\.mask$|^rope\.freqs$",
        llama2c_config, llama2c_logits,
    ),
}  # fmt: skip
