"""Training FTGPT: gradients, accumulation, checkpointing, dropout, first weights, TRL's head, torch.compile."""

import pytest
import torch

from ftkit.model import FTGPTForCausalLM


def gap(left, right):
    return (left - right).abs().max().item()


def test_gradients_equal_those_of_llama(llama_twins, token_ids):
    reference, model = llama_twins()
    ids = token_ids(2, 20)
    reference(ids, labels=ids).loss.backward()
    model(ids, labels=ids).loss.backward()
    expected = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        assert gap(parameter.grad, expected[name].grad) <= 1e-6, name


def test_extra_columns_of_trl_padding_free_collator_are_accepted(preset, tiny_model, token_ids):
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    rows = [token_ids(1, length, seed=length)[0].tolist() for length in (4, 7)]
    batch = dict(collate([{"input_ids": row, "seq_lengths": [len(row)]} for row in rows]))
    extra = {"cu_seq_lens_q": torch.tensor([0, 4, 11]), "cu_seq_lens_k": torch.tensor([0, 4, 11])}
    extra |= {"max_length_q": 7, "max_length_k": 7, "seq_idx": torch.tensor([[0] * 4 + [1] * 7])}
    model = tiny_model(preset)
    got = model(**{**batch, **extra}, use_cache=False)
    expected = torch.cat([model(torch.tensor([row])).logits for row in rows], dim=1)
    assert gap(got.logits, expected) <= 1e-5
    assert got.loss.isfinite()


def test_eight_accumulated_rows_equal_one_batch_of_eight(preset, tiny_model, token_ids):
    ids = token_ids(8, 10)
    labels = ids.clone()
    for row in range(8):
        labels[row, : row + 1] = -100  # rows score different numbers of tokens
    num_items = (labels[:, 1:] != -100).sum()
    whole, parts = tiny_model(preset), tiny_model(preset)
    loss = whole(ids, labels=labels, num_items_in_batch=num_items).loss
    loss.backward()
    total = 0.0
    for row in range(8):
        part = parts(ids[row : row + 1], labels=labels[row : row + 1], num_items_in_batch=num_items).loss
        part.backward()
        total += part.item()
    assert total == pytest.approx(loss.item(), abs=1e-5)
    for left, right in zip(whole.parameters(), parts.parameters(), strict=True):
        assert gap(left.grad, right.grad) <= 1e-5


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant, preset, tiny_model, token_ids):
    ids = token_ids(2, 10)
    plain, checkpointed = tiny_model(preset), tiny_model(preset)
    checkpointed.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    checkpointed.enable_input_require_grads()
    for model in (plain, checkpointed):
        model.train()
        torch.manual_seed(3)  # the same dropout
        model(ids, labels=ids).loss.backward()
    assert checkpointed.model.layers[0].gradient_checkpointing
    for left, right in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert gap(left.grad, right.grad) <= 1e-6


@pytest.mark.parametrize("name", ["attention_dropout", "residual_dropout", "embedding_dropout"])
def test_each_dropout_acts_in_training_and_not_in_evaluation(name, preset, tiny_model, token_ids):
    ids = token_ids(2, 9)
    none = {"attention_dropout": 0.0, "residual_dropout": 0.0, "embedding_dropout": 0.0}
    without, model = tiny_model(preset, **none), tiny_model(preset, **{**none, name: 0.5})
    assert gap(model(ids).logits, without(ids).logits) <= 1e-6
    model.train(), without.train()
    assert gap(model(ids).logits, without(ids).logits) > 0.1
    assert gap(without(ids).logits, without(ids).logits) <= 1e-6


@pytest.mark.parametrize("silenced", ["self_attn.o_proj", "mlp.down_proj"])
def test_residual_dropout_acts_after_attention_and_after_the_mlp(silenced, preset, tiny_model, token_ids):
    dropouts = {"attention_dropout": 0.0, "residual_dropout": 0.5, "embedding_dropout": 0.0}
    model = tiny_model(preset, **dropouts).train()
    for layer in model.model.layers:
        for parameter in layer.get_submodule(silenced).parameters():
            parameter.data.zero_()
    assert gap(model(token_ids(2, 9)).logits, model(token_ids(2, 9)).logits) > 0.1


def test_residual_projections_start_smaller_by_the_root_of_their_number(preset, tiny_config):
    torch.manual_seed(0)
    config = tiny_config(preset, hidden_size=128, num_hidden_layers=8, initializer_range=0.02)
    layer = FTGPTForCausalLM(config).model.layers[3]
    for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
        assert projection.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)  # sqrt(2 * 8) = 4
    for projection in (layer.self_attn.q_proj, layer.mlp.up_proj):
        assert projection.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_an_end_token_used_as_padding_still_learns(tiny_model):
    model = tiny_model("llama", pad_token_id=5, eos_token_id=5, tie_word_embeddings=False)
    ids = torch.tensor([[7, 5, 8, 9]])
    model(ids, labels=ids).loss.backward()
    assert model.model.embed_tokens.weight.grad[5].abs().max() > 0


def test_trl_fused_head_gives_the_models_own_loss(preset, tiny_model, token_ids):
    add_fused_lm_head = getattr(pytest.importorskip("trl.trainer.utils"), "add_fused_lm_head", None)
    if add_fused_lm_head is None:
        pytest.skip("TRL before 1.16 has no shared head")

    ids = token_ids(2, 9)
    labels = ids.clone()
    labels[0, :4] = -100
    model = tiny_model(preset)
    expected = model(ids, labels=labels).loss
    add_fused_lm_head(model)
    assert model(ids, labels=labels, fused_lm_head=True).loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape == (2, 11)


@pytest.mark.slow
def test_torch_compile_captures_one_graph(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(2, 9)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    inputs = {"attention_mask": mask, "labels": ids, "use_cache": False}
    report = torch._dynamo.explain(model)(ids, **inputs)
    assert (report.graph_count, report.graph_break_count) == (1, 0)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert gap(compiled(ids, **inputs).loss, model(ids, **inputs).loss) <= 1e-5
