"""What a model's generation_config.json lists ends an answer in every command, as it does in transformers."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from ftkit.commands import bench, chat, generate
from ftkit.data.templates.templates import install_template
from ftkit.inference.end_tokens import end_token_ids, stored_end_tokens
from ftkit.model.loading import load_tokenizer

QUESTION = "Say it."
NUM_TOKENS = 6


def test_end_of_turn_eos_and_the_models_own_are_each_named_once(tiny_folder):
    tokenizer = load_tokenizer(tiny_folder)
    template = install_template(tokenizer, "alpaca")
    assert end_token_ids(tokenizer) == end_token_ids(tokenizer, template) == [0]
    assert end_token_ids(tokenizer, template, 7) == [0, 7]
    assert end_token_ids(tokenizer, template, [5, 0, 7]) == [0, 5, 7]


@pytest.mark.parametrize(
    ("generation", "config", "found"), [([3, 4], 5, [3, 4]), (None, 5, 5), (None, None, None), (None, [5, 6], [5, 6])]
)
def test_a_folder_names_its_end_tokens_as_transformers_loads_them(tmp_path, tiny_folder, generation, config, found):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text()) | {"eos_token_id": config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation:
        GenerationConfig(eos_token_id=generation).save_pretrained(folder)
    assert stored_end_tokens(folder) == found
    assert AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id == found


@pytest.fixture
def stopping(tiny_folder, tmp_path):
    """(folder, answer): a model whose generation_config.json also lists a token of its greedy answer, and that answer
    by transformers alone, which ends there."""
    folder = shutil.copytree(tiny_folder, tmp_path / "stopping")
    tokenizer = load_tokenizer(folder)
    install_template(tokenizer, "plain")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    model = AutoModelForCausalLM.from_pretrained(folder)
    full = model.generate(**prompt, max_new_tokens=NUM_TOKENS, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    end = next(token for token in full[1:].tolist() if token != full[0])
    GenerationConfig(eos_token_id=[0, end]).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = model.generate(**prompt, max_new_tokens=NUM_TOKENS, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert ids[-1] == end and len(ids) < NUM_TOKENS == len(full) and torch.equal(ids, full[: len(ids)])
    return folder, tokenizer.decode(ids[:-1], skip_special_tokens=True).strip()


def flags(folder) -> list[str]:
    return ["--model_name_or_path", str(folder), "--template", "plain", "--dtype", "float32"]


def test_generate_and_chat_stop_there(stopping, capsys, monkeypatch):
    folder, answer = stopping
    generate.main([*flags(folder), "--max_new_tokens", str(NUM_TOKENS), "--prompt", QUESTION])
    assert capsys.readouterr().out == f"{answer}\n"
    monkeypatch.setattr("sys.stdin", open_lines(f"{QUESTION}\n"))
    chat.main([*flags(folder), "--max_new_tokens", str(NUM_TOKENS)])
    assert capsys.readouterr().out.strip() == answer


def open_lines(text):
    import io

    return io.StringIO(text)


def test_a_benchmark_stops_there(stopping, tmp_path):
    folder, answer = stopping
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": QUESTION, "input": "", "output": answer}) + "\n")
    task = tmp_path / "task.yaml"
    task.write_text(
        "version: 1\nabout: one\nkind: generation\nmetrics: [exact_match]\ndata: rows.jsonl\n"
        f'prompt: "{{{{ instruction }}}}"\ntarget: "{{{{ output }}}}"\nmax_new_tokens: {NUM_TOKENS}\ntemplate: true\n'
    )
    bench.main([*flags(folder), "--tasks", str(task), "--output_dir", str(tmp_path / "out")])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["tasks"]["task"]["scores"]["exact_match"]["value"] == 1.0


def test_a_local_judge_stops_there(stopping):
    from ftkit.evaluation.judge.local import ask_local
    from ftkit.inference.asking import ModelSettings, Sampling
    from ftkit.inference.engine import Engine

    folder, answer = stopping
    engine = Engine.load(ModelSettings(str(folder), template="plain", dtype="float32"))
    sampling = Sampling(max_new_tokens=NUM_TOKENS)
    ((_, reply),) = ask_local(engine, [[{"role": "user", "content": QUESTION}]], [0], sampling, batch_size=1)
    assert (reply.text, reply.finish_reason) == (answer, "stop")
