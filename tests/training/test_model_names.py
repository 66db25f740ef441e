"""`smollm2` and `base` are names of models in every command, which asks for them in one way."""

import json

import pytest

from ftkit.cli import dispatch
from ftkit.config.parser import run

ROW = {"instruction": "Write in upper case.", "input": "a", "output": "A"}
COMMANDS = {
    "try": "try rows.jsonl --model smollm2 --output_dir out",
    "sft": "sft --model_name_or_path smollm2 --dataset_name rows.jsonl --template chatml --output_dir out",
    "dpo": "dpo --model_name_or_path smollm2 --dataset_name preferences --output_dir out",
    "ppo": "ppo --model_name_or_path smollm2 --dataset_name preferences --rewards json --output_dir out",
    "grpo": "grpo --model_name_or_path smollm2 --dataset_name preferences --rewards json --output_dir out",
    "kto": "kto --model_name_or_path smollm2 --dataset_name preferences --output_dir out",
    "distill": "distill --model base --teacher smollm2 --dataset_name rows.jsonl --template chatml --output_dir out",
    "classify": "classify --model_name_or_path smollm2 --dataset_name spam --output_dir out",
    "predict": "classify --predict texts.txt --model_name_or_path smollm2",
    "pretrain": "pretrain --model_name_or_path smollm2 --dataset_name texts.txt --output_dir out",
    "a tokenizer to pretrain": "pretrain --tokenizer smollm2 --dataset_name texts.txt --output_dir out",
    "tokenizer": "tokenizer --files texts.txt --document_separator | --vocab_size 300 --compare smollm2 --output_dir out",
    "generate": "generate --model_name_or_path smollm2 --prompt a",
    "side by side": "generate --compare smollm2,base --prompt a",
    "chat": "chat --model_name_or_path smollm2",
    "bench": "bench --model_name_or_path smollm2 --tasks knowledge --output_dir out",
    "judge": "judge answers.jsonl --model_name_or_path smollm2 --output_dir out",
    "export": "export smollm2 --format gguf --output_dir out",
    "import": "import model.pth --from book --vocab smollm2 --output_dir out",
    "check": "data check rows.jsonl --model smollm2",
    "show": "data show rows.jsonl --model smollm2 --template chatml",
    "stats": "data stats rows.jsonl --model smollm2",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_looks_for_smollm2_in_its_package(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ftkit.model.loading.find_bundled_smollm2", lambda: None)
    rows = "".join(
        json.dumps(ROW | {"input": f"word {number}", "output": f"WORD {number}"}) + "\n" for number in range(60)
    )
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "texts.txt").write_text("Some words of a text.\n|" * 400)
    (tmp_path / "answers.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    assert run(dispatch, command.split()) == 2
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert "smollm2: SmolLM2-135M-Instruct comes in a package that is not installed; pip install" in lines[-1], lines
