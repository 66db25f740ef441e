"""`ftkit sft`: every method leaves a run that loads and generates, losses equal TRL's own, mistakes are one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from ftkit.config.errors import UserError
from ftkit.config.parser import run
from ftkit.inference.golden import far_from, golden_line, log_probs_after, read_golden
from ftkit.model.adapters.methods import can_train_added_tokens
from ftkit.model.loading import weights_fingerprint
from ftkit.runs.recipes import load_recipe
from ftkit.sft import main
from ftkit.training import preparation

RUN_FILES = {
    "run.yaml",
    "receipt.json",
    "metrics.jsonl",
    "samples.jsonl",
    "report.html",
    "loss.png",
    "golden.json",
    "README.md",
}


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory, word_rows) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    return path


@pytest.fixture
def sft(tiny_folder, rows_file, tmp_path):
    """Runs `ftkit sft` on the tiny model into a fresh OUT, with further flags; returns OUT."""

    def start(*flags, out="out", model=None, data=None) -> Path:
        folder = tmp_path / out
        main([
            "--model_name_or_path", str(model or tiny_folder), "--dataset_name", str(data or rows_file),
            "--output_dir", str(folder), "--template", "alpaca", "--max_steps", "2", "--disable_tqdm",
            "--bf16", "false", "--dtype", "float32", *flags,
        ])  # fmt: skip
        return folder

    return start


def losses(out: Path) -> list[float]:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def shown_rows(out: Path) -> list[list]:
    return [row["tokens"] for row in json.loads((out / "receipt.json").read_text())["typical_rows"]]


def generate(model, tokenizer) -> str:
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Write in upper case."}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    return tokenizer.decode(model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4)[0])


@pytest.mark.parametrize(
    "flags",
    [
        ["--use_peft"],
        ["--use_peft", "--use_dora"],
        ["--use_peft", "--use_rslora"],
        ["--use_peft", "--load_in_4bit"],
        ["--use_peft", "--peft_method", "prompt_tuning", "--num_virtual_tokens", "4"],
    ],
    ids=["lora", "dora", "rslora", "qlora", "prompt_tuning"],
)
def test_an_adapter_run_leaves_what_the_contract_names_and_loads_with_plain_peft(sft, flags):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = sft(*flags, "--test_size", "8")
    assert RUN_FILES <= {path.name for path in out.iterdir()}
    tokenizer = AutoTokenizer.from_pretrained(out)
    base = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), out)
    assert "### Response:" in generate(model, tokenizer)
    assert not list(out.rglob("training_args.bin"))
    assert golden_line(str(out)).startswith("acts as at training: ")


def test_an_adapter_names_its_base_as_it_was_called_and_never_a_cache(
    sft, tiny_folder, rows_file, tmp_path, monkeypatch
):
    from ftkit.model.adapters.files import resolve_base
    from ftkit.publish.export.gguf import write_gguf

    cache, path = tmp_path / "cache", tmp_path / "tiny.gguf"
    monkeypatch.setenv("FTKIT_CACHE", str(cache))
    source = Path(shutil.copytree(tiny_folder, tmp_path / "source"))
    for name in ("tokenizer.json", "tokenizer_config.json"):  # GGUF readers know this end token
        (source / name).write_text((source / name).read_text().replace("<eos>", "<|endoftext|>"))
    write_gguf(source, path, "f32")
    outs = [sft("--use_peft", "--save_steps", "1", model=path), sft("--use_peft", "--ftgpt", out="ftgpt")]
    main([
        "--adapter", str(outs[0]), "--dataset_name", str(rows_file), "--output_dir", str(tmp_path / "on"),
        "--max_steps", "1", "--disable_tqdm",
    ])  # fmt: skip
    for folder, name in (
        (outs[0], path),
        (outs[0] / "checkpoint-1", path),
        (tmp_path / "on", path),
        (outs[1], tiny_folder),
    ):
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == str(name), folder
    (outs[0] / "run.yaml").unlink()  # as after a push
    assert Path(resolve_base(outs[0])).is_relative_to(cache)


@pytest.mark.parametrize("flags", [[], ["--ftgpt"], ["--num_frozen_layers", "1"]], ids=["llama", "ftgpt", "frozen"])
def test_a_full_run_leaves_a_model_that_loads(sft, flags, tiny_folder, monkeypatch, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import ftkit.model  # noqa: F401  (registers FTGPT)

    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    out = sft(*flags, "--learning_rate", "1e-2", "--test_size", "8")
    assert RUN_FILES <= {path.name for path in out.iterdir()}
    model = AutoModelForCausalLM.from_pretrained(out)
    assert type(model).__name__ == ("FTGPTForCausalLM" if "--ftgpt" in flags else "LlamaForCausalLM")
    assert "### Response:" in generate(model, AutoTokenizer.from_pretrained(out))
    golden = read_golden(out)
    assert golden.digest == weights_fingerprint(out) and len(golden.prompts) == 8 and golden.base != golden.result
    assert max(far_from(golden.result, log_probs_after(model.eval(), golden.prompts))) <= 1e-5
    before = AutoModelForCausalLM.from_pretrained(tiny_folder).state_dict()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {name for name in before if ".embed_tokens." in name or ".layers.0." in name or name == "lm_head.weight"}
    assert moved == set(before) - frozen if "--num_frozen_layers" in flags else moved == set(before)


def write_forms(folder: Path) -> dict[str, Path]:
    """The same eight answers in every form the command reads."""
    import pyarrow
    import pyarrow.parquet

    pairs = [(f"Say {word}.", word.upper()) for word in ("ba", "co", "du", "fe", "gi", "ho", "ja", "ku")]
    messages = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}] for a, b in pairs]
    sharegpt = [[{"from": "human", "value": a}, {"from": "gpt", "value": b}] for a, b in pairs]
    rows = {
        "prompt.jsonl": [{"prompt": a, "completion": b} for a, b in pairs],
        "messages.jsonl": [{"messages": conversation} for conversation in messages],
        "sharegpt.json": [{"conversations": conversation} for conversation in sharegpt],
    }
    for name, items in rows.items():
        lines = json.dumps(items) if name.endswith(".json") else "".join(json.dumps(item) + "\n" for item in items)
        (folder / name).write_text(lines)
    (folder / "alpaca.csv").write_text("instruction,output\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    columns = {"instruction": [a for a, _ in pairs], "output": [b for _, b in pairs]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "alpaca.parquet")
    split = folder / "folder"
    split.mkdir()
    for name in ("train", "test"):
        (split / f"{name}.jsonl").write_text((folder / "prompt.jsonl").read_text())
    return {path.name: path for path in folder.iterdir()}


def test_every_form_of_the_same_rows_trains_the_same_tokens(sft, tmp_path):
    folder = tmp_path / "forms"
    folder.mkdir()
    receipts = {}
    for name, path in write_forms(folder).items():
        out = sft(
            "--max_steps",
            "1",
            "--save_strategy",
            "no",
            "--use_peft",
            "--num_samples",
            "0",
            data=path,
            out=f"out-{name}",
        )
        receipts[name] = shown_rows(out)
    assert len(receipts) == 6
    assert all(rows == receipts["prompt.jsonl"] for rows in receipts.values())
    answers = ["".join(text for text, trained in row if trained) for row in receipts["prompt.jsonl"]]
    assert set(answers) < {f"{word}<eos>" for word in ("BA", "CO", "DU", "FE", "GI", "HO", "JA", "KU")}


def test_plain_text_is_trained_whole_and_needs_no_template(sft, tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("one line of text\nanother line\n")
    out = sft("--max_steps", "1", "--template", "auto", data=path)
    first = shown_rows(out)[0]
    assert "".join(text for text, trained in first if trained).endswith("ne line of text<eos>")


def test_a_bundled_dataset_is_found_by_its_name(sft):
    out = sft("--max_steps", "1", "--use_peft", "--eval_strategy", "no", "--save_strategy", "no", data="instructions")
    assert json.loads((out / "receipt.json").read_text())["num_rows"] == 4500


def test_a_stream_trains_resumes_and_names_the_line_of_a_bad_row(
    sft, tmp_path, word_rows, capsys, unfinish, monkeypatch
):
    for name in ("STREAM_SAMPLE", "SHUFFLE_BUFFER"):  # rows that are read first, of which the bad one is none
        monkeypatch.setattr(preparation, name, 100)
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    flags = ["--dataset_streaming", "--test_size", "8", "--max_steps", "4", "--save_steps", "2", "--logging_steps", "1"]
    whole = sft(*flags, out="whole", data=path)
    receipt = json.loads((whole / "receipt.json").read_text())
    assert receipt["num_end_tokens_trained"] == len(word_rows) - 8
    assert receipt["run"]["num_trained_tokens"] > 0 and receipt["run"]["num_rows"] >= len(word_rows) - 8
    logged = [json.loads(line).get("tokens", 0) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert receipt["run"]["num_tokens"] == max(logged)  # what TRL counted
    expected = losses(whole)
    assert losses(sft(*flags, out=unfinish(whole, "checkpoint-4"), data=path)) == expected
    path.write_text("".join(json.dumps(word_rows[i % 64]) + "\n" for i in range(120)) + '{"instruction": "a"}\n')
    argv = ["--dataset_name", str(path), "--dataset_streaming", "--max_steps", "400", "--packing", "false"]
    argv += ["--model_name_or_path", yaml.safe_load((whole / "run.yaml").read_text())["asked"]["model_name_or_path"]]
    argv += ["--output_dir", str(tmp_path / "bad"), "--template", "alpaca", "--disable_tqdm", "--use_peft"]
    assert run(main, argv) == 2
    assert "stream.jsonl:121: " in capsys.readouterr().err.strip().splitlines()[-1]


def test_run_yaml_repeats_the_run_to_the_digit(sft, tmp_path):
    first = sft("--use_peft", "--logging_steps", "1")
    main(["--config", str(first / "run.yaml"), "--output_dir", str(tmp_path / "again")])
    assert losses(tmp_path / "again") == losses(first)
    record = yaml.safe_load((first / "run.yaml").read_text())
    assert record["decided"]["packing"] is True and record["decided"]["learning_rate"] == 2e-3
    assert record["asked"]["use_peft"] is True and not {"packing", "use_cpu"} & record["asked"].keys()


def test_the_receipt_shows_only_answers_and_their_end_token_as_trained(sft, word_rows):
    out = sft("--use_peft")
    receipt = json.loads((out / "receipt.json").read_text())
    for row in receipt["typical_rows"]:  # which packing has reordered
        line = int(row["source"].rpartition(":")[2])
        trained = "".join(text for text, is_trained in row["tokens"] if is_trained)
        assert trained == word_rows[line - 1]["output"] + "<eos>"
    assert receipt["num_rows"] == receipt["num_end_tokens_trained"] == len(word_rows)


@pytest.mark.skipif(not can_train_added_tokens(), reason="TRL before 1.16 can't train added tokens")
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_added_template_tokens_are_trained_saved_and_generated(sft, tiny_folder, tmp_path, tied):
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from ftkit.inference.asking import ModelSettings, Sampling
    from ftkit.inference.engine import Engine

    model = tmp_path / "model"
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig.from_pretrained(tiny_folder, tie_word_embeddings=tied)).save_pretrained(model)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(model)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        json.dumps({"instruction": "Say it.", "output": "OK"})
        + "\n"
        + json.dumps({"instruction": "Say", "output": "OK"})
    )
    out = sft(
        "--template", "phi3", "--add_template_tokens", "--use_peft", "--lora_r", "16", "--learning_rate", "1e-2",
        "--max_steps", "80", "--lora_dropout", "0", "--packing", "false", model=model, data=rows,
    )  # fmt: skip
    assert not any(
        "base_layer" in name for name in load_file(out / "adapter_model.safetensors")
    )  # new rows, not all rows
    engine = Engine.load(ModelSettings(adapters={"out": str(out)}, dtype="float32"))
    end_id = engine.voice().tokenizer.convert_tokens_to_ids("<|end|>")
    assert engine.voice().template.end_of_turn == "<|end|>" and end_id >= 300
    question = [{"role": "user", "content": "Say it."}]
    ids = torch.tensor([engine.prompt_ids(question)])
    output = engine.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=end_id
    )
    assert output[0, -1] == end_id
    assert engine.answers([question], Sampling(max_new_tokens=8)) == ["OK"]


def test_a_lora_on_the_embedding_is_asked_trained_on_merged_and_planned_for_upload(sft, tiny_folder, tmp_path, capsys):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from ftkit.cli import dispatch

    model = tmp_path / "model"
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(tiny_folder, tie_word_embeddings=False, vocab_size=320)  # padded
    LlamaForCausalLM(config).save_pretrained(model)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(model)
    flags = ["--use_peft", "--max_steps", "2"]
    first = sft(*flags, "--lora_target_modules", "q_proj", "embed_tokens", model=model, out="first")
    second = sft(*flags, "--adapter", str(first), model=model, out="second")
    dispatch(["generate", "--adapter", f"a={first}", "--adapter", f"b={second}", "--prompt", "Say.", "--max_new_tokens", "2"])  # fmt: skip
    dispatch(["adapters", "merge", str(second), "--output_dir", str(tmp_path / "merged"), "--dtype", "float32"])
    assert json.loads((tmp_path / "merged/merge.json").read_text())["max_logit_difference"] < 1e-4
    capsys.readouterr()
    dispatch(["push", str(second), "me/mine", "--dry_run"])
    assert "adapter_model.safetensors" in capsys.readouterr().out


def test_resume_goes_on_from_the_newest_checkpoint_and_ends_as_the_whole_run(sft, unfinish):
    whole = sft("--max_steps", "4", "--logging_steps", "1", out="whole")
    flags = ["--max_steps", "4", "--logging_steps", "1", "--save_steps", "2"]
    part = sft(*flags, out="part")
    unfinish(part, "checkpoint-4")
    resumed = sft(*flags, out="part")
    assert losses(resumed) == losses(whole)
    from safetensors.torch import load_file

    ours, theirs = (load_file(folder / "model.safetensors") for folder in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert read_golden(resumed) == read_golden(whole)


def trl_losses(tiny_folder, rows_file, tmp_path, *, packing: bool, lora: bool, steps: int) -> list[float]:
    """The losses of TRL by itself: its own template handling, tokenization, masks, packing and loss head."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.chat_template = (Path(__file__).parents[1] / "templates/alpaca.jinja").read_text().strip()

    def to_messages(row):
        user = row["instruction"] + "\n\n### Input:\n" + row["input"]
        return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": row["output"]}]}

    set_seed(7)  # TRL before 1.16 does not, before it makes the adapter
    rows = load_dataset("json", data_files=str(rows_file), split="train", cache_dir=str(tmp_path / "cache"))
    trainer = SFTTrainer(
        model=str(tiny_folder),
        args=SFTConfig(
            output_dir=str(tmp_path), assistant_only_loss=True, packing=packing, max_length=256, max_steps=steps,
            per_device_train_batch_size=2, learning_rate=1e-3, logging_steps=1, use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, save_strategy="no", report_to="none", seed=7,
        ),
        train_dataset=rows.map(to_messages, remove_columns=rows.column_names),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=8, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear") if lora else None,
    )  # fmt: skip
    trainer.train()
    return [record["loss"] for record in trainer.state.log_history if "loss" in record]


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "unpacked"])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_the_loss_trace_equals_that_of_trl_by_itself(sft, tiny_folder, rows_file, tmp_path, packing, lora):
    steps = 8
    peft = ["--use_peft", "--lora_r", "8", "--lora_alpha", "32", "--lora_dropout", "0"] if lora else []
    out = sft(
        *peft, "--packing", str(packing), "--max_length", "256", "--max_steps", str(steps), "--learning_rate", "1e-3",
        "--per_device_train_batch_size", "2", "--logging_steps", "1", "--seed", "7", "--save_strategy", "no",
    )  # fmt: skip
    reference = trl_losses(tiny_folder, rows_file, tmp_path, packing=packing, lora=lora, steps=steps)
    assert len(reference) == steps and reference[-1] < reference[0]
    assert losses(out) == pytest.approx(reference, rel=1e-5)


def test_packed_loss_equals_unpacked_loss(sft):
    # One update over all rows, so that both see the same tokens: 64 rows in one batch, or packed into blocks.
    unpacked = sft("--packing", "false", "--per_device_train_batch_size", "64", "--max_steps", "1", out="unpacked")
    packed = sft(
        "--packing", "--max_length", "256", "--per_device_train_batch_size", "64", "--max_steps", "1", out="packed"
    )  # fmt: skip
    assert losses(packed) == pytest.approx(losses(unpacked), rel=1e-5)


MISTAKES = {
    "missing file": (["--dataset_name", "nosuch.jsonl"], "nosuch.jsonl"),
    "unknown template": (["--template", "alpacca"], 'did you mean "alpaca"'),
    "unknown flag": (["--learnin_rate", "1"], "unknown flag --learnin_rate; did you mean --learning_rate"),
    "abbreviated flag": (["--learning_r", "1"], "unknown flag"),
    "4 bit without PEFT": (["--load_in_4bit"], "--load_in_4bit without a PEFT method"),
    "more than the context": (["--max_length", "600"], "more than the model's context of 512"),
    "packed soft prompt": (["--use_peft", "--peft_method", "prompt_tuning", "--packing"], "--packing: soft prompts"),
    "all layers frozen": (["--num_frozen_layers", "2"], "leaves nothing to train"),
    "no answer left": (["--max_length", "16"], "rows.jsonl:1: no answer token is left after --max_length 16"),
    "evaluation without rows": (["--eval_strategy", "steps"], "--eval_strategy needs test rows"),
    "nothing to resume": (["--resume_from_checkpoint"], "no run to resume"),
    "stream without end": (["--dataset_streaming", "--max_steps", "-1"], "--dataset_streaming needs --max_steps"),
    "share of a stream": (["--dataset_streaming", "--test_size", "0.1"], "--test_size 0.1 of a stream"),
    "no such model": (["--model_name_or_path", "nosuch/model"], "nosuch/model"),
}


@pytest.mark.parametrize(("flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_2(flags, message, tiny_folder, rows_file, tmp_path, capsys):
    argv = ["--model_name_or_path", tiny_folder, "--dataset_name", rows_file, "--output_dir", tmp_path / "out"]
    argv = [str(part) for part in (*argv, "--template", "alpaca", "--max_steps", "1", *flags)]
    assert run(main, argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


BAD_FILES = {
    "empty file": ("", "rows.jsonl"),
    "bad JSON": ('{"instruction": "a", "output": "b"}\n{"instruction": \n', "rows.jsonl:2:"),
    "wrong column": (
        '{"instruction": "a", "outputt": "b"}\n',
        'rows.jsonl:1: unknown key "outputt"; did you mean "output"',
    ),
    "null field": ('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": null}\n', "rows.jsonl:2:"),
    "empty answer": ('{"instruction": "a", "output": " "}\n', "rows.jsonl:1:"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_row_names_file_and_line(content, message, tiny_folder, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    argv = ["--model_name_or_path", tiny_folder, "--dataset_name", path, "--output_dir", tmp_path / "out"]
    assert run(main, [str(part) for part in (*argv, "--template", "alpaca")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_used_folder_is_not_touched(sft):
    out = sft("--use_peft")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds a run that rests on something else"):
        sft("--use_peft", "--lora_r", "4")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.processes
def test_the_script_runs_by_path_under_accelerate_from_another_folder(tiny_folder, rows_file, tmp_path):
    script = Path(__file__).parents[1] / "ftkit/sft.py"
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", script, "--model_name_or_path", tiny_folder,
        "--dataset_name", rows_file, "--template", "alpaca", "--use_peft", "--max_steps", "1", "--output_dir", "out",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/adapter_model.safetensors").is_file()
    assert "next: ftkit chat --adapter out" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"out"}  # nothing is written elsewhere


def test_held_out_rows_longer_than_a_packed_block_are_scored_whole(tiny_folder, tmp_path, word_rows):
    """The block is made for the training rows; a held-out row three times as long keeps its end."""
    folder = tmp_path / "rows"
    folder.mkdir()
    long = [{**row, "output": " ".join([row["output"]] * 40)} for row in word_rows[:4]]
    for split, rows in (("train", word_rows), ("test", long)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trainers = []
    recipe = load_recipe("sft")
    for packing in ("true", "false"):
        argv = ["--packing", packing] if packing == "false" else []
        settings = recipe.parse([
            "--model_name_or_path", str(tiny_folder), "--dataset_name", str(folder), "--output_dir",
            str(tmp_path / packing), "--template", "alpaca", "--max_steps", "1", "--disable_tqdm", "--bf16", "false",
            "--num_samples", "0", "--per_device_train_batch_size", "1", "--max_truncated_share", "1", *argv,
        ])  # fmt: skip
        trainers.append(recipe.train(settings))
    packed, apart = trainers
    assert packed.args.packing and packed.args.max_length < max(len(row["input_ids"]) for row in packed.eval_dataset)
    assert [row["labels"] for row in packed.eval_dataset] == [row["labels"] for row in apart.eval_dataset]


def test_rows_that_are_dropped_are_not_asked_at_evaluations(sft, tmp_path, word_rows):
    hopeless = {"instruction": "Write in upper case.", "input": "long " * 200, "output": "LONG"}
    folder = tmp_path / "rows"
    folder.mkdir()
    for split, rows in (("train", word_rows), ("test", [hopeless, *word_rows[:4]])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--untrained_rows", "drop", "--max_length", "300", "--num_samples", "1", "--eval_strategy", "epoch"]
    out = sft(*flags, "--max_truncated_share", "1", data=folder)
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().split("\n") if line]
    assert samples and all(word_rows[0]["input"] in sample["prompt"] for sample in samples)
