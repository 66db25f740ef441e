"""Sentence embeddings by a local encoder: pooled as sentence-transformers pools them."""

import pytest
import torch

from ftkit.config.errors import UserError
from ftkit.metrics.similarity import EmbeddingSimilarity


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A random BERT of whole words, saved as a folder."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: place for place, word in enumerate(["<pad>", "<unk>", "a", "cat", "dog", "sat"])}
    backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=6,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    folder = tmp_path_factory.mktemp("encoder")
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    return str(folder)


def test_equal_texts_are_one_and_padding_changes_nothing(encoder):
    metric = EmbeddingSimilarity()
    same = metric.compute(predictions=["a cat", "a dog sat"], references=["a cat", "a dog sat"], encoder=encoder)
    assert same["embedding_similarity"] == pytest.approx(1.0, abs=1e-6)
    alone = [
        metric.compute(predictions=[one], references=[other], encoder=encoder)["embedding_similarity"]
        for one, other in [("a", "a dog sat"), ("cat sat", "dog")]
    ]
    both = metric.compute(predictions=["a", "cat sat"], references=["a dog sat", "dog"], encoder=encoder)
    assert both["embedding_similarity"] == pytest.approx(sum(alone) / 2, abs=1e-6)
    assert both["embedding_similarity"] < 0.999


def test_texts_without_tokens_are_like_nothing(encoder):
    metric = EmbeddingSimilarity()
    none = metric.compute(predictions=["", " "], references=["", "a cat"], encoder=encoder)
    assert none == {"embedding_similarity": 0.0}
    mixed = metric.compute(predictions=["", "a cat"], references=["a", "a cat"], encoder=encoder)
    assert mixed["embedding_similarity"] == pytest.approx(0.5)


def test_a_text_is_cut_to_the_positions_that_the_encoder_has(encoder):
    longer = {"predictions": ["a " * 300], "references": ["a " * 16 + "cat"], "encoder": encoder}  # it has 16
    assert EmbeddingSimilarity().compute(**longer)["embedding_similarity"] == pytest.approx(1.0)


def test_a_missing_encoder_and_no_items_are_errors(encoder, tmp_path):
    with pytest.raises(UserError, match="no sentence encoder"):
        EmbeddingSimilarity().compute(predictions=["a"], references=["a"], encoder=str(tmp_path))
    with pytest.raises(ValueError, match="no items to score"):
        EmbeddingSimilarity().compute(predictions=[], references=[], encoder=encoder)
