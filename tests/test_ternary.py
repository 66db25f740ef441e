"""`--ternary`: a run of the bundled base ends in 1.58 bits, is read everywhere as the same function, goes on, is packed."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from ftkit.config.errors import UserError
from ftkit.config.parser import run
from ftkit.inference.asking import ModelSettings
from ftkit.inference.engine import Engine
from ftkit.inference.golden import far_from, log_probs_after, read_golden
from ftkit.model.fast.bit_linear import bit_layers
from ftkit.model.loading import load_model, weights_fingerprint
from ftkit.publish.export.export import export_model
from ftkit.sft import main
from ftkit.training.ternary import warmup_updates


@pytest.fixture(autouse=True)
def uncompiled():
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory, word_rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    return path


def train(out, rows_file, *flags, model="base"):
    main([
        "--model_name_or_path", str(model), "--dataset_name", str(rows_file), "--output_dir", str(out), "--template",
        "alpaca", "--disable_tqdm", "--bf16", "false", "--test_size", "8", "--num_samples", "1", "--packing", "false",
        "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", *flags,
    ])  # fmt: skip
    return out


@pytest.fixture(scope="module")
def ternary_run(tmp_path_factory, rows_file):
    """Eight updates, half of them on the way to 1.58 bits."""
    out = tmp_path_factory.mktemp("ternary") / "out"
    return train(out, rows_file, "--ternary", "--max_steps", "8", "--save_steps", "6", "--learning_rate", "1e-3")


def as_recorded(folder, model) -> float:
    """How far the model is, in nats, from what the run measured of its result."""
    golden = read_golden(folder)
    return max(far_from(golden.result, log_probs_after(model.eval(), golden.prompts)))


def test_the_loss_falls_and_the_result_is_of_1_58_bits(ternary_run, capsys):
    lines = [json.loads(line) for line in (ternary_run / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert held_out[-1] < held_out[0] - 0.3, held_out
    settings = json.loads((ternary_run / "config.json").read_text())["quantization_config"]
    assert (settings["quant_method"], settings["quantization_mode"]) == ("bitnet", "online")
    assert "lm_head" in settings["modules_to_not_convert"]
    assert (ternary_run / "README.md").read_text().count("1.58 bits") >= 1


def test_it_is_loaded_as_it_was_measured_by_ftkit_by_transformers_and_by_the_engine(ternary_run):
    ours = load_model(ternary_run)
    assert len(bit_layers(ours)) == 28
    assert as_recorded(ternary_run, ours) <= 1e-5
    theirs = AutoModelForCausalLM.from_pretrained(ternary_run, dtype=torch.float32, trust_remote_code=True)
    assert not bit_layers(theirs) and as_recorded(ternary_run, theirs) <= 1e-5
    engine = Engine.load(ModelSettings(str(ternary_run), dtype="float32"))
    assert as_recorded(ternary_run, engine.model) <= 1e-5


def test_a_killed_run_goes_on_to_the_same_bits(ternary_run, rows_file, tmp_path, unfinish):
    out = unfinish(shutil.copytree(ternary_run, tmp_path / "out"), "checkpoint-8")
    train(out, rows_file, "--ternary", "--max_steps", "8", "--save_steps", "6", "--learning_rate", "1e-3")
    assert weights_fingerprint(out) == weights_fingerprint(ternary_run)


def test_it_is_trained_further_as_what_it_is(ternary_run, rows_file, tmp_path):
    out = train(tmp_path / "on", rows_file, "--max_steps", "1", "--eval_strategy", "no", model=ternary_run)
    assert json.loads((out / "config.json").read_text())["quantization_config"]["quant_method"] == "bitnet"
    assert as_recorded(out, load_model(out)) <= 1e-5


def test_packed_it_is_an_eighth_and_answers_the_same(ternary_run, rows_file, tmp_path, capsys):
    exported = export_model(str(ternary_run), tmp_path / "packed", "ternary", dtype="bfloat16")
    assert exported.record["num_packed_layers"] == 28
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (ternary_run, tmp_path / "packed")]
    linear = sum(layer.weight.numel() for layer in bit_layers(load_model(ternary_run)))
    assert abs(sizes[1] - (linear / 4 + (sizes[0] / 4 - linear) * 2)) < 20_000, sizes  # 2 bits, and bf16
    ours = load_model(tmp_path / "packed")
    assert as_recorded(ternary_run, ours) <= 0.1  # what is not rounded is bf16
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", dtype=torch.float32, trust_remote_code=True)
    prompts = read_golden(ternary_run).prompts
    own, other = log_probs_after(ours, prompts), log_probs_after(theirs.eval(), prompts)
    divergence = (own.exp() * (own - other)).sum(-1)
    assert divergence.max() <= 1e-3  # products in another order, so that some inputs are rounded to the next step
    flags = ["--dataset_name", str(rows_file), "--template", "alpaca", "--output_dir", str(tmp_path / "out")]
    assert run(main, ["--model", str(tmp_path / "packed"), *flags]) == 2
    assert "its weights are packed to 1.58 bits and can't be trained" in capsys.readouterr().err


REFUSED = {
    "an adapter": (["--ternary", "--use_peft"], "--ternary trains all weights"),
    "frozen layers": (["--ternary", "--num_frozen_layers", "1"], "--ternary rounds every layer"),
    "a way there without where": (["--ternary_warmup", "10"], "--ternary_warmup needs --ternary"),
    "a negative way": (["--ternary", "--ternary_warmup", "-1"], "--ternary_warmup is -1; give 0 or more"),
}


@pytest.mark.parametrize(("flags", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_contradict_each_other_are_one_line(flags, message, rows_file, tmp_path, capsys):
    given = ["--model", "base", "--dataset_name", str(rows_file), "--template", "alpaca", "--output_dir"]
    assert run(main, [*given, str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_way_to_1_58_bits_is_a_share_of_the_run_or_a_number_of_updates():
    assert [warmup_updates(0.5, 9), warmup_updates(0, 9), warmup_updates(5, 9), warmup_updates(100, 9)] == [4, 0, 5, 9]


def test_other_formats_and_conversions_name_the_one_that_holds_1_58_bits(ternary_run, tmp_path):
    with pytest.raises(UserError, match="which llama has no place for; take --format ternary"):
        export_model(str(ternary_run), tmp_path / "plain", "llama")
    with pytest.raises(UserError, match="are not of 1.58 bits"):
        export_model("base", tmp_path / "packed", "ternary")
