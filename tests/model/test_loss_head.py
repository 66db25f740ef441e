"""The compact loss head against TRL's head, against full logits with cross-entropy, against finite differences."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
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
from trl import SFTConfig, SFTTrainer
from trl.trainer import utils as trl_utils

from ftkit.model import chunked_log_probs as chunked
from ftkit.model.chunked_log_probs import OUTPUTS, HeadSettings, LinearHead, chunked_log_probs

if not hasattr(trl_utils, "add_fused_lm_head"):
    pytest.skip("TRL before 1.16 has no head to take over", allow_module_level=True)

from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from ftkit.model.loss_head import use_compact_loss_head  # noqa: E402

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


def pair(model, *, temperature=1.0, outputs=OUTPUTS, **options):
    """The same model twice: with TRL's head, and with ours over TRL's."""
    reference, ours = model, copy.deepcopy(model)
    for each in (reference, ours):
        add_fused_lm_head(each, temperature=temperature, outputs=outputs)
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


@pytest.mark.parametrize("case", ["frozen", "trained", "softcap", "replaced_rows"])
def test_gradients_agree_with_finite_differences(case, monkeypatch):
    monkeypatch.setattr(chunked, "VOCABULARY_TILE", 4)
    torch.manual_seed(0)
    double = dict(dtype=torch.float64)
    hidden, weight = torch.randn(5, 3, **double, requires_grad=True), torch.randn(11, 3, **double)
    bias, rows, ids = torch.randn(11, **double), torch.randn(2, 3, **double), torch.tensor([2, 9])
    targets = torch.tensor([0, 2, 9, 10, 2])
    settings = HeadSettings(("log_probs", "entropy"), 0.8, 0.5, 1.5 if case == "softcap" else None, chunk_size=2)
    if case == "replaced_rows":
        parts = (hidden, rows.requires_grad_())
        heads = lambda given: LinearHead(weight, bias, ids, given[0])  # noqa: E731
    elif case == "frozen":
        parts, heads = (hidden,), lambda given: LinearHead(weight, bias)
    else:
        parts = (hidden, weight.requires_grad_(), bias.requires_grad_())
        heads = lambda given: LinearHead(*given)  # noqa: E731

    def log_probs_and_entropy(hidden, *given):
        return chunked_log_probs(hidden, heads(given), targets, settings)[:2]

    assert torch.autograd.gradcheck(log_probs_and_entropy, parts, nondet_tol=1e-12)
    assert torch.autograd.gradcheck(lambda *given: log_probs_and_entropy(*given)[0].sum(), parts, nondet_tol=1e-12)


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


def test_of_equal_logits_the_first_token_is_top1():
    weight = torch.zeros(2100, 4)
    weight[[1500, 1600, 5, 1499]] = torch.tensor([2.0, 2.0, 1.0, 1.0])[:, None]
    hidden = torch.ones(4, 4)
    settings = HeadSettings(("log_probs", "is_top1"))
    targets = torch.tensor([1500, 1600, 5, 1499])
    assert chunked_log_probs(hidden, LinearHead(weight), targets, settings)[4].tolist() == [True, False, False, False]
    weight[5] = 2.0  # a tie with an earlier tile
    assert chunked_log_probs(hidden, LinearHead(weight), targets, settings)[4].tolist() == [False, False, True, False]


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_stays_as_near_to_float32_as_trls_head(how, frozen):
    exact = llama()
    exact.lm_head.requires_grad_(not frozen)
    reference, ours = pair(exact if how == "autocast" else copy.deepcopy(exact).bfloat16())
    exact = copy.deepcopy(exact)
    add_fused_lm_head(exact)
    mean_loss(exact(**batch(), fused_lm_head=True)).backward()
    losses = []
    for each in (reference, ours):
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            losses.append(each(**batch(), fused_lm_head=True).loss)
        losses[-1].backward()
    assert losses[1].dtype == torch.float32 and relative_error(losses[1], losses[0]) <= 2e-3
    expected, trls = dict(exact.named_parameters()), dict(reference.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == trls[name].grad.dtype
            theirs = relative_error(trls[name].grad.float(), expected[name].grad)
            assert relative_error(parameter.grad.float(), expected[name].grad) <= 1.1 * theirs + 1e-3, name


def test_autocast_multiplies_in_its_own_precision():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(9, 8), torch.randn(VOCAB_SIZE, 8), torch.randint(0, VOCAB_SIZE, (9,))
    settings = HeadSettings(OUTPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        got = chunked_log_probs(hidden, LinearHead(weight), targets, settings)
    expected = chunked_log_probs(hidden.bfloat16(), LinearHead(weight.bfloat16()), targets, settings)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


PEFT_CONFIGS = {
    "lora": LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False),
    "modules_to_save": LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "prompt_tuning": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
}


@pytest.mark.parametrize("name", PEFT_CONFIGS)
def test_equal_to_trls_head_under_peft(name):
    torch.manual_seed(0)
    reference = get_peft_model(llama(), PEFT_CONFIGS[name])
    ours = copy.deepcopy(reference)
    for each in (reference, ours):
        add_fused_lm_head(each.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    use_compact_loss_head(ours)
    losses = []
    for each in (reference, ours):
        losses.append(each(**batch(), fused_lm_head=True).loss)
        losses[-1].backward()
    assert relative_error(losses[1], losses[0]) <= 1e-6
    assert_same_gradients(ours, reference)
    assert any(p.grad is not None and p.grad.any() for p in ours.parameters())


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_trained_tokens_equal_full_logits(tied):
    torch.manual_seed(0)
    ids = [7, 1100, 2499]
    tokens = {"embed_tokens": ids} if tied else {"embed_tokens": ids, "lm_head": ids}
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, trainable_token_indices=tokens)
    ours = get_peft_model(llama(tie_word_embeddings=tied), config)
    for name, parameter in ours.named_parameters():
        if "trainable_tokens_delta" in name:
            torch.nn.init.normal_(parameter)
    model = copy.deepcopy(ours)
    add_fused_lm_head(ours.get_base_model())
    use_compact_loss_head(ours, chunk_size=7)
    inputs = batch()
    inputs["labels"][:, 3:6] = torch.tensor(ids)
    labels = inputs.pop("labels")
    expected = F.cross_entropy(model(**inputs).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    expected.backward()
    loss = ours(**inputs, labels=labels, fused_lm_head=True).loss
    loss.backward()
    assert relative_error(loss, expected) <= 1e-6
    assert_same_gradients(ours, model)
    with ours.disable_adapter(), torch.no_grad():
        expected = F.cross_entropy(ours(**inputs).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        assert relative_error(ours(**inputs, labels=labels, fused_lm_head=True).loss, expected) <= 1e-6


def train(tmp_path, compact, peft_config=None, tie=False, **arguments):
    """Four updates of two accumulated microbatches under TRL's SFTTrainer; return (log history, parameters)."""
    generator = torch.Generator().manual_seed(5)
    rows = []
    for i in range(16):
        ids = [7, 6, *torch.randint(9, VOCAB_SIZE, (4 + i % 5,), generator=generator).tolist(), 5, 6]
        labels = [-100] * len(ids) if i in (4, 5) else [-100] * (2 + i % 3) + ids[2 + i % 3 :]
        rows.append({"input_ids": ids, "labels": labels})
    settings = dict(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True}, learning_rate=1e-3, disable_tqdm=True, seed=1,
        train_sampling_strategy="sequential", remove_unused_columns=False,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=llama(tie_word_embeddings=tie),
        args=SFTConfig(**{**settings, **arguments}),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
    )
    if compact:
        use_compact_loss_head(trainer.model, uniform_rows=arguments.get("loss_type", "nll") == "nll")
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return logged, dict(trainer.model.named_parameters())


def tiny_tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"t{i}": i for i in range(VOCAB_SIZE)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="t3"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="t0", bos_token="t1", eos_token="t2")


@pytest.mark.parametrize("name", ["full", "lora", "modules_to_save", "dft"])
def test_training_under_trl_logs_the_same_as_with_trls_head(name, tmp_path):
    arguments = {"loss_type": "dft"} if name == "dft" else {}
    runs = [train(tmp_path, compact, copy.deepcopy(PEFT_CONFIGS.get(name)), **arguments) for compact in (False, True)]
    (expected, reference), (logged, ours) = runs
    assert len(logged) == 4
    for theirs, own in zip(expected, logged, strict=True):
        for key in ("loss", "grad_norm", "entropy", "mean_token_accuracy"):
            assert own[key] == pytest.approx(theirs[key], rel=1e-5), key
    for key, parameter in ours.items():
        assert relative_error(parameter, reference[key]) <= 1e-5, key


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_added_tokens_train_under_trl(tied, tmp_path):
    ids = [5, 6]
    tokens = {"embed_tokens": ids} if tied else {"embed_tokens": ids, "lm_head": ids}
    config = LoraConfig(r=4, target_modules="all-linear", trainable_token_indices=tokens)
    _, parameters = train(tmp_path, True, config, tie=tied)
    base = llama(tie_word_embeddings=tied)
    deltas = {name: p for name, p in parameters.items() if "trainable_tokens_delta" in name}
    assert len(deltas) == (1 if tied else 2)
    for name, delta in deltas.items():
        start = (base.lm_head if "lm_head" in name else base.model.embed_tokens).weight[ids]
        assert (delta - start).abs().min() > 0  # rows nobody trained would stay


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


def test_head_cast_to_float32_falls_back(caplog):
    model = llama()
    add_fused_lm_head(model, cast_lm_head_to_fp32=True)
    use_compact_loss_head(model, ("log_probs",))
    with caplog.at_level(logging.WARNING):
        model(**batch(), fused_lm_head=True)
    assert "cast to float32" in caplog.text


def test_model_without_trls_head_is_refused():
    with pytest.raises(ValueError, match="LlamaForCausalLM.forward has no fused_lm_head; construct TRL's trainer"):
        use_compact_loss_head(llama())


def test_unknown_output_is_refused():
    model = llama()
    add_fused_lm_head(model)
    with pytest.raises(ValueError, match='unknown loss head output "entropies"; allowed: log_probs, entropy'):
        use_compact_loss_head(model, ("log_probs", "entropies"))
