"""`ftkit reward`: every method leaves a run that loads and is proven, losses equal TRL's own, mistakes are one line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ftkit.config.errors import UserError
from ftkit.config.parser import run
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.evaluation.results import read_results
from ftkit.inference import fresh_scores
from ftkit.inference.reward_model import load_reward_model
from ftkit.reward import main
from ftkit.runs import lifecycle

RUN_FILES = {
    "run.yaml", "receipt.json", "metrics.jsonl", "samples.jsonl", "results.json", "report.html", "loss.png",
    "README.md", "template.lock.json", "before", "before-coin",
}  # fmt: skip
METRICS = ("loss", "accuracy", "margin", "min_reward", "mean_reward", "max_reward")


@pytest.fixture
def reward(tiny_folder, pairs_file, tmp_path):
    """Runs `ftkit reward` on the tiny model into a fresh OUT, with further flags; returns OUT."""

    def start(*flags, out="out", model=None, data=None) -> Path:
        folder = tmp_path / out
        main([
            "--model_name_or_path", str(model or tiny_folder), "--dataset_name", str(data or pairs_file),
            "--output_dir", str(folder), "--template", "alpaca", "--max_steps", "2", "--logging_steps", "1",
            "--disable_tqdm", "--bf16", "false", "--dtype", "float32", *flags,
        ])  # fmt: skip
        return folder

    return start


def metrics(out: Path, key: str = "loss") -> list[float]:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record[key] for record in records if key in record]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--use_peft"],
        pytest.param(["--use_peft", "--load_in_4bit"], marks=pytest.mark.slow),
        ["--num_trained_layers", "0"],
    ],
    ids=["full", "lora", "qlora", "head"],
)
def test_a_run_leaves_what_the_contract_names_and_a_proven_head(reward, flags, capsys):
    out = reward(*flags, "--test_size", "16", "--max_steps", "12", "--learning_rate", "2e-3", "--num_samples", "1")
    printed = capsys.readouterr().err
    assert RUN_FILES <= {path.name for path in out.iterdir()}
    assert not (out / "golden.json").exists()
    assert "a fresh process reads" in printed and printed.index("proven") < printed.index("done:")
    assert "head 1 of 1" in printed and "loss       -log sigmoid(chosen - rejected), plus 0.01" in printed
    results = {folder: read_results(out / folder / "results.json") for folder in ("before", "before-coin", "")}
    tasks = {folder: found.tasks["preferences"] for folder, found in results.items()}
    assert len({task.task_hash for task in tasks.values()}) == 1 and tasks[""].num_items == 16
    if flags[-1:] != ["0"]:
        assert tasks[""].scores["pair_accuracy"].low > 0.5 and tasks[""].scores["pair_loss"].value < 0.6
    weights = load_file(next(out.glob("*.safetensors")))
    (head,) = [weight for name, weight in weights.items() if "score" in name]
    assert head.dtype == torch.float32 and head.shape == (1, 64)
    if "--use_peft" in flags:  # all-linear: every layer, and the head whole
        config = json.loads((out / "adapter_config.json").read_text())
        assert "score" in config["modules_to_save"] and config["task_type"] == "SEQ_CLS"
        assert len([name for name in weights if "lora_A" in name]) == 14
        assert not [name for name in weights if "score.lora" in name]
        assert json.loads((out / "base.json").read_text())["labels"] == ["reward"]
    assert ("<h2>Calibration</h2>" in (out / "report.html").read_text()) and "Reward model" in (out / "report.html").read_text()  # fmt: skip
    assert "load_reward_model(model_id)" in (out / "README.md").read_text()
    items = [json.loads(line) for line in (out / "items/preferences.jsonl").read_text().splitlines()]
    talk = [{"role": "user", "content": items[0]["prompt"].replace("\n", INPUT_MARKER)}]
    judge = load_reward_model(out)
    asked = [[*talk, {"role": "assistant", "content": items[0]["reference"]}]]
    assert judge.scores(asked)[0] == pytest.approx(items[0]["extra"]["chosen_score"], abs=1e-5)


def trl_log(folder, pairs_file, tmp_path, *, lora: bool, steps: int) -> list[dict]:
    """TRL by itself: pairs as strings, its own tokenization, end token, model, head and adapter."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    heading = (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}"
        "\n\n### Response:\n"
    )
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    pairs = [{"prompt": heading.format(**row), "chosen": row["chosen"], "rejected": row["rejected"]} for row in rows]
    lora_config = LoraConfig(
        task_type="SEQ_CLS", r=8, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", modules_to_save=["score"]
    )  # fmt: skip
    trainer = RewardTrainer(
        model=str(folder),
        args=RewardConfig(
            output_dir=str(tmp_path), max_length=256, max_steps=steps, per_device_train_batch_size=4,
            learning_rate=1e-3, logging_steps=1, use_cpu=True, bf16=False, gradient_checkpointing=False,
            disable_tqdm=True, save_strategy="no", report_to="none", seed=7, center_rewards_coefficient=0.01,
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=lora_config if lora else None,
    )  # fmt: skip
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]


def assert_log_of_trl(reward, folder, pairs_file, tmp_path, *, lora: bool, steps: int) -> None:
    peft = ["--use_peft", "--lora_r", "8", "--lora_alpha", "32", "--lora_dropout", "0"] if lora else []
    out = reward(
        *peft, "--max_length", "256", "--max_steps", str(steps), "--learning_rate", "1e-3", "--seed", "7",
        "--per_device_train_batch_size", "4", "--save_strategy", "no", "--fused_lora", "false", model=folder,
    )  # fmt: skip
    expected = trl_log(folder, pairs_file, tmp_path / "trl", lora=lora, steps=steps)
    assert len(expected) == steps
    for key in METRICS:
        assert metrics(out, key) == pytest.approx([record[key] for record in expected], abs=1e-5), key


@pytest.mark.parametrize(
    ("family", "lora"),
    [
        ("llama", True),
        ("ftgpt", False),
        pytest.param("llama", False, marks=pytest.mark.slow),
        pytest.param("ftgpt", True, marks=pytest.mark.slow),
    ],
)
def test_the_loss_and_the_metrics_equal_those_of_trl_by_itself(reward, tiny_folder, pairs_file, tmp_path, lora, family):
    folder = tiny_folder
    if family == "ftgpt":
        from ftkit.model.loading import load_tokenizer
        from ftkit.model.weights.conversion import import_weights

        folder = tmp_path / "ftgpt"
        import_weights(tiny_folder, folder)
        load_tokenizer(tiny_folder).save_pretrained(folder)
    assert_log_of_trl(reward, folder, pairs_file, tmp_path, lora=lora, steps=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "smollm2"])
def test_real_models_log_what_trl_logs(reward, pairs_file, tmp_path, name):
    from ftkit.model.loading import local_model_folder

    assert_log_of_trl(reward, local_model_folder(name), pairs_file, tmp_path, lora=name == "smollm2", steps=3)


def test_resume_ends_as_the_whole_run(reward, unfinish):
    flags = ["--use_peft", "--max_steps", "4", "--save_steps", "2", "--learning_rate", "1e-3"]
    out = reward(*flags)
    losses, weights = metrics(out), load_file(out / "adapter_model.safetensors")
    reward(*flags, out=unfinish(out, "checkpoint-4"))
    assert metrics(out) == losses
    resumed = load_file(out / "adapter_model.safetensors")
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_a_head_that_is_not_saved_as_it_was_trained_fails_the_run(reward, monkeypatch, capsys):
    save = lifecycle.save_model_safely

    def spoil(trainer):
        weight = dict(trainer.model.named_parameters())["score.weight"].data
        weight[0, 0] += 1e-3
        save(trainer)
        weight[0, 0] -= 1e-3

    monkeypatch.setattr(lifecycle, "save_model_safely", spoil)
    with pytest.raises(UserError, match=r"what is saved is not what was trained: conversation 1 scores .* the checkp"):
        reward()
    assert "done:" not in capsys.readouterr().err


@pytest.mark.processes
def test_a_fresh_process_gives_the_scores_of_this_one_and_its_mistake_in_one_line(reward, tmp_path, monkeypatch):
    monkeypatch.undo()
    out = reward("--use_peft", "--lora_r", "4")
    talks = [[{"role": "user", "content": "Hi."}, {"role": "assistant", "content": text}] for text in ("Yes.", "No.")]
    in_fresh = load_original()
    assert in_fresh(str(out), talks, {}) == load_reward_model(out).scores(talks)
    with pytest.raises(UserError, match=r"can't be read again \(.*no such folder"):
        in_fresh("nosuch", talks, {})


def load_original():
    """`scores_in_fresh_process` as it is outside of tests."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("original", fresh_scores.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.scores_in_fresh_process


def test_a_pad_token_that_ends_every_answer_is_scored_in_training_too(reward, pairs_file, tmp_path):
    """Stock decoders find the last token by the id of the padding; here that is the end token, as GPT-2 has it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer("gpt2")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, initializer_range=0.2)).save_pretrained(
        tmp_path / "gpt2"
    )
    tokenizer.save_pretrained(tmp_path / "gpt2")
    out = reward("--test_size", "8", "--max_steps", "1", "--center_rewards_coefficient", "0", model=tmp_path / "gpt2")
    scores = read_results(out / "before/results.json").tasks["preferences"].scores
    assert metrics(out, "eval_loss")[0] == pytest.approx(scores["pair_loss"].value, abs=1e-5)  # by trainer and by judge
    assert metrics(out, "eval_margin")[0] == pytest.approx(scores["margin"].value, abs=1e-5)
    config = json.loads((out / "config.json").read_text())
    assert config["pad_token_id"] != tokenizer.eos_token_id


@pytest.mark.parametrize("flags", [[], pytest.param(["--use_peft"], marks=pytest.mark.slow)], ids=["full", "lora"])
def test_a_base_in_bfloat16_keeps_its_head_in_float32_and_is_proven(reward, flags, capsys):
    out = reward("--dtype", "bfloat16", "--max_steps", "1", "--learning_rate", "1e-2", *flags)
    assert "gives the same 16 scores, bit for bit" in capsys.readouterr().err
    (head,) = [weight for name, weight in load_file(next(out.glob("*.safetensors"))).items() if "score" in name]
    assert head.dtype == torch.float32 and not torch.equal(head, head.bfloat16().float())


def test_a_merged_adapter_and_a_checkpoint_score_as_the_adapter(reward, tmp_path):
    from ftkit.model.adapters.merging import merge_adapter

    out = reward("--use_peft", "--max_steps", "4", "--save_steps", "4", "--learning_rate", "2e-3")
    talks = [[{"role": "user", "content": "Hi."}, {"role": "assistant", "content": text}] for text in ("Yes.", "NO.")]
    expected = load_reward_model(out).scores(talks)
    assert load_reward_model(out / "checkpoint-4").scores(talks) == expected
    merged = load_reward_model(merge_adapter(out, tmp_path / "merged"))
    assert merged.scores(talks) == pytest.approx(expected, abs=1e-5)


PAIR = '{"instruction": "a", "chosen": "b", "rejected": "c"}\n'
MISTAKES = {
    "misspelt": ('{"instruction": "a", "chosen": "b", "rejectd": "c"}\n', [], 'did you mean "rejected"'),
    "empty answer": ('{"instruction": "a", "chosen": "b", "rejected": " "}\n', [], 'pairs.jsonl:1: "rejected" is '),
    "all equal": ('{"instruction": "a", "chosen": "b", "rejected": "b"}\n', [], "pairs.jsonl:1: chosen and rejected are"),
    "two prompts": (
        json.dumps({name: [{"role": "user", "content": name}, {"role": "assistant", "content": "x"}] for name in ("chosen", "rejected")}) + "\n",
        [], "pairs.jsonl:1: chosen and rejected part before their last turn",
    ),
    "too long": (PAIR, ["--max_length", "8"], "pairs.jsonl:1: a pair of 133 tokens is longer than 8"),
    "LoRA on the head": (PAIR, ["--use_peft", "--lora_target_modules", "q_proj", "score"], "score: is the head, which is trained"),
    "LoRA on the head alone": (PAIR, ["--use_peft", "--lora_target_modules", "score"], "score: is the head, which is trained"),
    "an old adapter": (PAIR, ["--adapter", "nosuch"], "starts a new adapter"),
    "a benchmark": (PAIR, ["--benchmark_tasks", "knowledge"], "a reward model is measured on its test rows"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_2(content, flags, message, tiny_folder, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)
    argv = ["--model_name_or_path", tiny_folder, "--dataset_name", path, "--output_dir", tmp_path / "out"]
    assert run(main, [str(part) for part in (*argv, "--template", "alpaca", "--max_steps", "1", *flags)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_a_model_without_an_end_token_is_refused_before_its_weights_are_read(tiny_folder, tmp_path, pairs_file):
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(tiny_folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "endless")
    (tmp_path / "endless/config.json").write_text((tiny_folder / "config.json").read_text())
    with pytest.raises(UserError, match="no eos token"):
        main(["--model", str(tmp_path / "endless"), "--dataset_name", str(pairs_file), "--output_dir", str(tmp_path / "out"), "--template", "alpaca"])  # fmt: skip


def test_equal_and_long_pairs_are_left_out_and_counted(reward, tmp_path, caplog):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "a", "chosen": "b", "rejected": other} for other in ("b", "c", "d", "x " * 200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--use_peft", "--max_length", "100", "--untrained_rows", "drop", "--template", "plain", "--max_steps", "1"]
    out = reward(*flags, data=path)
    receipt = json.loads((out / "receipt.json").read_text())
    assert (receipt["num_rows"], receipt["num_sequences"]) == (4, 4)
    assert receipt["dropped"] == {"chosen and rejected are equal": 1, "longer than 100 tokens": 1}
    assert receipt["run"]["num_trained_tokens"] == receipt["run"]["num_sequences"]  # one score each
    assert "1 pairs with equal answers are left out" in caplog.text and "pairs.jsonl:1" in caplog.text


def test_a_file_of_pairs_or_conversations_is_scored(reward, pairs_file, tmp_path, capsys):
    out = reward("--use_peft", "--max_steps", "10", "--learning_rate", "2e-3")
    main(["--predict", str(pairs_file), "--model", str(out)])
    printed, told = capsys.readouterr()
    rows = [json.loads(line) for line in printed.splitlines()]
    judge = load_reward_model(out)
    talk = [*rows[0]["prompt"], {"role": "assistant", "content": rows[0]["rejected"]}]
    assert len(rows) == 64 and rows[0]["rejected_score"] == pytest.approx(judge.scores([talk])[0], abs=1e-6)
    right = sum(row["chosen_score"] > row["rejected_score"] for row in rows)
    assert f"{right} of 64 pairs are in the right order: {right / 64:.1%} (" in told
    talks = tmp_path / "talks.jsonl"
    talks.write_text(json.dumps({"messages": talk}) + "\n")
    main(["--predict", str(talks), "--model", str(out), "--output_file", str(tmp_path / "scored.jsonl")])
    (row,) = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert row == {"messages": talk, "score": pytest.approx(rows[0]["rejected_score"], abs=1e-6)}
    talks.write_text(json.dumps({"messages": talk[:1]}) + "\n")
    with pytest.raises(UserError, match="talks.jsonl:1: "):
        main(["--predict", str(talks), "--model", str(out)])
