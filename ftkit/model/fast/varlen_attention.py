"""Attention for packed rows on a GPU: torch's kernel for sequences of several lengths, with no mask at all.

    use_varlen_attention(model)     # where rows are packed; any other input goes through sdpa as before

A packed row restarts its position_ids at 0 for each document. Where documents begin is found once per forward, in front
of the decoder, and handed to every layer by the names that transformers has for flash attention. sdpa instead reads a
mask of T x T entries, and computes the squares between documents to throw them away.
"""

import inspect
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface

from ftkit.model.fast.packed_attention import packed_mask

# B batch, H heads, K key/value heads, T tokens, E head size; N all tokens of a batch, D all its documents

NAME = "packed_varlen"


@cache
def kernel_settings() -> frozenset[str]:
    """The names of what the kernel of this torch takes, which differ between its versions; none before torch 2.10."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(varlen_attn).parameters)


def has_varlen() -> bool:
    """Whether this torch has the kernel, in a form that can be causal."""
    return not kernel_settings().isdisjoint(("window_size", "is_causal"))


def use_varlen_attention(model: PreTrainedModel) -> bool:
    """Switch a model from sdpa to packed_varlen; return whether it was switched. For training in bf16 or fp16 on a GPU.

    Whether the model hands keyword arguments on to its attention must be tested on it: without them documents would see
    each other.
    """
    if model.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, packed_varlen)
    AttentionMaskInterface.register(NAME, packed_mask)
    model.set_attn_implementation(NAME)
    decoder = model.get_decoder()
    names = tuple(inspect.signature(decoder.forward).parameters)
    decoder.register_forward_pre_hook(partial(add_borders, names), with_kwargs=True)
    return True


def add_borders(names: tuple, decoder, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """A forward hook that adds where documents begin to the arguments of a packed batch; others stay as they are.

    names: of the decoder's arguments, in order.
    """
    given = dict(zip(names, args, strict=False)) | kwargs
    position_ids = given.get("position_ids")
    if position_ids is None or given.get("attention_mask") is not None or given.get("past_key_values") is not None:
        return None
    starts_N = torch.ones_like(position_ids, dtype=torch.bool)
    starts_N[:, 1:] = position_ids.diff(dim=1) != 1
    starts_D = starts_N.flatten().nonzero().squeeze(-1)
    if len(starts_D) == len(position_ids):  # one document per row, which is causal attention as it is
        return None
    borders = F.pad(starts_D, (0, 1), value=position_ids.numel()).to(torch.int32)
    longest = int(borders.diff().max())
    return args, kwargs | {
        "cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest
    }  # fmt: skip


def packed_varlen(
    module, query_BHTE, key_BKTE, value_BKTE, attention_mask, dropout=0.0, scaling=None, cu_seq_lens_q=None,
    max_length_q=None, **kwargs,
) -> tuple[Tensor, None]:  # fmt: skip
    """sdpa_attention_forward, or where borders of documents are given each document by itself: (B, T, H, E).

    Raises ValueError for dropout, which the kernel does not have.
    """
    if cu_seq_lens_q is None or attention_mask is not None:
        return sdpa_attention_forward(
            module, query_BHTE, key_BKTE, value_BKTE, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if dropout:
        raise ValueError(f"attention_dropout is {dropout}; packed_varlen has none: give --attn_implementation sdpa")
    dtype = kernel_dtype(query_BHTE)
    heads_NHE = [heads.transpose(1, 2).flatten(0, 1).to(dtype) for heads in (query_BHTE, key_BKTE, value_BKTE)]
    attend = attend_on_gpu if query_BHTE.is_cuda else attend_by_document
    mixed_NHE = attend(*heads_NHE, cu_seq_lens_q, max_length_q, scaling)
    return mixed_NHE.unflatten(0, (len(query_BHTE), -1)).to(query_BHTE.dtype), None


def kernel_dtype(query: Tensor) -> torch.dtype:
    """The precision of the kernel: autocast's, which it does not take part in by itself, else the tensor's own."""
    device = query.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype


def attend_on_gpu(query_NHE, key_NKE, value_NKE, borders: Tensor, longest: int, scaling: float | None) -> Tensor:
    """Causal attention within each document, by torch's kernel: (N, H, E)."""
    from torch.nn.attention.varlen import varlen_attn

    known, num_groups = kernel_settings(), query_NHE.shape[1] // key_NKE.shape[1]
    settings: dict = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    if "enable_gqa" in known:
        settings["enable_gqa"] = num_groups > 1
    elif num_groups > 1:
        key_NKE, value_NKE = (heads.repeat_interleave(num_groups, dim=1) for heads in (key_NKE, value_NKE))
    if "scale" in known:
        settings["scale"] = scaling
    elif scaling is not None:  # its own is 1 / sqrt(E)
        query_NHE = query_NHE * (scaling * query_NHE.shape[-1] ** 0.5)
    return varlen_attn(query_NHE, key_NKE, value_NKE, borders, borders, longest, longest, **settings)


def attend_by_document(query_NHE, key_NKE, value_NKE, borders: Tensor, longest: int, scaling: float | None) -> Tensor:
    """The same where there is no GPU, document by document: what plans for other machines and tests run on."""
    num_groups = query_NHE.shape[1] // key_NKE.shape[1]
    heads = [heads.transpose(0, 1)[None] for heads in (query_NHE, key_NKE, value_NKE)]
    heads[1:] = [repeat_kv(one, num_groups) for one in heads[1:]]
    lengths = borders.diff().tolist()
    documents = zip(*(one.split(lengths, dim=2) for one in heads), strict=True)
    mixed = [F.scaled_dot_product_attention(*each, is_causal=True, scale=scaling) for each in documents]
    return torch.cat(mixed, dim=2)[0].transpose(0, 1)
