"""`--push_to_hub` pushes a run once, at its end, by the allow-list; what would fail then fails before the first step."""

import json
import sys

import pytest

from ftkit import classify, dpo, sft
from ftkit.config.parser import run
from ftkit.inference.golden import read_golden
from ftkit.model.adapters.files import adapter_fingerprint
from ftkit.publish.hub import hub as pushing

stand_in = sys.modules["hub_stand_in"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


def command(tiny_folder, tmp_path, rows: list[dict], *flags) -> list[str]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "--model_name_or_path", str(tiny_folder), "--dataset_name", str(path), "--output_dir", str(tmp_path / "out"),
        "--template", "alpaca", "--max_steps", "2", "--save_steps", "1", "--disable_tqdm", "--bf16", "false",
        "--dtype", "float32", "--learning_rate", "1e-3", "--push_to_hub", *flags,
    ]  # fmt: skip


@pytest.fixture
def not_loaded_back(monkeypatch):
    """Spares a fresh process with its imports where another test has shown that such a push loads back."""
    monkeypatch.setattr(pushing, "load_back", lambda *parts: "")


@pytest.mark.processes
def test_a_fine_tune_is_pushed_once_and_loads_back(hub, tiny_folder, tmp_path, word_rows, capsys):
    flags = ["--hub_model_id", "owner/tuned", "--hub_private_repo"]
    assert run(sft.main, command(tiny_folder, tmp_path, word_rows, *flags)) == 0
    files = hub.files("owner/tuned")
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md", "receipt.json"} <= set(files)
    assert not [name for name in files if name.endswith((".bin", ".pt")) or "checkpoint" in name or name == "run.yaml"]
    assert hub.repositories["owner/tuned"].private
    said = capsys.readouterr().err
    assert "pushed: " in said and "loaded back" in said and stand_in.WRITE_TOKEN not in said


def test_a_preference_run_is_pushed_with_its_results(hub, not_loaded_back, tiny_folder, tmp_path, word_rows):
    rows = [{"instruction": row["input"], "chosen": row["output"], "rejected": row["input"]} for row in word_rows]
    argv = command(tiny_folder, tmp_path, rows, "--use_peft", "--test_size", "8", "--num_samples", "0")
    assert run(dpo.main, [*argv, "--hub_model_id", "owner/aligned"]) == 0
    files = hub.files("owner/aligned")
    assert {"adapter_model.safetensors", "base.json", "golden.json", "results.json"} <= set(files)
    for name in ("adapter_model.safetensors", "adapter_config.json", "golden.json"):
        (tmp_path / "pulled").mkdir(exist_ok=True)
        (tmp_path / "pulled" / name).write_bytes(files[name])
    assert read_golden(tmp_path / "pulled").digest == adapter_fingerprint(tmp_path / "pulled")
    card = (tmp_path / "out/README.md").read_text()
    assert "Direct preference optimisation" in card and "loss of a pair" in card and "pairs in the right order" in card


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--use_peft"]], ids=["full", "lora"])
def test_a_pushed_classifier_loads_back(hub, tiny_folder, tmp_path, flags, capsys):
    push_classifier(tiny_folder, tmp_path, *flags)
    assert "loaded back" in capsys.readouterr().err


def test_a_classifier_is_pushed_with_its_classes(hub, not_loaded_back, tiny_folder, tmp_path):
    push_classifier(tiny_folder, tmp_path, "--use_peft")
    files = hub.files("owner/classes")
    assert {"results.json", "evaluation.json", "README.md"} <= set(files) and not [n for n in files if "items" in n]
    card = (tmp_path / "out/README.md").read_text()
    assert "pipeline_tag: text-classification" in card and "ftkit classify --predict FILE" in card


def push_classifier(tiny_folder, tmp_path, *flags):
    """Train a classifier of three classes, and push it as owner/classes."""
    rows = [{"text": f"text {number}", "label": "abc"[number % 3]} for number in range(24)]
    argv = command(tiny_folder, tmp_path, rows, "--test_size", "6", "--num_samples", "0", *flags)
    argv = [part for part in argv if part not in ("--template", "alpaca")]
    assert run(classify.main, [*argv, "--hub_model_id", "owner/classes"]) == 0


def test_a_token_that_may_not_write_ends_the_run_before_it_begins(
    hub, tiny_folder, tmp_path, word_rows, monkeypatch, capsys
):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert run(sft.main, command(tiny_folder, tmp_path, word_rows, "--hub_model_id", "owner/tuned")) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and "hf_wrong" not in error
    assert not (tmp_path / "out").exists()
