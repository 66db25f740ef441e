"""Plans are worked out by hand; leaks are looked for in models whose attention is known."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from ftkit.config.settings.common import TrainerArguments
from ftkit.training.facts import ISOLATION_TOLERANCE, packing_leak
from ftkit.training.packing import plan_packing
from ftkit.training.plan import num_updates
from ftkit.training.plan_text import more_line


def test_packing_keeps_the_tokens_of_an_update():
    # 935 rows of 60 tokens, 8 a batch: an update saw 480 tokens, so a block of 512 (480 rounded up to 64s) keeps that.
    plan = plan_packing([60] * 935, batch_size=8, accumulation=1, max_length=1024)
    assert (plan.block_length, plan.per_device_train_batch_size, plan.gradient_accumulation_steps) == (512, 1, 1)
    assert plan.tokens_per_update == 512


def test_packing_accumulates_when_a_block_is_shorter_than_an_update():
    # 32 rows x 100 tokens = 3200 an update; accumulation 4 asks for 800 a block, 832 in 64s; 3200 / 832 is 4 blocks.
    plan = plan_packing([100] * 64, batch_size=8, accumulation=4, max_length=1024)
    assert (plan.block_length, plan.gradient_accumulation_steps) == (832, 4)
    # The cap is the longest sequence allowed: 3200 / 256 = 12.5 blocks.
    capped = plan_packing([100] * 64, batch_size=32, accumulation=1, max_length=256)
    assert (capped.block_length, capped.gradient_accumulation_steps) == (256, 12)


def test_a_block_holds_the_longest_row():
    assert plan_packing([10] * 99 + [300], batch_size=1, accumulation=1, max_length=1024).block_length == 320


def tiny_llama(attention):
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_llama_isolates_packed_rows(attention):
    assert packing_leak(tiny_llama(attention)) < 1e-5


def test_a_model_that_ignores_packing_is_caught():
    model = tiny_llama("sdpa")
    decoder_forward = model.model.forward

    def leaky(input_ids, position_ids, **kwargs):  # an all-ones mask makes transformers forget the packed rows
        return decoder_forward(
            input_ids=input_ids, position_ids=position_ids, attention_mask=torch.ones_like(input_ids)
        )

    model.model.forward = leaky
    assert packing_leak(model) > 5 * ISOLATION_TOLERANCE


def test_packing_leak_leaves_the_mode_of_the_model():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=32)).train()
    packing_leak(model)
    assert model.training


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "processes", "epochs", "max_steps", "expected"),
    [
        (935, 8, 1, 1, 1, -1, 117),
        (935, 8, 4, 1, 1, -1, 30),
        (935, 8, 1, 2, 1, -1, 59),
        (10, 8, 1, 1, 3, -1, 6),
        (10, 8, 1, 1, 3, 5, 5),
    ],
)
def test_updates_are_counted_as_trainer_does(rows, batch, accumulation, processes, epochs, max_steps, expected):
    training = SimpleNamespace(
        per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, world_size=processes,
        num_train_epochs=epochs, max_steps=max_steps, updates_per_pass=partial(TrainerArguments.updates_per_pass, None),
    )  # fmt: skip
    assert num_updates(rows, training) == expected


def test_the_receipt_ends_with_the_command_that_shows_every_row():
    data = SimpleNamespace(
        dataset_name="my rows.jsonl", template="alpaca", dataset_config=None, dataset_format="auto",
        dataset_train_split="train", columns=None, encoding=None,
    )  # fmt: skip
    run = SimpleNamespace(
        command="sft", settings=SimpleNamespace(data=data, model=SimpleNamespace(model_name_or_path="base"))
    )
    assert more_line(run) == "more       ftkit data show 'my rows.jsonl' --model base --template alpaca --row N"
    data.dataset_train_split = "first"
    assert more_line(run).endswith("--template alpaca --split first --row N")
    run.command = "classify"
    assert more_line(run) == ""
