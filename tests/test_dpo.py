"""`ftkit dpo`: every method and reference leaves a run that loads, losses equal TRL's own, mistakes are one line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ftkit.config.errors import UserError
from ftkit.config.parser import run
from ftkit.config.versions import has_fused_head
from ftkit.dpo import main
from ftkit.evaluation.verdict.pairing import read_run
from ftkit.sft import main as sft_main

RUN_FILES = {
    "run.yaml", "receipt.json", "metrics.jsonl", "samples.jsonl", "results.json", "report.html", "loss.png", "golden.json", "README.md"
}  # fmt: skip


@pytest.fixture
def dpo(tiny_folder, pairs_file, tmp_path):
    """Runs `ftkit dpo` on the tiny model into a fresh OUT, with further flags; returns OUT."""

    def start(*flags, out="out", model=None, data=None) -> Path:
        folder = tmp_path / out
        main([
            *(["--model_name_or_path", str(model or tiny_folder)] if model != "" else []),
            "--dataset_name", str(data or pairs_file), "--output_dir", str(folder), "--template", "alpaca",
            "--max_steps", "2", "--logging_steps", "1", "--disable_tqdm", "--bf16", "false", "--dtype", "float32", *flags,
        ])  # fmt: skip
        return folder

    return start


@pytest.fixture
def sft_adapter(tiny_folder, tmp_path, word_rows) -> Path:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    sft_main([
        "--model_name_or_path", str(tiny_folder), "--dataset_name", str(rows), "--output_dir", str(tmp_path / "sft"),
        "--template", "alpaca", "--use_peft", "--lora_r", "4", "--max_steps", "4", "--learning_rate", "1e-2",
        "--logging_steps", "1", "--disable_tqdm", "--bf16", "false", "--dtype", "float32",
    ])  # fmt: skip
    return tmp_path / "sft"


def metrics(out: Path, key: str = "loss") -> list[float]:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record[key] for record in records if key in record]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--precompute_ref_log_probs"],
        ["--use_peft"],
        pytest.param(["--use_peft", "--load_in_4bit"], marks=pytest.mark.slow),
        ["--loss_type", "sigmoid", "sft", "--loss_weights", "1", "0.5"],
        ["--use_peft", "--loss_type", "ipo", "--use_weighting"],
    ],
    ids=["full", "full-precomputed", "lora", "qlora", "sigmoid+sft", "wpo"],
)
def test_a_run_leaves_what_the_contract_names_and_learns_the_preference(dpo, flags):
    out = dpo(*flags, "--test_size", "16", "--max_steps", "12", "--learning_rate", "2e-3", "--num_samples", "1")
    assert RUN_FILES <= {path.name for path in out.iterdir()}
    weights = "adapter_model.safetensors" if "--use_peft" in flags else "model.safetensors"
    assert (out / weights).is_file() and (out / "tokenizer.json").is_file()
    before, after = (read_run(path).results.tasks["preferences"] for path in (out / "before", out))
    assert before.num_items == after.num_items == 16 and before.task_hash == after.task_hash
    assert after.scores["reward_accuracy"].low > 0.5  # on pairs it was not trained on
    margins = metrics(out, "rewards/margins")
    assert margins[0] == pytest.approx(0, abs=1e-4) and margins[-1] > 0.01
    assert not list(out.rglob("training_args.bin"))


def trl_losses(tiny_folder, pairs_file, tmp_path, *, lora: bool, precompute: bool, steps: int) -> list[dict]:
    """TRL by itself: prompts and answers as strings, its own tokenization, end token, reference and loss head."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, set_seed
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    heading = (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}"
        "\n\n### Response:\n"
    )
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    pairs = [{"prompt": heading.format(**row), "chosen": row["chosen"], "rejected": row["rejected"]} for row in rows]
    set_seed(7)  # TRL before 1.16 does not, before it makes the adapter
    trainer = DPOTrainer(
        model=str(tiny_folder),
        args=DPOConfig(
            output_dir=str(tmp_path), max_length=256, max_steps=steps, per_device_train_batch_size=4,
            learning_rate=1e-3, logging_steps=1, use_cpu=True, bf16=False, gradient_checkpointing=False,
            disable_tqdm=True, save_strategy="no", report_to="none", seed=7, precompute_ref_log_probs=precompute,
            model_init_kwargs={"dtype": "float32"},
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=8, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear") if lora else None,
    )  # fmt: skip
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]


@pytest.mark.parametrize(
    ("lora", "precompute"), [(True, False), (False, False), (False, True)], ids=["lora", "full", "precomputed"]
)
def test_the_loss_trace_and_the_metrics_equal_those_of_trl_by_itself(
    dpo, tiny_folder, pairs_file, tmp_path, lora, precompute
):
    peft = ["--use_peft", "--lora_r", "8", "--lora_alpha", "32", "--lora_dropout", "0"] if lora else []
    out = dpo(
        *peft, "--max_length", "256", "--max_steps", "6", "--learning_rate", "1e-3", "--seed", "7",
        "--per_device_train_batch_size", "4", "--save_strategy", "no",
        *(["--precompute_ref_log_probs"] if precompute else []),
    )  # fmt: skip
    reference = trl_losses(tiny_folder, pairs_file, tmp_path / "trl", lora=lora, precompute=precompute, steps=6)
    assert len(reference) == 6 and reference[-1]["loss"] < 0.65
    assert metrics(out) == pytest.approx([record["loss"] for record in reference], rel=1e-5)
    for key in ("logps/chosen", "logps/rejected", "rewards/accuracies"):
        first = int(precompute and not has_fused_head())  # whose first margins are rounding, and so is their sign
        expected = [record[key] for record in reference][first:]
        assert metrics(out, key)[first:] == pytest.approx(expected, rel=1e-4), key
    assert metrics(out, "rewards/margins") == pytest.approx(
        [record["rewards/margins"] for record in reference], abs=2e-5
    )


def test_an_adapter_is_trained_on_with_itself_as_the_reference(dpo, sft_adapter, tiny_folder):
    out = dpo("--adapter", str(sft_adapter), "--learning_rate", "1e-3", "--test_size", "8", model="")
    assert metrics(out, "rewards/margins")[0] == pytest.approx(0, abs=1e-5)  # not the bare base's
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (sft_adapter, out))
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)
    assert not (out / "ref").exists() and not (out / "checkpoint-2/ref").exists()
    bases = [json.loads((folder / "base.json").read_text())["sha256"] for folder in (sft_adapter, out)]
    assert bases[0] == bases[1]
    main(["--config", str(out / "run.yaml"), "--output_dir", str(out.parent / "again")])
    assert metrics(out.parent / "again") == metrics(out)


def test_an_adapter_is_not_trained_on_with_another_template(dpo, sft_adapter):
    with pytest.raises(
        UserError, match=r"trained with different tokens \(template alpaca\): token 0 .*drop --template"
    ):
        dpo("--adapter", str(sft_adapter), "--template", "chatml", model="")


def test_an_sft_run_goes_on_from_an_adapter(sft_adapter, tmp_path):
    out = tmp_path / "more"
    flags = ["--bf16", "false", "--dtype", "float32", "--max_steps", "1", "--logging_steps", "1", "--disable_tqdm"]
    sft_main(
        [
            "--adapter",
            str(sft_adapter),
            "--dataset_name",
            str(tmp_path / "rows.jsonl"),
            "--output_dir",
            str(out),
            *flags,
        ]
    )
    assert metrics(out)[0] < metrics(sft_adapter)[0] - 0.1  # it starts from what was learned


def test_resume_ends_as_the_whole_run(dpo, unfinish):
    flags = ["--use_peft", "--max_steps", "4", "--save_steps", "2", "--learning_rate", "1e-3"]
    out = dpo(*flags)
    losses, weights = metrics(out), load_file(out / "adapter_model.safetensors")
    dpo(*flags, out=unfinish(out, "checkpoint-4"))
    assert metrics(out) == losses
    resumed = load_file(out / "adapter_model.safetensors")
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_all_three_row_forms_train_on_the_same_tokens(dpo, tmp_path):
    question, answers = "Say it in upper case.", ("YES", "yes")
    user = [{"role": "user", "content": question}]
    turns = [[{"role": "assistant", "content": answer}] for answer in answers]
    forms = {
        "alpaca": {"instruction": question, "chosen": answers[0], "rejected": answers[1]},
        "strings": {"prompt": question, "chosen": answers[0], "rejected": answers[1]},
        "turns": {"prompt": user, "chosen": turns[0], "rejected": turns[1]},
        "messages": {"chosen": user + turns[0], "rejected": user + turns[1]},
    }
    shown = {}
    for name, row in forms.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(row) + "\n")
        out = dpo("--use_peft", "--max_steps", "1", out=f"out-{name}", data=path)
        shown[name] = [row["tokens"] for row in json.loads((out / "receipt.json").read_text())["typical_rows"]]
    assert all(rows == shown["alpaca"] for rows in shown.values())
    trained = ["".join(text for text, is_trained in row if is_trained) for row in shown["alpaca"]]
    assert trained == ["YES<eos>", "yes<eos>"]


MISTAKES = {
    "no answers": ('{"instruction": "a", "output": "b"}\n', [], "fit no format; rename them to one of: "),
    "misspelt": ('{"instruction": "a", "chosen": "b", "rejectd": "c"}\n', [], 'did you mean "rejected"'),
    "null": ('{"instruction": "a", "chosen": "b", "rejected": null}\n', [], 'pairs.jsonl:1: "rejected" is null'),
    "all equal": ('{"instruction": "a", "chosen": "b", "rejected": "b"}\n', [], "pairs.jsonl:1: chosen and rejected are"),
    "no room": ('{"instruction": "a", "chosen": "b", "rejected": "c"}\n', ["--max_length", "8"], "no answer token is left"),
    "both ends": (
        '{"instruction": "a", "chosen": "b", "rejected": "c"}\n', ["--truncation_mode", "keep_end"], "use keep_start"
    ),
    "new rank for an old adapter": (
        '{"instruction": "a", "chosen": "b", "rejected": "c"}\n', ["--adapter", "x", "--lora_r", "8"], "the adapter has its own"
    ),
    "no adapter": ('{"instruction": "a", "chosen": "b", "rejected": "c"}\n', ["--adapter", "nosuch"], "nosuch"),
    "unknown flag": ("", ["--betta", "1"], 'did you mean --beta'),
}  # fmt: skip


@pytest.mark.parametrize(("content", "flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_2(content, flags, message, tiny_folder, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)
    argv = ["--model_name_or_path", tiny_folder, "--dataset_name", path, "--output_dir", tmp_path / "out"]
    assert run(main, [str(part) for part in (*argv, "--template", "alpaca", "--max_steps", "1", *flags)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "out").exists()


def test_equal_pairs_are_left_out_and_named(dpo, tmp_path, caplog):
    path = tmp_path / "pairs.jsonl"
    rows = [{"instruction": "a", "chosen": "b", "rejected": "b"}, {"instruction": "a", "chosen": "b", "rejected": "c"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = dpo("--use_peft", "--max_steps", "1", data=path)
    receipt = json.loads((out / "receipt.json").read_text())
    assert (receipt["num_rows"], receipt["dropped"]) == (2, {"chosen and rejected are equal": 1})
    assert "1 pairs with equal answers are left out" in caplog.text and "pairs.jsonl:1" in caplog.text
