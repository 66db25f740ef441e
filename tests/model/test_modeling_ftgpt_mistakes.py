"""What FTGPT refuses, and with which words."""

import pytest
import torch

from ftkit.model.modeling_ftgpt import check_range


def test_more_tokens_than_the_context_are_refused(preset, tiny_model, token_ids):
    model = tiny_model(preset)
    with pytest.raises(ValueError, match="positions hold 64, but must be from 0 to 63 .max_position_embeddings"):
        model(token_ids(1, 65))
    padded = torch.ones(1, 65, dtype=torch.long)
    padded[0, 0] = 0
    assert model(token_ids(1, 65), attention_mask=padded).logits.shape == (1, 65, 97)  # 64 tokens and one padding
    packed = torch.arange(35).repeat(2)[None]
    assert model(token_ids(1, 70), position_ids=packed).logits.shape == (1, 70, 97)


def test_token_ids_outside_the_vocabulary_are_refused(preset, tiny_model):
    model = tiny_model(preset)
    with pytest.raises(ValueError, match="input_ids hold 97, but must be from 0 to 96 .vocab_size"):
        model(torch.tensor([[1, 97]]))
    with pytest.raises(ValueError, match="input_ids hold -1"):
        model(torch.tensor([[1, -1]]))


def test_wrong_labels_are_refused(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(2, 9)
    with pytest.raises(ValueError, match=r"labels have shape \(2, 8\) but the logits cover \(2, 9\)"):
        model(ids, labels=ids[:, 1:])
    with pytest.raises(ValueError, match="labels hold 100, but must be from 0 to 96"):
        model(ids, labels=torch.full_like(ids, 100))


def test_a_mask_that_forgets_the_cached_tokens_is_refused(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(1, 9)
    past = model(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="attention_mask covers 1 tokens but attention goes over 9 cached and 1 new"):
        model(ids[:, :1], attention_mask=torch.ones(1, 1, dtype=torch.long), past_key_values=past)


def test_ids_and_embeddings_together_or_neither_are_refused(preset, tiny_model, token_ids):
    model = tiny_model(preset)
    for inputs in ({}, {"input_ids": token_ids(1, 3), "inputs_embeds": torch.zeros(1, 3, 32)}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            model(**inputs)


def test_check_range_reads_an_accelerator_only_when_told():
    ids = torch.empty(1, 2, dtype=torch.long, device="meta")  # no values to read
    check_range(ids, 5, "ids", "size")
    with pytest.raises((NotImplementedError, RuntimeError)):
        check_range(ids, 5, "ids", "size", read_from_accelerator=True)
