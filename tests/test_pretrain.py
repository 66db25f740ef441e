"""`ftkit pretrain` trains on every block once a pass, resumes bit for bit in mid-epoch, and reports what it did."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.config.errors import UserError
from ftkit.config.versions import has_fused_head
from ftkit.data.reading.documents import load_documents
from ftkit.pretrain import RECIPE
from ftkit.training.callbacks import MetricsCallback

TINY = [
    "--hidden_size", "16", "--num_hidden_layers", "1", "--num_attention_heads", "2", "--block_size", "32",
    "--per_device_train_batch_size", "4", "--bf16", "false", "--eval_strategy", "no", "--disable_tqdm",
    "--compact_loss_head", "true",
]  # fmt: skip


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory) -> Path:
    """Sixty short documents to train on, six held out."""
    folder = tmp_path_factory.mktemp("text")
    rows = load_documents("corpus")
    texts = [row["text"][:300] for row in rows.train[:60]]
    for split, part in (("train", texts), ("validation", [row["text"][:300] for row in rows.test[:6]])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    return folder


def run(text_folder, tiny_folder, out, *more):
    """One run of a tiny new model; returns its trainer."""
    argv = ["--tokenizer", str(tiny_folder), "--dataset_name", str(text_folder), *TINY, "--output_dir", str(out), *more]
    return RECIPE.train(RECIPE.parse(argv))


def weights(folder) -> dict:
    return load_file(Path(folder) / "model.safetensors")


def stop_at(trainer_step: int, monkeypatch):
    """Have training die as if killed, right after update `trainer_step`."""

    def on_step_end(self, args, state, control, **kwargs):
        self.training_seconds += 0.001
        if state.global_step == trainer_step:
            raise KeyboardInterrupt

    monkeypatch.setattr(MetricsCallback, "on_step_end", on_step_end)


def test_killed_at_a_random_step_and_resumed_in_mid_epoch_gives_the_same_bits(
    text_folder, tiny_folder, tmp_path, monkeypatch
):
    settings = ["--max_steps", "100", "--save_steps", "16", "--dropout", "0.1", "--num_samples", "0"]
    settings += ["--per_device_train_batch_size", "16"]
    whole = run(text_folder, tiny_folder, tmp_path / "whole", *settings)
    killed_at = int(np.random.default_rng(7).integers(20, 95))
    with monkeypatch.context() as patch:
        stop_at(killed_at, patch)
        with pytest.raises(KeyboardInterrupt):
            run(text_folder, tiny_folder, tmp_path / "killed", *settings)
    resumed = run(text_folder, tiny_folder, tmp_path / "killed", *settings)
    steps_a_pass = len(whole.train_dataset) // 16
    assert (killed_at // 16 * 16) % steps_a_pass, "the checkpoint lies inside a pass"
    assert resumed.state.global_step == 100 and resumed.state.epoch > 2
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_loss_is_that_of_the_plain_model_on_the_same_blocks(text_folder, tiny_folder, tmp_path):
    out = tmp_path / "out"
    trainer = run(
        text_folder, tiny_folder, out, "--max_steps", "3", "--eval_strategy", "steps", "--eval_steps", "3",
        "--isolate_documents", "--learning_rate", "1e-2", "--num_samples", "2", "--sample_max_new_tokens", "4",
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "eval_loss" in line][-1]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    nats, scored = 0.0, 0
    for block in trainer.eval_dataset:  # each document of each block by itself, as isolation means
        for ids in np.split(block["input_ids"], np.cumsum(block["seq_lengths"])[:-1]):
            ids = torch.tensor(ids.astype(np.int64))[None]
            with torch.no_grad():
                logits = model(ids).logits[0, :-1].log_softmax(-1)
            nats -= logits.gather(-1, ids[0, 1:, None]).sum().item()
            scored += ids.shape[1] - 1
    assert last["eval_loss"] == pytest.approx(nats / scored, rel=2e-2)  # batches are averaged by rows
    assert last["eval_perplexity"] == pytest.approx(math.exp(last["eval_loss"]))
    rows = [json.loads(line)["text"] for line in (text_folder / "validation.jsonl").read_text().splitlines()]
    tokens = sum(len(tokenizer(text, split_special_tokens=True)["input_ids"]) + 1 for text in rows)
    per_byte = tokens / sum(len(text.encode()) for text in rows)
    assert last["eval_bits_per_byte"] == pytest.approx(last["eval_loss"] * per_byte / math.log(2))
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 4 and samples[0]["step"] == 0 and rows[0].startswith(samples[0]["prompt"][:10])


@pytest.mark.skipif(not has_fused_head(), reason="TRL before 1.16 has no head to take over")
def test_the_compact_head_changes_no_weight(text_folder, tiny_folder, tmp_path):
    settings = ["--max_steps", "5", "--gradient_accumulation_steps", "2"]
    run(text_folder, tiny_folder, tmp_path / "compact", *settings)
    run(text_folder, tiny_folder, tmp_path / "plain", *settings, "--compact_loss_head", "false")
    compact, plain = weights(tmp_path / "compact"), weights(tmp_path / "plain")
    for name, expected in plain.items():
        torch.testing.assert_close(compact[name], expected, rtol=1e-3, atol=1e-5)


def test_only_matrices_decay(text_folder, tiny_folder, tmp_path):
    trainer = run(text_folder, tiny_folder, tmp_path / "out", "--max_steps", "1", "--preset", "gpt2")
    groups = {group["weight_decay"]: group["params"] for group in trainer.optimizer.param_groups}
    assert set(groups) == {0.1, 0.0}
    assert all(parameter.ndim >= 2 for parameter in groups[0.1])
    assert groups[0.0] and all(parameter.ndim == 1 for parameter in groups[0.0])


def test_a_run_leaves_its_account(text_folder, tiny_folder, tmp_path, capsys):
    out = tmp_path / "out"
    run(text_folder, tiny_folder, out, "--max_tokens", "1280", "--eval_strategy", "epoch", "--save_dtype", "bfloat16")
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["num_documents"] == 60 and receipt["num_held_out_documents"] == 6
    assert (
        receipt["num_blocks"] == receipt["num_tokens"] // 32 and receipt["typical_rows"][0]["tokens"][0][1] is not False
    )
    assert all(tensor.dtype == torch.bfloat16 for tensor in weights(out).values())
    assert json.loads((out / "config.json").read_text())["max_position_embeddings"] == 32
    page, card = (out / "report.html").read_text(), (out / "README.md").read_text()
    assert "Bits per byte" in page and "bits per byte" in card and "Next-token prediction" in card
    assert (
        "Pretrained from random weights on" in card and "1280" in card and "![loss against updates](loss.png)" in card
    )
    printed = capsys.readouterr().err
    assert "6ND = 6 x" in printed and "10 updates of 128 tokens" in printed and "next: ftkit sft" in printed
    assert "measured" in printed and "hours to go" in printed
    assert "activation_checkpointing off" in printed and "bf16 off" not in printed  # which was given


def test_weights_are_trained_on_full_and_by_lora(text_folder, tiny_folder, tmp_path):
    start = weights(tiny_folder)
    argv = ["--model_name_or_path", str(tiny_folder), "--dataset_name", str(text_folder), *TINY[6:], "--max_steps", "2"]
    RECIPE.train(RECIPE.parse([*argv, "--output_dir", str(tmp_path / "full")]))
    assert any(not torch.equal(start[name], tensor) for name, tensor in weights(tmp_path / "full").items())
    RECIPE.train(RECIPE.parse([*argv, "--use_peft", "--output_dir", str(tmp_path / "lora")]))
    assert (tmp_path / "lora/adapter_model.safetensors").is_file()


def test_a_stream_is_trained_on_and_resumes_with_the_same_bits(text_folder, tiny_folder, tmp_path, monkeypatch):
    settings = ["--dataset_streaming", "--max_steps", "12", "--save_steps", "5"]
    run(text_folder, tiny_folder, tmp_path / "whole", *settings)
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        with pytest.raises(KeyboardInterrupt):
            run(text_folder, tiny_folder, tmp_path / "killed", *settings)
    run(text_folder, tiny_folder, tmp_path / "killed", *settings)
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hidden_size", "17"], "no model of these sizes: hidden_size 17 is not a multiple"),
        (["--block_size", "1"], "--block_size is 1; a block needs at least 2 tokens"),
        (["--test_size", "-1"], "--test_size is -1.0; give a share"),
        (["--use_peft"], "--use_peft and --load_in_.*bit need trained weights"),
        (["--num_frozen_layers", "1"], "--num_frozen_layers needs trained weights"),
        (["--dataset_streaming", "--test_size", "0.1"], "of a stream is not known; give a number of documents"),
        (["--dataset_streaming"], "--dataset_streaming needs --max_tokens or --max_steps"),
        (["--per_device_train_batch_size", "5000"], "do not fill one batch"),
    ],
)
def test_mistakes_end_with_one_line(text_folder, tiny_folder, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        run(text_folder, tiny_folder, tmp_path / "out", *more)


def test_what_is_missing_is_named(text_folder, tiny_folder, tmp_path):
    with pytest.raises(UserError, match="a new model needs --tokenizer FOLDER"):
        RECIPE.parse(["--dataset_name", str(text_folder), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(UserError, match="--dataset_name is missing"):
        RECIPE.parse(["--tokenizer", str(tiny_folder), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(UserError, match="--block_size 1024 is more than the model's context of 512"):
        argv = ["--model_name_or_path", str(tiny_folder), "--dataset_name", str(text_folder), "--block_size", "1024"]
        RECIPE.train(RECIPE.parse([*argv, "--output_dir", str(tmp_path / "out")]))
