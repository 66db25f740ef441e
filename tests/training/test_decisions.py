"""What is decided for six kinds of machine and six ways to train: a table, without any of those machines."""

import dataclasses
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, get_scheduler

from ftkit.config.errors import UserError
from ftkit.config.estimate import Shape
from ftkit.config.hardware import PRESETS, Hardware, named_hardware
from ftkit.model.fast import head_kernels, loss_head, packed_attention, varlen_attention
from ftkit.training import fitting, packing
from ftkit.training.decided import Facts
from ftkit.training.plan import decide

spec = spec_from_file_location("asked", Path(__file__).with_name("asked.py"))
sys.modules["asked"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["asked"])
asked = sys.modules["asked"].asked

LLAMA_1B = Shape.of(  # Llama 3.2 1B: 1,235,814,400 weights
    LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128_256, tie_word_embeddings=True,
    ),
    1_235_814_400,
)  # fmt: skip
LLAMA_8B = Shape.of(
    LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128_256, tie_word_embeddings=False,
    ),
    8_030_261_248,
)  # fmt: skip
SMALL = Shape.of(  # SmolLM2-135M
    LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49_152, tie_word_embeddings=True,
    ),
    134_515_008,
)  # fmt: skip
MACHINES = {
    "cpu": PRESETS["cpu-2"],
    "cpu-bf16": dataclasses.replace(PRESETS["cpu-2"], bf16_speedup=1.6, memory_gib=24),
    "24gb": PRESETS["rtx4090-24gb"],
    "80gb": PRESETS["h100-80gb"],
    "2x80gb": PRESETS["2xa100-80gb"],
    "mps": PRESETS["apple-16gb"],
}
METHODS = {
    "full": ("sft", {}),
    "lora": ("sft", {"use_peft": True}),
    "qlora": ("sft", {"use_peft": True, "load_in_4bit": True}),
    "dpo": ("dpo", {"use_peft": True}),
    "pretrain": ("pretrain", {"isolate_documents": True, "block_size": 1024}),
    "classify": ("classify", {"use_peft": True}),
}
ROWS = (100, 200, 300, 400) * 500
# (machine, method): autocast, dtype, attention, recomputed activations, fused LoRA, loss head; LLAMA_1B on accelerators,
# SMALL on CPUs, which hold no more.
C, B = "float32", "bfloat16"
TABLE = {
    ("cpu", "full"): (False, C, "packed_sdpa", False, False, "compact"),
    ("cpu", "lora"): (False, C, "packed_sdpa", False, True, "compact"),
    ("cpu", "qlora"): (False, C, "packed_sdpa", False, False, "compact"),
    ("cpu", "dpo"): (False, C, "sdpa", True, True, "compact"),
    ("cpu", "pretrain"): (False, C, "packed_sdpa", True, False, "compact"),
    ("cpu", "classify"): (False, C, "sdpa", False, True, "off"),
    ("cpu-bf16", "full"): (True, C, "packed_sdpa", False, False, "compact"),
    ("cpu-bf16", "lora"): (True, B, "packed_sdpa", False, True, "compact"),
    ("cpu-bf16", "qlora"): (True, B, "packed_sdpa", False, False, "compact"),
    ("cpu-bf16", "dpo"): (True, B, "sdpa", False, True, "compact"),
    ("cpu-bf16", "pretrain"): (True, C, "packed_sdpa", False, False, "compact"),
    ("cpu-bf16", "classify"): (True, B, "sdpa", False, True, "off"),
    ("24gb", "full"): (True, C, "packed_varlen", True, False, "compact"),
    ("24gb", "lora"): (True, B, "packed_varlen", False, False, "compact"),
    ("24gb", "qlora"): (True, B, "packed_varlen", False, False, "compact"),
    ("24gb", "dpo"): (True, B, "sdpa", False, False, "compact"),
    ("24gb", "pretrain"): (True, C, "packed_varlen", True, False, "compact"),
    ("24gb", "classify"): (True, B, "sdpa", False, False, "off"),
    ("80gb", "full"): (True, C, "packed_varlen", False, False, "compact"),
    ("80gb", "lora"): (True, B, "packed_varlen", False, False, "compact"),
    ("80gb", "qlora"): (True, B, "packed_varlen", False, False, "compact"),
    ("80gb", "dpo"): (True, B, "sdpa", False, False, "compact"),
    ("80gb", "pretrain"): (True, C, "packed_varlen", False, False, "compact"),
    ("80gb", "classify"): (True, B, "sdpa", False, False, "off"),
    ("2x80gb", "full"): (True, C, "packed_varlen", False, False, "compact"),
    ("2x80gb", "lora"): (True, B, "packed_varlen", False, False, "compact"),
    ("2x80gb", "qlora"): (True, B, "packed_varlen", False, False, "compact"),
    ("2x80gb", "dpo"): (True, B, "sdpa", False, False, "compact"),
    ("2x80gb", "pretrain"): (True, C, "packed_varlen", False, False, "compact"),
    ("2x80gb", "classify"): (True, B, "sdpa", False, False, "off"),
    ("mps", "full"): (False, C, "sdpa", True, False, "compact"),
    ("mps", "lora"): (False, C, "sdpa", False, False, "compact"),
    ("mps", "qlora"): "need bitsandbytes, which Apple M2 can't run",
    ("mps", "dpo"): (False, C, "sdpa", True, False, "compact"),
    ("mps", "pretrain"): (False, C, "sdpa", True, False, "compact"),
    ("mps", "classify"): (False, C, "sdpa", True, False, "off"),
}


def facts(machine: Hardware, command: str = "sft", **more) -> Facts:
    shape = SMALL if machine.is_cpu else LLAMA_1B
    rows = {"num_blocks": 1000} if command == "pretrain" else {"lengths": ROWS}
    rows["gpu_attention"] = "packed_varlen" if machine.device == "cuda" else None
    return Facts(machine, shape, 2048, **{**rows, **more})


def decided(settings, **more):
    return decide(settings, settings.given, facts(MACHINES["cpu"], **more))


@pytest.mark.parametrize(("machine", "method"), TABLE)
def test_each_machine_and_method_gets_what_suits_it(machine, method):
    command, settings = METHODS[method]
    settings, expected = asked(command, **settings), TABLE[machine, method]
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            decide(settings, settings.given, facts(MACHINES[machine], command))
        return
    found = decide(settings, settings.given, facts(MACHINES[machine], command))
    kernels = (found.fused_lora, found.loss_head)
    assert (found.bf16, found.dtype, found.attention, found.activation_checkpointing, *kernels) == expected
    assert found.use_cpu == machine.startswith("cpu")
    on_gpu = not found.use_cpu
    assert not (on_gpu and (found.attention == "packed_sdpa" or found.fused_lora))
    if found.activation_checkpointing:  # only where memory asks for it
        assert "GiB without it" in found.reasons["activation_checkpointing"]


def test_a_gpu_attends_by_the_backend_that_was_found_unless_another_is_asked_for():
    def found(**settings):
        settings = asked("sft", **settings)
        return decide(settings, settings.given, facts(MACHINES["80gb"], gpu_attention="flash_attention_2")).attention

    assert found() == "flash_attention_2"
    assert found(attn_implementation="sdpa") == found(packing=False) == "sdpa"
    assert found(bf16=False) == "sdpa"  # no such kernel takes float32


def test_the_table_holds_every_machine_and_method():
    assert set(TABLE) == {(machine, method) for machine in MACHINES for method in METHODS}


def test_a_large_qlora_fits_a_small_gpu():
    settings = asked("sft", use_peft=True, load_in_4bit=True, per_device_train_batch_size=1, max_length=2048)
    found = decide(settings, settings.given, dataclasses.replace(facts(MACHINES["24gb"]), shape=LLAMA_8B))
    assert found.peak_memory_gib < 16


@pytest.mark.parametrize(
    ("tokens", "checkpointing", "measured"),
    [(8192, False, 33.4), (8192, True, 25.2)],  # GiB, TRL on one H100: whole processes, fp32 weights, bf16 autocast
)
def test_the_estimate_is_near_what_was_measured(tokens, checkpointing, measured):
    settings = asked("sft", packing=True, max_length=2048, per_device_train_batch_size=tokens // 2048,
                     activation_checkpointing=checkpointing)  # fmt: skip
    found = decide(settings, settings.given, facts(MACHINES["80gb"]))
    assert found.peak_memory_gib == pytest.approx(measured, rel=0.25)


def test_what_a_person_gave_is_kept():
    given = {"bf16": False, "dtype": "bfloat16", "activation_checkpointing": True, "learning_rate": 3e-4,
             "logging_steps": 7, "eval_strategy": "steps", "eval_on_start": False, "compact_loss_head": False}  # fmt: skip
    settings = asked("sft", use_peft=True, packing=False, **given)
    found = decide(settings, settings.given, facts(MACHINES["80gb"], num_test=5))
    kept = {name: getattr(found, name) for name in given if name != "compact_loss_head"}
    assert kept == {name: value for name, value in given.items() if name != "compact_loss_head"}
    assert found.loss_head == "off" and not found.packing


def test_rows_per_update_that_were_asked_for_are_kept_in_tokens_and_said():
    settings = asked("sft", per_device_train_batch_size=8, gradient_accumulation_steps=2)
    found = decide(settings, settings.given, facts(MACHINES["80gb"]))
    assert found.tokens_per_update == pytest.approx(16 * 250, rel=0.1)  # rows have 250 tokens on average
    assert "16 rows per update were asked for" in found.reasons["per_device_train_batch_size"]


def test_max_length_means_the_longest_row_and_a_block_is_something_else():
    settings = asked("sft", max_length=1500)
    found = decide(settings, settings.given, facts(MACHINES["cpu"]))
    assert (found.max_length, found.block_length) == (1500, 1500 if found.block_length > 1500 else found.block_length)
    assert found.block_length >= max(ROWS)
    assert found.trainer_settings({"packing", "max_length"}) == {"packing": True, "max_length": found.block_length}
    apart = asked("sft", packing=False)
    assert decided(apart).trainer_settings({"packing", "max_length"})["max_length"] is None  # TRL has nothing to cut


def test_a_block_of_a_stream_holds_the_longest_row_that_may_come():
    settings = asked("sft", max_steps=10, max_length=512)
    found = decided(settings, is_stream=True, lengths=(50,) * 100)
    assert found.block_length == 512
    endless = asked("sft", max_steps=10, max_length=None)
    no_context = dataclasses.replace(facts(MACHINES["cpu"], is_stream=True), context=None)
    assert not decide(endless, endless.given, no_context).packing


def test_longer_than_the_context_is_refused_where_it_was_asked_for_and_cut_where_not():
    settings = asked("sft", max_length=4096)
    with pytest.raises(UserError, match="--max_length 4096 is more than the model's context of 2048"):
        decided(settings)
    assert dataclasses.replace(decided(asked("sft")), reasons={}).max_length == 1024


@pytest.mark.parametrize(
    ("settings", "more", "reason"),
    [
        ({"use_peft": True, "peft_method": "prompt_tuning"}, {}, "soft prompts lose the positions"),
        ({}, {"isolates": False}, "packed rows see each other"),
    ],
)
def test_rows_that_would_see_each_other_are_not_packed(settings, more, reason):
    assert reason in decided(asked("sft", **settings), **more).reasons["packing"]
    with pytest.raises(UserError, match=f"--packing: {reason}"):
        decided(asked("sft", packing=True, **settings), **more)


def test_documents_that_see_each_other_are_refused_where_isolation_was_asked_for():
    with pytest.raises(UserError, match="--isolate_documents: documents see each other"):
        decided(asked("pretrain", isolate_documents=True), num_blocks=100, lengths=(), isolates=False)


def test_a_flag_without_effect_is_reported():
    settings = asked("sft", use_peft=True, fused_lora=True)
    found = decide(settings, settings.given, facts(MACHINES["80gb"]))
    assert not found.fused_lora and "without effect" in found.reasons["fused_lora"]


def test_evaluation_needs_held_out_rows_and_comes_by_itself_where_they_are():
    with pytest.raises(UserError, match="--eval_strategy needs test rows"):
        decided(asked("sft", eval_strategy="epoch"))
    assert (decided(asked("sft")).eval_strategy, decided(asked("sft"), num_test=9).eval_strategy) == ("no", "epoch")


def test_early_stopping_saves_and_chooses_at_each_evaluation():
    found = decided(asked("classify", early_stopping_patience=2, metric_for_best_model="brier"), num_test=20)
    assert (found.eval_strategy, found.save_strategy, found.load_best_model_at_end) == ("epoch", "epoch", True)
    assert (found.metric_for_best_model, found.greater_is_better, found.save_total_limit) == ("brier", False, 2)


def test_the_best_weights_are_chosen_by_the_measure_that_is_said():
    settings = asked("classify", load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch")
    found = decided(settings, num_test=20)
    assert (found.metric_for_best_model, found.greater_is_better) == ("f1", True)


def test_a_short_run_logs_often():
    assert decided(asked("sft", max_steps=100)).logging_steps == 5
    assert decided(asked("sft", max_steps=1000)).logging_steps == 10
    assert decided(asked("sft", max_steps=3)).logging_steps == 1


def test_a_run_is_saved_ten_times_by_the_clock_unless_the_person_chose():
    found = decided(asked("sft", max_steps=101))
    assert (found.save_strategy, found.save_steps, found.save_total_limit, found.saves_by_clock) == (
        "steps",
        11,
        2,
        True,
    )
    assert "a tenth of the run" in found.reasons["save_steps"]
    assert decided(asked("sft", max_steps=3)).save_steps == 1
    assert decided(asked("sft", save_total_limit=5)).save_total_limit == 5
    for chosen in ({"save_strategy": "no"}, {"save_strategy": "epoch"}, {"save_steps": 7}):
        kept = decided(asked("sft", **chosen))
        assert {name: getattr(kept, name) for name in chosen} == chosen
        assert (kept.saves_by_clock, kept.save_total_limit) == (False, None)


def test_the_best_weights_are_chosen_from_saves_at_evaluations():
    found = decided(asked("sft", load_best_model_at_end=True, eval_strategy="steps", eval_steps=5), num_test=9)
    assert (found.save_strategy, found.save_steps, found.saves_by_clock) == ("steps", 5, True)
    found = decided(asked("sft", load_best_model_at_end=True), num_test=9)
    assert (found.eval_strategy, found.save_strategy) == ("epoch", "epoch")


def test_several_processes_share_the_rows():
    one, two = (decide(s := asked("sft", packing=False), s.given, facts(MACHINES[name])) for name in ("80gb", "2x80gb"))
    assert one.num_updates == 2 * two.num_updates
    cpus = dataclasses.replace(MACHINES["cpu"], num_devices=2)
    found = decide(s := asked("sft"), s.given, facts(cpus))
    assert (found.ddp_backend, found.ddp_find_unused_parameters) == ("gloo", False)


def test_a_kernel_that_was_timed_or_named_is_taken(monkeypatch):
    settings = asked("sft")
    timed = facts(MACHINES["80gb"], head_kernel="trl")
    assert decide(settings, settings.given, timed).loss_head == "trl"
    monkeypatch.setenv("FTKIT_LOSS_HEAD", "compact")
    assert decide(settings, settings.given, timed).loss_head == "compact"
    named = asked("sft", loss_head_kernel="trl")
    assert decide(named, named.given, facts(MACHINES["cpu"])).loss_head == "trl"


def test_a_machine_is_named_or_described_in_a_file(tmp_path):
    assert named_hardware("h100-80gb").device == "cuda"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(dataclasses.asdict(MACHINES["24gb"])))
    assert named_hardware(str(path)) == MACHINES["24gb"]
    with pytest.raises(UserError, match='h100-80; did you mean "h100-80gb"'):
        named_hardware("h100-80")
    path.write_text("device: cuda\nvram: 3\n")
    with pytest.raises(UserError, match="mine.yaml: not a description of hardware .*it needs device, name, num_cores"):
        named_hardware(str(path))


def pretraining(num_blocks: int | None = 500, **settings):
    settings = asked("pretrain", block_size=128, **settings)
    more = {"num_blocks": num_blocks, "lengths": (), "is_stream": num_blocks is None}
    return decided(settings, **more)


def test_a_budget_of_tokens_becomes_updates():
    found = pretraining(max_tokens=1e5, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert (found.max_steps, found.num_updates) == (98, 98)  # 97.7 rounded, of 1,024 tokens


def test_without_a_budget_the_passes_count_and_the_last_batch_is_left_out():
    assert pretraining(43, num_train_epochs=2, per_device_train_batch_size=4).num_updates == 20


def test_text_that_trains_nothing_is_refused():
    with pytest.raises(UserError, match="needs --max_tokens or --max_steps"):
        pretraining(None)
    with pytest.raises(UserError, match="3 blocks of 128 tokens do not fill one batch"):
        pretraining(3, per_device_train_batch_size=4)


def learning_rates(found, updates: int) -> list[float]:
    """The learning rate of each update as transformers' own scheduler gives it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        found.lr_scheduler_type, optimizer, num_warmup_steps=10, num_training_steps=updates,
        scheduler_specific_kwargs=found.lr_scheduler_kwargs,
    )  # fmt: skip
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_ends_at_the_share_of_the_peak():
    rates = learning_rates(pretraining(max_steps=100, min_learning_rate_share=0.1), 100)
    assert max(rates) == rates[10] == 1.0 and rates[-1] == pytest.approx(0.1, abs=0.01)


def test_warmup_stable_decay_stays_at_the_peak_until_it_decays():
    settings = {"lr_scheduler_type": "warmup_stable_decay", "decay_share": 0.3, "min_learning_rate_share": 0.0}
    rates = learning_rates(pretraining(max_steps=100, **settings), 100)
    assert rates[10:70] == [1.0] * 60 and rates[71] < 1.0 and rates[-1] < 0.02


def test_settings_of_the_schedule_that_a_person_gave_stay():
    found = pretraining(max_steps=100, lr_scheduler_kwargs={"num_cycles": 1})
    assert (found.lr_scheduler_type, found.lr_scheduler_kwargs) == ("cosine", {"num_cycles": 1})


def test_the_plan_names_backends_and_limits_as_their_own_modules_do():
    """The plan imports none of them, so that `ftkit data check` reads rows without torch."""
    assert packing.PACKED_ATTENTION == packed_attention.NAME
    assert packing.VARLEN_ATTENTION == varlen_attention.NAME
    assert fitting.KERNEL_VARIABLE == head_kernels.VARIABLE
    assert fitting.FEW_LOGITS == loss_head.CHUNK_LOGITS


RATES = {  # command, settings, parameters: the peak learning rate
    "all weights, 4 M": ("sft", {}, 4e6, 5e-4),
    "all weights, 135 M": ("sft", {}, 135e6, 2e-5),
    "LoRA, 4 M": ("sft", {"use_peft": True}, 4e6, 2e-3),
    "LoRA, 8 B": ("sft", {"use_peft": True}, 8e9, 2e-4),
    "soft prompt": ("sft", {"use_peft": True, "peft_method": "prompt_tuning"}, 8e9, 1e-2),
    "pairs, all weights": ("dpo", {}, 8e9, 1e-6),
    "pairs, LoRA, small": ("dpo", {"use_peft": True}, 4e6, 1e-4),
    "reward model, LoRA": ("reward", {"use_peft": True}, 135e6, 1e-4),
    "reward model's head": ("reward", {"num_trained_layers": 0}, 135e6, 1e-3),
    "new, 4 M": ("pretrain", {"model_name_or_path": None, "tokenizer": "t"}, 4e6, 1e-3),
    "new, 125 M": ("pretrain", {"model_name_or_path": None, "tokenizer": "t"}, 125e6, 6e-4),
    "new, 350 M": ("pretrain", {"model_name_or_path": None, "tokenizer": "t"}, 350e6, 3e-4),
    "new, 1 B": ("pretrain", {"model_name_or_path": None, "tokenizer": "t"}, 1.3e9, 2e-4),
    "continued": ("pretrain", {}, 1e9, 1e-4),
    "classifier's head": ("classify", {"num_trained_layers": 0}, 4e6, 1e-3),
    "classifier, small": ("classify", {}, 4e6, 3e-4),
}


@pytest.mark.parametrize(("command", "settings", "num_parameters", "rate"), RATES.values(), ids=RATES)
def test_the_learning_rate_follows_from_what_is_trained_and_its_size(command, settings, num_parameters, rate):
    known = facts(MACHINES["cpu"], command)
    known = dataclasses.replace(known, shape=dataclasses.replace(known.shape, num_parameters=int(num_parameters)))
    found = asked(command, **settings)
    decided = decide(found, found.given, known)
    assert decided.learning_rate == rate
    assert f" of a model of {num_parameters / 1e6:.1f} M parameters" in decided.reasons["learning_rate"]
    chosen = asked(command, **settings, learning_rate=0.5)
    decided = decide(chosen, chosen.given, known)
    assert decided.learning_rate == 0.5 and "learning_rate" not in decided.reasons
