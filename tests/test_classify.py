"""`ftkit classify`: every method and family leaves a run that loads and predicts; the loss is right; mistakes are one line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ftkit.classify import main
from ftkit.cli import dispatch
from ftkit.config.errors import UserError
from ftkit.config.parser import run

RUN_FILES = {
    "run.yaml", "receipt.json", "metrics.jsonl", "samples.jsonl", "results.json", "evaluation.json", "report.html",
    "loss.png", "README.md", "items",
}  # fmt: skip
FAST = ["--disable_tqdm", "--bf16", "false", "--dtype", "float32", "--logging_steps", "1", "--num_samples", "1"]


@pytest.fixture(scope="session")
def label_rows() -> list[dict]:
    """Two classes that one word tells apart, at any place, in texts of any length."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(96):
        words = list(generator.choice(["bal", "com", "dun", "fep"], size=generator.integers(1, 6)))
        label = ("ham", "spam")[number % 2]
        words.insert(generator.integers(len(words) + 1), "WIN" if label == "spam" else "ask")
        rows.append({"text": " ".join(words), "label": label})
    return rows


@pytest.fixture(scope="session")
def label_file(tmp_path_factory, label_rows) -> Path:
    path = tmp_path_factory.mktemp("labels") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in label_rows))
    return path


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory, tiny_folder) -> Path:
    """A random encoder that was trained on nothing, saved as a masked language model with the tiny tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=1, initializer_range=0.2,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder


@pytest.fixture
def classify(tiny_folder, label_file, tmp_path):
    """Runs `ftkit classify` on the tiny model into a fresh OUT, with further flags; returns OUT."""

    def start(*flags, out="out", model=None, data=None) -> Path:
        folder = tmp_path / out
        main([
            "--model_name_or_path", str(model or tiny_folder), "--dataset_name", str(data or label_file),
            "--output_dir", str(folder), "--learning_rate", "2e-3", *FAST, *flags,
        ])  # fmt: skip
        return folder

    return start


def metrics(out: Path, key: str = "loss") -> list[float]:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record[key] for record in records if key in record]


def evaluation(out: Path) -> dict:
    return json.loads((out / "evaluation.json").read_text())


def pipeline_labels(out: Path, texts: list[str], **settings) -> list[str]:
    from transformers import pipeline

    classifier = pipeline("text-classification", model=str(out), device="cpu", truncation=True, **settings)
    return [found["label"] for found in classifier(texts, batch_size=4)]


METHODS = {
    "full": [],
    "lora": ["--use_peft", "--lora_r", "8"],
    "last-layer": ["--num_trained_layers", "1"],
    "head": ["--num_trained_layers", "0"],
    "ftgpt": ["--ftgpt"],
    "qlora": ["--use_peft", "--load_in_4bit"],
}


SLOW = ("head", "qlora")


@pytest.mark.parametrize("method", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in METHODS])
def test_a_run_leaves_what_the_contract_names(classify, method, tmp_path, monkeypatch, label_rows):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    out = classify(*METHODS[method], "--test_size", "24", "--num_train_epochs", "6", "--learning_rate", "5e-3")
    assert RUN_FILES <= {path.name for path in out.iterdir()} and not list(out.rglob("training_args.bin"))
    assert not (out / "golden.json").exists()
    found = evaluation(out)
    assert found["split"] == "test" and found["num_rows"] == 24 and found["positive"] == "spam"
    assert metrics(out, "eval_f1")[-1] == pytest.approx(found["measures"]["f1"]["value"])
    assert found["measures"]["roc_auc"]["value"] > {"head": 0.55, "last-layer": 0.75}.get(method, 0.9)
    if "--use_peft" not in METHODS[method]:
        texts = [row["text"] for row in label_rows[:12]]
        assert pipeline_labels(out, texts) == predicted(out, texts, tmp_path)


def predicted(out: Path, texts: list[str], tmp_path: Path) -> list[str]:
    """What `ftkit classify --predict` says."""
    source, target = tmp_path / "asked.jsonl", tmp_path / "answers.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    target.unlink(missing_ok=True)
    main(["--predict", str(source), "--model_name_or_path", str(out), "--output_file", str(target)])
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["text"] for line in lines] == texts
    assert all(max(line["probabilities"], key=line["probabilities"].get) == line["label"] for line in lines)
    assert all(sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5) for line in lines)
    return [line["label"] for line in lines]


def other_encoder(kind: str):
    """A random RoBERTa, which counts its 64 positions from 2, or a ModernBERT."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM, RobertaConfig, RobertaForMaskedLM

    sizes = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "pad_token_id": 1, "initializer_range": 0.2}
    torch.manual_seed(0)
    if kind == "roberta":
        return RobertaForMaskedLM(RobertaConfig(**sizes, max_position_embeddings=66))
    return ModernBertForMaskedLM(ModernBertConfig(**sizes, max_position_embeddings=64, attn_implementation="sdpa"))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--use_peft"], ["--num_trained_layers", "1"]], ids=["full", "lora", "last"])
@pytest.mark.parametrize("kind", ["roberta", "modernbert"])
def test_other_encoders_train_on_whole_texts_and_predict(kind, flags, classify, tiny_folder, tmp_path):
    from transformers import AutoTokenizer

    other_encoder(kind).save_pretrained(tmp_path / kind)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / kind)
    long = tmp_path / "long.jsonl"
    rows = [{"text": "bal " * 90 + str(number), "label": ("ham", "spam")[number % 2]} for number in range(16)]
    long.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = classify("--max_steps", "2", *flags, model=tmp_path / kind, data=long)
    receipt = json.loads((out / "receipt.json").read_text())
    assert (receipt["max_length"], receipt["num_truncated_rows"]) == (64, 16)
    assert len(predicted(out, ["bal " * 90, "com"], tmp_path)) == 2


@pytest.mark.parametrize("flags", [[], ["--use_peft", "--lora_r", "8"]], ids=["full", "lora"])
def test_an_encoder_learns_and_works_in_a_pipeline(classify, bert_folder, flags, tmp_path, label_rows):
    out = classify(
        *flags, "--test_size", "24", "--num_train_epochs", "10", "--learning_rate", "5e-3", model=bert_folder
    )
    assert evaluation(out)["measures"]["roc_auc"]["value"] > 0.9
    texts = [row["text"] for row in label_rows[:12]]
    if flags:
        assert "bert.pooler.dense.weight" in " ".join(load_file(out / "adapter_model.safetensors"))  # it was new
        dispatch(["adapters", "merge", str(out), "--output_dir", str(tmp_path / "merged"), "--dtype", "float32"])
        assert json.loads((tmp_path / "merged/merge.json").read_text())["max_probability_difference"] < 1e-5
        out, adapter = tmp_path / "merged", out
        assert predicted(out, texts, tmp_path) == predicted(adapter, texts, tmp_path)
    assert pipeline_labels(out, texts) == predicted(out, texts, tmp_path)


def test_a_lora_of_three_classes_is_used_as_an_adapter_and_merged(classify, tmp_path, label_rows):
    from transformers import pipeline

    from ftkit.model.trained_classifier import load_trained_classifier

    data = tmp_path / "three.jsonl"
    rows = [
        {"text": f"{row['text']} {word}", "label": word} for row in label_rows[:30] for word in ("ask", "WIN", "sum")
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = classify("--use_peft", "--test_size", "20", "--num_train_epochs", "4", "--learning_rate", "1e-2", data=data)
    assert evaluation(out)["positive"] is None and len(evaluation(out)["confusion"]) == 3
    texts = [row["text"] for row in rows[:9]]
    model, tokenizer, labels = load_trained_classifier(out)
    assert labels == ["WIN", "ask", "sum"]
    asked = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")(texts, batch_size=3)
    assert [found["label"] for found in asked] == predicted(out, texts, tmp_path)
    dispatch(["adapters", "merge", str(out), "--output_dir", str(tmp_path / "merged"), "--dtype", "float32"])
    assert pipeline_labels(tmp_path / "merged", texts) == predicted(out, texts, tmp_path)


def reference_losses(folder, rows, *, steps, batch, accumulation, weights=None) -> list[float]:
    """A loop by hand: rows in order of transformers' sampler, mean cross-entropy of an update's rows, AdamW."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
    from transformers.optimization import get_linear_schedule_with_warmup

    tokenizer = AutoTokenizer.from_pretrained(folder)
    set_seed(42)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, pad_token_id=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(42)).tolist()
    losses = []
    for step in range(steps):
        update = order[step * batch * accumulation :][: batch * accumulation]
        encoded = tokenizer([rows[index]["text"] for index in update], padding=True, return_tensors="pt")
        labels = torch.tensor([int(rows[index]["label"] == "spam") for index in update])
        logits = model(**encoded).logits
        loss = torch.nn.functional.cross_entropy(logits, labels, weight=weights, reduction="sum") / len(update)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("batch", "accumulation"), [(8, 1), (2, 4)])
def test_the_loss_trace_is_that_of_a_loop_by_hand_for_any_split_of_an_update(
    classify, tiny_folder, label_rows, batch, accumulation
):
    out = classify(
        "--per_device_train_batch_size", str(batch), "--gradient_accumulation_steps", str(accumulation),
        "--max_steps", "10", "--weight_decay", "0", "--class_weights", "spam=3", "--train_sampling_strategy", "random",
    )  # fmt: skip
    weights = torch.tensor([0.5, 1.5])  # their mean over the rows is 1
    expected = reference_losses(tiny_folder, label_rows, steps=10, batch=8, accumulation=1, weights=weights)
    assert metrics(out) == pytest.approx(expected, rel=2e-4)
    assert expected[-1] < expected[0]


def test_early_stopping_keeps_the_best_weights_and_says_what_it_held_out(classify, label_rows):
    out = classify(
        "--test_size", "24", "--early_stopping_patience", "2", "--num_train_epochs", "30", "--learning_rate", "8e-3"
    )
    losses, f1 = metrics(out, "eval_loss"), metrics(out, "eval_f1")
    assert 3 <= len(losses) < 31  # stopped
    receipt = json.loads((out / "receipt.json").read_text())
    assert (receipt["num_rows"], receipt["num_validation_rows"], receipt["num_test_rows"]) == (65, 7, 24)
    state = json.loads(max(out.glob("checkpoint-*/trainer_state.json"), key=lambda p: p.stat().st_mtime).read_text())
    assert state["best_metric"] == pytest.approx(max(f1[1:]))
    best = Path(state["best_model_checkpoint"])
    kept, saved = load_file(best / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(torch.equal(kept[name], saved[name]) for name in kept)


def test_resume_ends_as_the_whole_run_and_run_yaml_repeats_it(classify, tmp_path, unfinish):
    flags = ["--use_peft", "--max_steps", "4", "--save_steps", "2", "--test_size", "16"]
    out = classify(*flags)
    losses, found = metrics(out), evaluation(out)
    weights = load_file(out / "adapter_model.safetensors")
    main(["--config", str(out / "run.yaml"), "--output_dir", str(tmp_path / "again")])
    assert metrics(tmp_path / "again") == losses and evaluation(tmp_path / "again") == found
    classify(*flags, out=unfinish(out, "checkpoint-4"))
    assert metrics(out) == losses
    resumed = load_file(out / "adapter_model.safetensors")
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_the_receipt_and_the_report_tell_lengths_cuts_confusion_and_calibration(classify):
    out = classify("--test_size", "24", "--max_length", "8", "--max_steps", "2", "--class_weights", "balanced")
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["max_length"] == 8 and receipt["num_truncated_rows"] > 0 and receipt["num_tokens_cut"] > 0
    page = (out / "report.html").read_text()
    for part in (
        "<h2>Confusion</h2>",
        "<h2>Calibration</h2>",
        "<h2>Measures</h2>",
        "F1, precision and recall are of spam",
    ):
        assert part in page
    card = (out / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card and 'pipeline("text-classification"' in card
    assert "true class, predicted as | ham | spam" in card


def test_results_can_be_compared_item_by_item(classify, capsys):
    from ftkit.evaluation.results import read_items, read_results

    out = classify("--test_size", "24", "--max_steps", "1")
    results = read_results(out / "results.json")
    task = results.tasks["classification"]
    items = read_items(out / "results.json", task)
    assert len(items) == task.num_items == 24
    assert np.mean([item.scores["accuracy"] for item in items]) == pytest.approx(task.scores["accuracy"].value)
    assert not task.scores["brier"].higher_is_better
    befores = [read_results(path).tasks["classification"] for path in sorted(out.glob("before-*/results.json"))]
    assert [path.name for path in sorted(out.glob("before-*"))] == ["before-bag-of-words", "before-majority-class"]
    assert {found.task_hash for found in befores} == {task.task_hash}
    assert re.search(
        r"\nverdict: [a-z ]+: accuracy [\d.]+ % \((bag of words|majority class)\), ", capsys.readouterr().err
    )


def test_predictions_of_labelled_rows_are_scored_and_go_to_standard_output(classify, label_file, capsys):
    out = classify("--max_steps", "1")
    capsys.readouterr()
    main(["--predict", str(label_file), "--model_name_or_path", str(out)])
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert len(lines) == 96 and set(lines[0]) == {"text", "label", "probabilities"}
    assert "of 96 labels are right: " in captured.err


ROW = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
MISTAKES = {
    "one class": ('{"text": "a", "label": "x"}\n{"text": "b", "label": "x"}\n', [], 'rows.jsonl:1: all 2 rows have the label "x"'),
    "one row": ('{"text": "a", "label": "x"}\n', [], "rows.jsonl:1: this is the only row"),
    "empty text": ('{"text": "a", "label": "x"}\n{"text": "", "label": "y"}\n', [], 'rows.jsonl:2: "text" is empty'),
    "mixed": ('{"text": "a", "label": "x"}\n{"text": "b", "label": 1}\n', [], "rows.jsonl:1: label \"x\" is a name, but line 2"),
    "out of range": ('{"text": "a", "label": 0}\n{"text": "b", "label": 2}\n', [], "rows.jsonl:2: label 2 is out of range"),
    "positive": (ROW, ["--positive_label", "z"], "--positive_label z; the classes are x, y"),
    "weights": (ROW, ["--class_weights", "z=2"], "--class_weights z=2: give none, balanced or NAME=WEIGHT"),
    "too long": (ROW, ["--max_length", "1000"], "--max_length 1000 is more than the model's context of 512"),
    "patience": (ROW, ["--early_stopping_patience", "0"], "--early_stopping_patience is 0; give 1 or more"),
    "streaming": (ROW, ["--dataset_streaming"], "--dataset_streaming: classes are counted before training"),
    "names": (ROW, ["--class_names", "x", "x"], "--class_names x x: give at least two names, each once"),
    "held out": (ROW, ["--test_size", "-1"], "--test_size is -1.0; give a share"),
    "adapter": (ROW, ["--adapter", "x"], "--adapter: a head starts a new adapter; merge the old one"),
    "both": (ROW, ["--use_peft", "--num_trained_layers", "1"], "--num_trained_layers with --use_peft"),
    "frozen": (ROW, ["--num_frozen_layers", "1"], "for a classifier give --num_trained_layers"),
    "no data": (None, [], "--dataset_name is missing"),
    "nothing held out": (ROW, ["--eval_strategy", "epoch"], "--eval_strategy needs test rows"),
    "benchmark": (ROW, ["--benchmark_tasks", "knowledge"], "--benchmark_tasks asks a language model"),
    "predict without a model": (None, ["--predict", "x"], "--model_name_or_path is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_2(content, flags, message, tiny_folder, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(content or "")
    argv = [] if "--predict" in flags else ["--model_name_or_path", tiny_folder, "--output_dir", tmp_path / "out"]
    argv += ["--dataset_name", path] if content else []
    assert run(main, [str(part) for part in (*argv, *flags)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "out").exists()


def test_predicting_a_text_file_names_what_is_wrong(classify, tmp_path, tiny_folder):
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "a"}\n{"text": null}\n')
    with pytest.raises(UserError, match=r'texts\.jsonl:2: "text" is null'):
        main(["--predict", str(source), "--model_name_or_path", str(tiny_folder)])
    source.write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match="is not a classifier; train one"):
        main(["--predict", str(source), "--model_name_or_path", str(tiny_folder)])
    with pytest.raises(UserError, match="exists; name a new file"):
        main(["--predict", str(source), "--model_name_or_path", str(tiny_folder), "--output_file", str(source)])
