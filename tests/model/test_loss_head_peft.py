"""The compact loss head under PEFT and under TRL's SFTTrainer, against TRL's own head and full logits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer
from trl.trainer import utils as trl_utils

from ftkit.model.fast import chunked_log_probs as chunked

if not hasattr(trl_utils, "add_fused_lm_head"):
    pytest.skip("TRL before 1.16 has no head to take over", allow_module_level=True)

from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from ftkit.model.fast.loss_head import use_compact_loss_head, use_compact_loss_heads  # noqa: E402

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


def batch(keep=0.5, rows=3, length=17, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCAB_SIZE, (rows, length), generator=generator)
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) >= keep, -100)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def relative_error(value, reference):
    return ((value - reference).norm() / reference.norm().clamp(min=1e-12)).item()


def assert_same_gradients(ours, reference, tolerance=1e-5):
    expected = {name: p.grad for name, p in reference.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is None) == (expected[name] is None), name
        if parameter.grad is not None:
            assert relative_error(parameter.grad, expected[name]) <= tolerance, name


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
        use_compact_loss_heads(trainer)
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
