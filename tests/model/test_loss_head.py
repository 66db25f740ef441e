"""The compact loss head against TRL's head and against full logits with cross-entropy."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)
from trl.trainer import utils as trl_utils

from ftkit.model.fast import chunked_log_probs as chunked
from ftkit.model.fast.chunked_log_probs import OUTPUTS, LinearHead

if not hasattr(trl_utils, "add_fused_lm_head"):
    pytest.skip("TRL before 1.16 has no head to take over", allow_module_level=True)

from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from ftkit.model.fast.loss_head import use_compact_loss_head  # noqa: E402

VOCAB_SIZE = 2500


@pytest.fixture(autouse=True)
def several_tiles(monkeypatch):
    monkeypatch.setattr(chunked, "VOCABULARY_TILE", 1024)  # the last of three is partial


SIZES = dict(
    vocab_size=VOCAB_SIZE,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.3,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)


def llama(seed=0, **changes):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **changes}))


def softcapped():
    torch.manual_seed(1)
    config = Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0, attn_implementation="eager")
    return Gemma2ForCausalLM(config)


def scaled():
    torch.manual_seed(2)
    return CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.25))


def biased():
    torch.manual_seed(3)
    model = PhiForCausalLM(PhiConfig(**SIZES, tie_word_embeddings=False))
    torch.nn.init.normal_(model.lm_head.bias)
    return model


def batch(keep=0.5, rows=3, length=17, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCAB_SIZE, (rows, length), generator=generator)
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) >= keep, -100)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def pair(model, *, temperature=1.0, cast_lm_head_to_fp32=False, outputs=OUTPUTS, **options):
    """The same model twice: with TRL's head, and with ours over TRL's."""
    reference, ours = model, copy.deepcopy(model)
    for each in (reference, ours):
        add_fused_lm_head(each, temperature=temperature, cast_lm_head_to_fp32=cast_lm_head_to_fp32, outputs=outputs)
    use_compact_loss_head(ours, outputs, **{"chunk_size": 7, **options})
    return reference, ours


def relative_error(value, reference):
    return ((value - reference).norm() / reference.norm().clamp(min=1e-12)).item()


def assert_same_gradients(ours, reference, tolerance=1e-5):
    expected = {name: p.grad for name, p in reference.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is None) == (expected[name] is None), name
        if parameter.grad is not None:
            assert relative_error(parameter.grad, expected[name]) <= tolerance, name


def mean_loss(outputs):
    return outputs.loss


def dft_loss(outputs):
    return (-outputs.log_probs * outputs.log_probs.exp().detach()).sum() / outputs.label_mask.sum()


def entropy_loss(outputs):
    return outputs.loss - 0.1 * outputs.entropy.sum()


def weighted_loss(outputs):
    weights = torch.linspace(-1, 2, outputs.log_probs.numel()).view_as(outputs.log_probs)
    return (weights * outputs.log_probs).sum() + (weights.flip(0) * outputs.entropy).sum()


@pytest.mark.parametrize("loss", [mean_loss, dft_loss, entropy_loss, weighted_loss])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize(
    "build",
    [llama, lambda: llama(tie_word_embeddings=True), softcapped, scaled, biased],
    ids=["untied", "tied", "softcap", "logit_scale", "bias"],
)
def test_outputs_and_gradients_equal_trls_head(build, frozen, loss):
    model = build()
    if frozen:
        model.get_output_embeddings().requires_grad_(False)
    reference, ours = pair(model)
    inputs = batch()
    for each in (reference, ours):
        outputs = each(**inputs, fused_lm_head=True)
        loss(outputs).backward()
    with torch.no_grad():
        expected, got = reference(**inputs, fused_lm_head=True), ours(**inputs, fused_lm_head=True)
    for name in ("loss", *OUTPUTS):
        assert relative_error(got[name].double(), expected[name].double()) <= 1e-5, name
    assert torch.equal(got.label_mask, expected.label_mask) and torch.equal(got.is_top1, expected.is_top1)
    assert_same_gradients(ours, reference)


@pytest.mark.parametrize("keep", [0.05, 0.3, 1.0])
def test_loss_and_gradients_equal_full_logits_with_cross_entropy(keep):
    model = llama()
    ours = copy.deepcopy(model)
    add_fused_lm_head(ours)
    use_compact_loss_head(ours)
    inputs = batch(keep, seed=3)
    labels = inputs.pop("labels")
    logits = model(**inputs).logits[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    expected.backward()
    loss = ours(**inputs, labels=labels, fused_lm_head=True).loss
    loss.backward()
    assert relative_error(loss, expected) <= 1e-6
    assert_same_gradients(ours, model)


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_temperature_given_to_trl_is_honoured(temperature):
    reference, ours = pair(llama(), temperature=temperature)
    for each in (reference, ours):
        entropy_loss(each(**batch(), fused_lm_head=True)).backward()
    assert_same_gradients(ours, reference)


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_all_ignored_batch_is_a_differentiable_zero(frozen):
    model = llama()
    model.lm_head.requires_grad_(not frozen)
    reference, ours = pair(model)
    inputs = batch(keep=0.0)
    for each in (reference, ours):
        loss = each(**inputs, fused_lm_head=True).loss
        loss.backward()
        assert loss.item() == 0.0
        assert all(p.grad is None or not p.grad.any() for p in each.parameters())
    assert_same_gradients(ours, reference)
    assert ours.model.embed_tokens.weight.grad is not None


def test_num_items_in_batch_divides_the_loss():
    reference, ours = pair(llama())
    expected = reference(**batch(), fused_lm_head=True, num_items_in_batch=100).loss
    assert relative_error(ours(**batch(), fused_lm_head=True, num_items_in_batch=100).loss, expected) <= 1e-6


def test_shift_labels_are_scored_without_shifting():
    reference, ours = pair(llama())
    inputs = batch()
    inputs["shift_labels"] = inputs.pop("labels")
    expected, got = (each(**inputs, fused_lm_head=True).log_probs for each in (reference, ours))
    assert got.shape == inputs["input_ids"].shape and relative_error(got, expected) <= 1e-6


def test_backward_twice_gives_the_same_gradients():
    reference, ours = pair(llama())
    loss = ours(**batch(), fused_lm_head=True).loss
    first, second = (torch.autograd.grad(loss, ours.lm_head.weight, retain_graph=True)[0].clone() for _ in range(2))
    assert relative_error(second, first) <= 1e-6


def test_uniform_rows_changes_no_gradient():
    for loss in (mean_loss, dft_loss):
        grads = []
        for uniform_rows in (True, False):
            _, ours = pair(llama(), uniform_rows=uniform_rows)
            loss(ours(**batch(), fused_lm_head=True)).backward()
            grads.append(ours.lm_head.weight.grad)
        assert relative_error(*grads) <= 1e-6


def test_no_grad_forms_no_gradient(monkeypatch):
    _, ours = pair(llama())
    monkeypatch.setattr(chunked, "_Gradients", None)
    with torch.no_grad():
        assert not ours(**batch(), fused_lm_head=True).loss.requires_grad
    with pytest.raises(TypeError):
        ours(**batch(), fused_lm_head=True)


def test_frozen_head_runs_no_vocabulary_product_in_backward(monkeypatch):
    model = llama()
    model.lm_head.requires_grad_(False)
    _, ours = pair(model)
    loss = dft_loss(ours(**batch(), fused_lm_head=True))
    monkeypatch.setattr(LinearHead, "logits", None)
    loss.backward()


def test_ignored_rows_reach_no_vocabulary_product(monkeypatch):
    _, ours = pair(llama(), chunk_size=1000)
    seen, original = [], LinearHead.logits
    monkeypatch.setattr(
        LinearHead, "logits", lambda self, hidden, *rest: (seen.append(len(hidden)), original(self, hidden, *rest))[1]
    )
    inputs = batch(keep=0.3)
    ours(**inputs, fused_lm_head=True)
    assert set(seen) == {(inputs["labels"][:, 1:] != -100).sum().item()}


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_gives_the_dtypes_of_trls_head(how):
    """How near its gradients are to float32: test_loss_head_bf16.py."""
    reference, ours = pair(llama() if how == "autocast" else llama().bfloat16())
    for each in (reference, ours):
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            each.scored = each(**batch(), fused_lm_head=True).loss
        each.scored.backward()
    assert ours.scored.dtype == torch.float32 and relative_error(ours.scored, reference.scored) <= 2e-3
    expected = {name: parameter.grad.dtype for name, parameter in reference.named_parameters()}
    assert {name: parameter.grad.dtype for name, parameter in ours.named_parameters()} == expected


def test_generation_and_plain_forward_are_unchanged():
    model = llama()
    reference, ours = pair(model)
    ids = batch()["input_ids"][:1]
    assert torch.equal(ours(ids).logits, reference(ids).logits)
    inputs = batch()
    assert torch.equal(ours(**inputs).loss, reference(**inputs).loss)
    greedy = dict(max_new_tokens=5, do_sample=False)
    assert torch.equal(ours.generate(ids, **greedy), reference.generate(ids, **greedy))


def mixture():
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2, output_router_logits=True))


class ScaledLinear(torch.nn.Linear):
    pass


def unknown_head():
    model = llama()
    head = ScaledLinear(32, VOCAB_SIZE, bias=False)
    head.weight = model.lm_head.weight
    model.lm_head = head
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [(mixture, "router loss of a mixture of experts"), (unknown_head, "the head is a ScaledLinear")],
)
def test_what_is_unknown_falls_back_to_trls_head_with_one_warning(build, message, caplog):
    reference, ours = pair(build())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(ours(**batch(), fused_lm_head=True).loss, reference(**batch(), fused_lm_head=True).loss)
    assert [message in record.message for record in caplog.records] == [True]


def test_model_split_across_devices_falls_back(caplog):
    reference, ours = pair(llama())
    ours.hf_device_map = {"model": "cpu", "lm_head": "disk"}
    with caplog.at_level(logging.WARNING):
        assert torch.equal(ours(**batch(), fused_lm_head=True).loss, reference(**batch(), fused_lm_head=True).loss)
    assert "split across devices" in caplog.text


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_head_cast_to_float32_equals_trls(frozen):
    model = llama().bfloat16()
    model.lm_head.requires_grad_(not frozen).float()  # as GRPO's cast_lm_head_to_fp32 does
    reference, ours = pair(model, cast_lm_head_to_fp32=True)
    for each in (reference, ours):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = each(**batch(), fused_lm_head=True)
        entropy_loss(outputs).backward()
        each.seen = outputs
    for name in OUTPUTS:
        assert relative_error(ours.seen[name].float(), reference.seen[name].float()) <= 1e-6, name
    assert relative_error(ours.lm_head.weight.grad, reference.lm_head.weight.grad) <= 1e-6 if not frozen else True
    assert_same_gradients(ours.model, reference.model, tolerance=1e-2)  # their own arithmetic is bf16


def test_model_without_trls_head_is_refused():
    with pytest.raises(ValueError, match="LlamaForCausalLM.forward has no fused_lm_head; construct TRL's trainer"):
        use_compact_loss_head(llama())


def test_unknown_output_is_refused():
    model = llama()
    add_fused_lm_head(model)
    with pytest.raises(ValueError, match='unknown loss head output "entropies"; allowed: log_probs, entropy'):
        use_compact_loss_head(model, ("log_probs", "entropies"))


def test_unknown_kernel_is_refused():
    model = llama()
    add_fused_lm_head(model)
    with pytest.raises(ValueError, match='unknown loss head kernel "liger"; allowed: compact, trl'):
        use_compact_loss_head(model, kernel="liger")


def test_outputs_are_those_trl_asks_for_unless_named():
    reference, ours = pair(llama(), outputs=("log_probs", "mean_logits"))
    add_fused_lm_head(ours, outputs=("log_probs", "mean_logits"))
    use_compact_loss_head(ours)
    given = [
        {name for name, value in each(**batch(), fused_lm_head=True).items() if value is not None}
        for each in (reference, ours)
    ]
    assert given[0] == given[1] == {"loss", "log_probs", "mean_logits", "label_mask"}


def test_trls_kernel_can_be_chosen(monkeypatch):
    reference, ours = pair(llama(), kernel="trl")
    monkeypatch.setattr(LinearHead, "logits", None)
    assert torch.equal(ours(**batch(), fused_lm_head=True).loss, reference(**batch(), fused_lm_head=True).loss)
