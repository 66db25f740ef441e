"""Attention for packed rows on a CPU: each document by itself, instead of all against all behind a mask.

    use_packed_attention(model)     # where rows are packed; any other input goes through sdpa as before

A packed row restarts its position_ids at 0 for each document. sdpa computes the whole square of the row and masks what
lies outside of the documents; here only the squares of the documents are computed.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

# B batch, H heads, K key/value heads, T tokens, E head size

NAME = "packed_sdpa"


def register_packed_attention() -> None:
    """Make packed_sdpa known to transformers by its name; a second time changes nothing."""
    AttentionInterface.register(NAME, packed_sdpa)
    AttentionMaskInterface.register(NAME, packed_mask)


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Switch a model from sdpa to packed_sdpa; return whether it was switched. For training on a CPU.

    Whether the model hands position_ids to its attention must be tested on it: without them documents would see each
    other.
    """
    if model.config._attn_implementation != "sdpa":
        return False
    register_packed_attention()
    model.set_attn_implementation(NAME)
    return True


def packed_sdpa(
    module, query_BHTE, key_BKTE, value_BKTE, attention_mask, dropout=0.0, scaling=None, position_ids=None, **kwargs
) -> tuple[Tensor, None]:
    """sdpa_attention_forward, document by document where no mask is given and position_ids restart: (B, T, H, E)."""
    lengths = None
    if attention_mask is None and position_ids is not None and query_BHTE.shape[2] == key_BKTE.shape[2]:
        lengths = document_lengths(position_ids.expand(len(query_BHTE), -1))
    if lengths is None:
        return sdpa_attention_forward(
            module, query_BHTE, key_BKTE, value_BKTE, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    num_groups = query_BHTE.shape[1] // key_BKTE.shape[1]
    heads = (query_BHTE, repeat_kv(key_BKTE, num_groups), repeat_kv(value_BKTE, num_groups))
    heads = [tensor.float() for tensor in heads]  # on short documents sdpa's bf16 kernel takes twice as long
    settings = {"dropout_p": dropout, "scale": scaling, "is_causal": True}
    rows = []
    with torch.autocast("cpu", enabled=False):  # which would undo the cast
        for row, row_lengths in enumerate(lengths):
            documents = zip(*(tensor[row : row + 1].split(row_lengths, dim=2) for tensor in heads), strict=True)
            rows.append(torch.cat([F.scaled_dot_product_attention(*each, **settings) for each in documents], dim=2))
    return torch.cat(rows).transpose(1, 2).contiguous().to(query_BHTE.dtype), None


def document_lengths(position_ids: Tensor) -> list[list[int]] | None:
    """Tokens of each document of each row; None where no row holds more than one. position_ids: (B, T)."""
    starts = position_ids.diff(dim=1) != 1
    if not bool(starts.any()):
        return None
    num_tokens = position_ids.shape[1]
    borders = [[0, *(row.nonzero().squeeze(-1) + 1).tolist(), num_tokens] for row in starts]
    return [[end - start for start, end in zip(row[:-1], row[1:], strict=True)] for row in borders]


def packed_mask(*args, attention_mask=None, local_size=None, use_vmap=False, allow_is_causal_skip=True, **kwargs):
    """sdpa's mask, or None where it would only keep packed documents apart, which packed_sdpa does by itself."""
    plain = attention_mask is None and local_size is None and not use_vmap
    if plain and not allow_is_causal_skip and kwargs["q_length"] == kwargs["kv_length"]:
        return None
    return sdpa_mask(
        *args, attention_mask=attention_mask, local_size=local_size, use_vmap=use_vmap,
        allow_is_causal_skip=allow_is_causal_skip, **kwargs,
    )  # fmt: skip
