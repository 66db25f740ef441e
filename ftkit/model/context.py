"""How many tokens a model sees at once.

context_size(model.config)     # 512 of a RoBERTa, whose configuration says 514
"""

from transformers import PreTrainedConfig

# Families that number positions from pad_token_id + 1 (fairseq's convention), so that their tables hold so many more.
COUNTED_FROM_PAD = (
    "camembert", "data2vec-text", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip


def context_size(config: PreTrainedConfig) -> int | None:
    """The most tokens of a text that the model sees at once; None where its configuration names no limit."""
    config = config.get_text_config()
    size = getattr(config, "max_position_embeddings", None)
    if size and config.model_type in COUNTED_FROM_PAD:
        size -= (config.pad_token_id or 0) + 1
    return size or None
