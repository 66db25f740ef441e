"""`ftkit distill` end to end: what it refuses, what it keeps, what it divides by, TRL's trainer, and resume."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DistillationConfig, DistillationTrainer
from trl.experimental.gkd import GKDTrainer

from ftkit.config.errors import UserError
from ftkit.data.tokens.bpe import train_bpe
from ftkit.data.tokens.vocabularies import vocabulary_difference
from ftkit.runs.recipes import load_recipe
from ftkit.training.distill import kept as kept_module
from ftkit.training.distill import written as written_module
from ftkit.training.distill.kept import Asked, Kept
from ftkit.training.distill.offline import RowCollator
from ftkit.training.distill.on_policy import CutWatch, FTOnPolicyTrainer
from ftkit.training.methods.distill import METHOD, prompt_of

QUIET = ("--bf16", "false", "--num_samples", "0", "--disable_tqdm", "--template", "plain", "--learning_rate", "1e-2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, word_rows):
    """A folder with rows, and the cache of these tests."""
    folder = tmp_path_factory.mktemp("distill")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in word_rows[:12]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTKIT_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def flags(folder, tiny_folder, tiny_teacher):
    """Flags of a run, by its name."""

    def of(out: str, *more: str) -> list[str]:
        named = (
            "--model",
            str(tiny_folder),
            "--teacher",
            str(tiny_teacher),
            "--dataset_name",
            str(folder / "rows.jsonl"),
        )
        return [*named, "--output_dir", str(folder / out), *QUIET, *more]

    return of


@pytest.fixture(scope="module")
def run(flags):
    """Train; the trainer."""

    def start(out: str, *more: str):
        recipe = load_recipe("distill")
        return recipe.train(recipe.parse(flags(out, *more)))

    return start


def prepared(flags: list[str]):
    return METHOD.prepare(load_recipe("distill").parse(flags))


def logits_of(model, row: dict) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([row["input_ids"]])).logits.float()


# What is refused.


def test_a_teacher_of_another_vocabulary_is_refused_in_one_line_that_names_the_way_out(flags, tiny_folder, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(tmp_path / "other")
    train_bpe(["zq xw vk " * 9], 300).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError) as refused:
        prepared([*flags("x"), "--teacher", str(tmp_path / "other")])
    message = str(refused.value)
    assert "has a different vocabulary (id 0 is '<eos>' in one and '<|endoftext|>' in the other)" in message
    assert message.endswith("let it write the answers, with --answers teacher") and "\n" not in message


def test_a_teacher_that_is_asked_in_another_way_is_refused(flags, tiny_teacher, tmp_path):
    shutil.copytree(tiny_teacher, tmp_path / "asked")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "asked")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eos>{% endgeneration %}"
        "{% else %}Q: {{ m.content }}\n{% endif %}{% endfor %}"
    )
    tokenizer.save_pretrained(tmp_path / "asked")
    with pytest.raises(
        UserError, match="is asked by the template .*, the student by plain: token 0 is .*--answers teacher"
    ):
        prepared([*flags("x"), "--teacher", str(tmp_path / "asked")])


REFUSED = {  # flags beside a run's, and what is said
    "the student itself": (["--teacher", "STUDENT"], "is the student, who learns nothing from itself"),
    "a beta outside": (["--beta", "1.5"], r"--beta is 1.5; give 0 \(forward KL\) to 1"),
    "a weight outside": (["--hard_label_weight", "2"], "give a share from 0 to 1"),
    "no temperature": (["--temperature", "0"], "give more than 0"),
    "no room for an answer": (
        ["--answers", "student", "--max_completion_length", "510"], "are more than the context of 512; lower it to 4"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("more", "message"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(more, message, flags, tiny_folder):
    with pytest.raises(UserError, match=message):
        prepared([*flags("x"), *(str(tiny_folder) if word == "STUDENT" else word for word in more)])


def test_a_teacher_that_never_ends_its_answers_is_refused_and_asked_once(flags, folder, monkeypatch):
    """A model without an end token writes to the limit: no such answer is trained on."""
    more = ("--answers", "teacher", "--max_completion_length", "1", "--teacher_dtype", "float32")
    with pytest.raises(UserError, match="ends none of its answers within --max_completion_length 1; raise it, or name"):
        prepared([*flags("x"), *more])
    monkeypatch.setattr(written_module, "answer_each", lambda *_, **__: pytest.fail("was asked again"))
    with pytest.raises(UserError, match="ends none"):
        prepared([*flags("x"), *more])


# Vocabularies.


def test_tokenizers_are_compared_by_the_bytes_of_their_ids(tiny_folder):
    one, longer = AutoTokenizer.from_pretrained(tiny_folder), AutoTokenizer.from_pretrained(tiny_folder)
    assert vocabulary_difference(one, longer) is None
    longer.add_tokens(["<new>"])
    assert vocabulary_difference(one, longer) is vocabulary_difference(longer, one) is None
    assert "id 0 is '<eos>' in one and '<|endoftext|>' in the other" in vocabulary_difference(
        one, train_bpe(["a"], 300)
    )


# What is kept.


def test_a_teacher_that_was_stopped_is_asked_for_the_missing_files_only(tiny_teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(kept_module, "FILE_TOKENS", 4)
    model = AutoModelForCausalLM.from_pretrained(tiny_teacher)
    rows = [{"input_ids": [5, 6, 7, 8 + n], "labels": [-100, -100, 7, 8 + n]} for n in range(5)]
    rows.insert(2, {"input_ids": [5, 6], "labels": [-100, -100]})  # a prompt alone
    kept = Kept("digest", Asked(3, 1.0, 300), rows)
    kept.make(model, kept.missing, 1, 2, shown=False)
    whole = {path.name: path.read_bytes() for path in kept.folder.iterdir()}
    kept.path(1).unlink()
    again = Kept("digest", Asked(3, 1.0, 300), rows)
    assert again.missing == [1] and Kept("digest", Asked(4, 1.0, 300), rows).key != again.key
    again.make(model, again.missing, 1, 2, shown=False)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == whole
    expected = logits_of(model, rows[4])[0, 1:3, :300].log_softmax(-1).topk(3)
    found = again.of(4)
    assert torch.equal(found.ids, expected.indices) and torch.allclose(
        found.log_probs[:, :3], expected.values, atol=1e-5
    )
    assert len(again.of(2).ids) == 0


def test_the_end_token_is_trained_also_where_it_is_the_padding():
    batch = RowCollator(0, None)([{"input_ids": [5, 6, 0], "labels": [-100, 6, 0]}, {"input_ids": [7], "labels": [7]}])
    assert batch["labels"].tolist() == [[-100, 6, 0], [-100, -100, -100]]
    assert batch["shift_labels"].tolist() == [[6, 0, -100], [-100, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


# The loss of a run.


@pytest.fixture(scope="module")
def asked(run):
    """A trainer that asks its teacher in each step, at beta 0.5, after one update."""
    return run(
        "asked", "--max_steps", "1", "--teacher_top_k", "0", "--beta", "0.5", "--per_device_train_batch_size", "3"
    )


def test_the_loss_is_trls_on_the_same_logits_not_shifted_and_divided_once(asked, tiny_teacher):
    rows = [dict(row) for row in asked.train_dataset.select(range(4))]
    teacher, sums, number = AutoModelForCausalLM.from_pretrained(tiny_teacher), 0.0, 0
    for row in rows:
        labels = torch.tensor([row["labels"]])
        student, said = (logits_of(model, row)[:, :-1, :300] for model in (asked.model, teacher))
        sums += GKDTrainer.generalized_jsd_loss(student, said, labels[:, 1:], 0.5, reduction="sum").item()
        number += int((labels[:, 1:] != -100).sum())
    collate, halves = asked.data_collator, []
    asked.model.train()
    whole = asked.compute_loss(asked.model, collate(rows), num_items_in_batch=torch.tensor(number)).item()
    for part in (rows[:1], rows[1:]):
        halves.append(asked.compute_loss(asked.model, collate(part), num_items_in_batch=torch.tensor(number)).item())
    assert whole == pytest.approx(sums / number, abs=1e-5) and sum(halves) == pytest.approx(whole, abs=1e-6)


def test_rows_without_a_trained_token_have_a_loss_of_zero(asked):
    batch = asked.data_collator([{"input_ids": [5, 6], "labels": [-100, -100]}])
    for mode in (True, False):
        asked.model.train(mode)
        assert asked.compute_loss(asked.model, batch, num_items_in_batch=torch.tensor(0)).item() == 0


def test_held_out_rows_are_measured_by_their_kl_to_the_teacher(run, folder, tiny_teacher):
    trainer = run("measured", "--max_steps", "2", "--test_size", "3", "--use_peft")
    results = json.loads((folder / "measured/results.json").read_text())["tasks"]["answers"]
    rows, total, number = trainer.data.test.rows, 0.0, 0
    teacher = AutoModelForCausalLM.from_pretrained(tiny_teacher)
    for row in rows:
        kept = torch.tensor(row["labels"][1:]) != -100
        one, other = (logits_of(model, row)[0, :-1, :300][kept].log_softmax(-1) for model in (teacher, trainer.model))
        total += (one.exp() * (one - other)).sum().item()
        number += int(kept.sum())
    assert results["scores"]["kl_to_teacher"]["value"] == pytest.approx(total / number, abs=1e-4)
    assert (folder / "measured/before/results.json").is_file()


# On the student's samples.


def test_a_student_that_never_ends_its_answers_is_warned_of_once(caplog):
    watch, state = CutWatch(), SimpleNamespace(global_step=3, is_world_process_zero=True)
    for share in (0.5, 0.9, 1.0):
        watch.on_log(None, state, None, {"loss": 1.0, "completions/clipped_ratio": share})
    assert [record.getMessage() for record in caplog.records] == [
        "at update 3 90.0 % of the answers reach --max_completion_length; raise it, or teach the student to end first "
        "(ftkit sft)"
    ]


@pytest.mark.parametrize("padded", [False, True], ids=["heads alike", "a padded head"])
def test_on_recorded_answers_the_loss_is_that_of_trls_trainer(padded, tiny_folder, tiny_teacher, tmp_path, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    prompts = [{"prompt": [5, 6, 7]}, {"prompt": [9, 8]}, {"prompt": [4, 5, 6, 7]}]
    answers = [[11, 12, 0], [13, 0], [14, 15, 16, 17]]
    config = {
        "max_completion_length": 4,
        "bf16": False,
        "report_to": "none",
        "per_device_train_batch_size": 3,
        "beta": 0.5,
    }
    config |= {"use_cpu": True, "gradient_checkpointing": False, "disable_tqdm": True}

    def teacher(num_rows: int):
        model = AutoModelForCausalLM.from_pretrained(tiny_teacher)
        model.resize_token_embeddings(num_rows)
        return model

    def loss(cls, num_rows, **more) -> float:
        monkeypatch.setattr(cls, "_generate_single_turn", lambda *_, **__: answers)
        monkeypatch.setattr(cls, "_tokenize_prompts", lambda self, asked: (asked, None, {}))
        args = DistillationConfig(str(tmp_path), **config)
        for name in ("compact_loss_head", "fused_lora"):
            setattr(args, name, False)
        trainer = cls(
            model=AutoModelForCausalLM.from_pretrained(tiny_folder), args=args, train_dataset=Dataset.from_list(prompts),
            processing_class=tokenizer, **more,
        )  # fmt: skip
        trainer.model.train()
        inputs = trainer._prepare_inputs(prompts)
        assert int(inputs["completion_mask"].sum()) == 9  # end tokens are trained
        return trainer.compute_loss(trainer.model, inputs).item()

    expected = loss(DistillationTrainer, 300, teacher_model=teacher(300))
    size = 304 if padded else 300
    found = loss(FTOnPolicyTrainer, size, teacher=teacher(size), num_tokens=300, end_ids=[0])
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_prompt_ends_where_the_last_answer_begins():
    assert prompt_of({"input_ids": [1, 2, 3, 4, 5], "labels": [-100, 2, -100, 4, 5]}) == [1, 2, 3]


# Resume and repeat.


SAVED = ("--max_steps", "4", "--save_steps", "2", "--per_device_train_batch_size", "3")


def assert_same_weights(one, other) -> None:
    expected, found = (load_file(path / "model.safetensors") for path in (one, other))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_run_that_was_killed_goes_on_bit_for_bit(run, folder, unfinish):
    run("whole", *SAVED)
    run("killed", *SAVED)
    unfinish(folder / "killed", "checkpoint-4")
    run("killed", *SAVED)
    assert_same_weights(folder / "whole", folder / "killed")


class Killed(Exception):
    """In the place of a signal that nobody can catch."""


def test_a_run_that_is_killed_while_it_samples_goes_on_bit_for_bit(run, folder, monkeypatch):
    more = (*SAVED, "--answers", "student", "--max_completion_length", "4")
    run("own-whole", *more)
    sample, calls = FTOnPolicyTrainer._generate_single_turn, []

    def killed(self, *args, **kwargs):
        calls.append(sample(self, *args, **kwargs))  # in the middle: the random numbers are drawn already
        if len(calls) == 4:
            raise Killed
        return calls[-1]

    monkeypatch.setattr(FTOnPolicyTrainer, "_generate_single_turn", killed)
    with pytest.raises(Killed):
        run("own-killed", *more)
    monkeypatch.setattr(FTOnPolicyTrainer, "_generate_single_turn", sample)
    run("own-killed", *more)
    assert_same_weights(folder / "own-whole", folder / "own-killed")


def test_written_answers_are_trained_on_and_asked_once(flags, folder, monkeypatch):
    more = [
        *flags("written"),
        "--answers",
        "teacher",
        "--max_completion_length",
        "200",
        "--allow_untrained_end_of_turn",
    ]
    asked = []

    def answer_each(engine, questions, *_, **__):
        from ftkit.inference.completion import Reply

        for question in questions:
            asked.append(question.source)
            yield {"base": [Reply(f"said {len(asked)}", finish_reason="length" if len(asked) == 2 else "stop")]}

    monkeypatch.setattr(written_module, "answer_each", answer_each)
    data = prepared(more)
    assert len(asked) == 12 and len(data.rows.train) == 11  # one was cut
    assert data.rows.train[0]["messages"][-1]["content"] == "said 1"
    path = next(path for path in (folder / "cache/teachers").glob("*/answers.jsonl") if "said 1" in path.read_text())
    path.write_text(path.read_text()[:-9])  # a kill tears the last line
    assert len(prepared(more).rows.train) == 11 and len(asked) == 13
