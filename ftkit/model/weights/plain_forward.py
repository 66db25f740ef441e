"""The forward pass of GPTs that people write, by their own formulas and tensor names: what an import is held against.

    logits_TV = book_logits(tensors, Sizes(num_layers=12, num_heads=12), ids)

Nothing of FTGPT takes part. One sequence at a time, in float32.
T tokens, D hidden, H heads, K key/value heads, E size of a head, V vocabulary
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

Tensors = dict[str, torch.Tensor]
LAYER_NORM_EPS = 1e-5  # of the book and of nanoGPT
ROPE_THETA = 10000.0  # of llama2.c


class Sizes(NamedTuple):
    """What the formulas need to know and tensors don't say. norm_eps: of RMSNorm."""

    num_layers: int
    num_heads: int
    hidden_act: str = "gelu_new"
    norm_eps: float = 1e-5


def attend(query_THE: torch.Tensor, key_TKE: torch.Tensor, value_TKE: torch.Tensor) -> torch.Tensor:
    """Causal attention written out, (T, H * E); each key/value head serves H / K query heads in a row."""
    num_tokens, num_heads, size = query_THE.shape
    mixed = []
    for head in range(num_heads):
        shared = head * key_TKE.shape[1] // num_heads
        scores_TT = query_THE[:, head] @ key_TKE[:, shared].t() / math.sqrt(size)
        is_future_TT = torch.ones(num_tokens, num_tokens, dtype=torch.bool).triu(1)
        mixed.append(scores_TT.masked_fill(is_future_TT, -math.inf).softmax(-1) @ value_TKE[:, shared])
    return torch.cat(mixed, dim=-1)


class Reader:
    """Tensors as float32, and layers of these weights applied to hidden states (T, D)."""

    def __init__(self, tensors: Tensors):
        self.tensors = tensors

    def __call__(self, name: str) -> torch.Tensor:
        return self.tensors[name].float()

    def linear(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        """x W' + b, without b where there is none."""
        bias = self(f"{name}.bias") if f"{name}.bias" in self.tensors else 0.0
        return hidden @ self(f"{name}.weight").t() + bias

    def layer_norm(self, hidden: torch.Tensor, scale: str, shift: str) -> torch.Tensor:
        """(x - mean) / sqrt(variance + eps) * scale + shift."""
        centred = hidden - hidden.mean(-1, keepdim=True)
        normal = centred / (centred.square().mean(-1, keepdim=True) + LAYER_NORM_EPS).sqrt()
        return normal * self(scale) + (self(shift) if shift in self.tensors else 0.0)

    def rms_norm(self, hidden: torch.Tensor, name: str, eps: float) -> torch.Tensor:
        """x / sqrt(mean square + eps) * weight."""
        return hidden * (hidden.square().mean(-1, keepdim=True) + eps).rsqrt() * self(name)


def gelu(values: torch.Tensor, kind: str) -> torch.Tensor:
    """GELU, exact ("gelu") or in the tanh form ("gelu_new"; Hendrycks and Gimpel, arXiv:1606.08415)."""
    if kind == "gelu":
        return 0.5 * values * (1 + torch.erf(values / math.sqrt(2)))
    return 0.5 * values * (1 + torch.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))


def book_logits(tensors: Tensors, sizes: Sizes, ids: list[int]) -> torch.Tensor:
    """Logits (T, V) of the book's GPT."""
    read, heads = Reader(tensors), sizes.num_heads
    hidden_TD = read("tok_emb.weight")[ids] + read("pos_emb.weight")[: len(ids)]
    for n in range(sizes.num_layers):
        block = f"trf_blocks.{n}"
        normal_TD = read.layer_norm(hidden_TD, f"{block}.norm1.scale", f"{block}.norm1.shift")
        parts = [read.linear(normal_TD, f"{block}.att.W_{part}") for part in ("query", "key", "value")]
        mixed_TD = attend(*(part.view(len(ids), heads, -1) for part in parts))
        hidden_TD = hidden_TD + read.linear(mixed_TD, f"{block}.att.out_proj")
        normal_TD = read.layer_norm(hidden_TD, f"{block}.norm2.scale", f"{block}.norm2.shift")
        inner = gelu(read.linear(normal_TD, f"{block}.ff.layers.0"), sizes.hidden_act)
        hidden_TD = hidden_TD + read.linear(inner, f"{block}.ff.layers.2")
    head = "out_head" if "out_head.weight" in tensors else "tok_emb"
    return read.linear(read.layer_norm(hidden_TD, "final_norm.scale", "final_norm.shift"), head)


def nanogpt_logits(tensors: Tensors, sizes: Sizes, ids: list[int]) -> torch.Tensor:
    """Logits (T, V) of nanoGPT's GPT."""
    read, heads = Reader(tensors), sizes.num_heads
    hidden_TD = read("transformer.wte.weight")[ids] + read("transformer.wpe.weight")[: len(ids)]
    for n in range(sizes.num_layers):
        block = f"transformer.h.{n}"
        normal_TD = read.layer_norm(hidden_TD, f"{block}.ln_1.weight", f"{block}.ln_1.bias")
        parts = read.linear(normal_TD, f"{block}.attn.c_attn").chunk(3, dim=-1)
        mixed_TD = attend(*(part.reshape(len(ids), heads, -1) for part in parts))
        hidden_TD = hidden_TD + read.linear(mixed_TD, f"{block}.attn.c_proj")
        normal_TD = read.layer_norm(hidden_TD, f"{block}.ln_2.weight", f"{block}.ln_2.bias")
        inner = gelu(read.linear(normal_TD, f"{block}.mlp.c_fc"), sizes.hidden_act)
        hidden_TD = hidden_TD + read.linear(inner, f"{block}.mlp.c_proj")
    head = "lm_head" if "lm_head.weight" in tensors else "transformer.wte"
    return read.linear(read.layer_norm(hidden_TD, "transformer.ln_f.weight", "transformer.ln_f.bias"), head)


def turned(states_THE: torch.Tensor) -> torch.Tensor:
    """States after rotary positions, whose pairs are neighbours here: each pair is a complex number that is turned."""
    num_tokens, num_heads, size = states_THE.shape
    pairs = torch.view_as_complex(states_THE.reshape(num_tokens, num_heads, -1, 2))
    frequencies = ROPE_THETA ** -(torch.arange(0, size, 2).float() / size)
    angles_TE = torch.outer(torch.arange(num_tokens).float(), frequencies)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles_TE), angles_TE)[:, None]).flatten(2)


def llama2c_logits(tensors: Tensors, sizes: Sizes, ids: list[int]) -> torch.Tensor:
    """Logits (T, V) of llama2.c's Transformer."""
    read, eps = Reader(tensors), sizes.norm_eps
    hidden_TD = read("tok_embeddings.weight")[ids]
    size = hidden_TD.shape[1] // sizes.num_heads
    for n in range(sizes.num_layers):
        normal_TD = read.rms_norm(hidden_TD, f"layers.{n}.attention_norm.weight", eps)
        parts = [read.linear(normal_TD, f"layers.{n}.attention.w{part}") for part in "qkv"]
        query, key, value = (part.view(len(ids), -1, size) for part in parts)
        mixed_TD = attend(turned(query), turned(key), value)
        hidden_TD = hidden_TD + read.linear(mixed_TD, f"layers.{n}.attention.wo")
        normal_TD = read.rms_norm(hidden_TD, f"layers.{n}.ffn_norm.weight", eps)
        gate = F.silu(read.linear(normal_TD, f"layers.{n}.feed_forward.w1"))
        inner = gate * read.linear(normal_TD, f"layers.{n}.feed_forward.w3")
        hidden_TD = hidden_TD + read.linear(inner, f"layers.{n}.feed_forward.w2")
    head = "output" if "output.weight" in tensors else "tok_embeddings"
    return read.linear(read.rms_norm(hidden_TD, "norm.weight", eps), head)
