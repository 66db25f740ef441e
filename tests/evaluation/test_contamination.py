"""Benchmark items that stand in the training rows, word for word or nearly, and the command that warns of them."""

import json

import pytest
from benchmark_runs import write_run

from ftkit.commands.compare import main
from ftkit.config.errors import UserError
from ftkit.evaluation.results import Item
from ftkit.evaluation.verdict import contamination
from ftkit.evaluation.verdict.contamination import leak_warnings

QUESTION = "Which planet of the solar system has the longest day, and how long does it last in hours?"
NEARLY = "Which planet of the solar system has the longest day, and how long does it last in hours"
OTHER = "Name the largest moon of Saturn."


def row(question: str, source: str = "train.jsonl:3") -> dict:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "Venus"}]
    return {"messages": turns, "source": source}


def items(*prompts: str) -> dict[str, list[Item]]:
    return {"space": [Item(str(number), {"acc": 1.0}, prompt) for number, prompt in enumerate(prompts)]}


@pytest.mark.parametrize(
    "asked", [QUESTION, QUESTION.upper(), NEARLY, f"{QUESTION}\n", QUESTION.replace("hours", "hour")]
)
def test_a_question_of_the_training_rows_is_found(asked):
    (warning,) = leak_warnings([row(OTHER, "train.jsonl:1"), row(asked)], items("Another question?", QUESTION))
    assert warning.startswith("warning: space: 1 of 2 items are asked in the training data, the first at train.jsonl:3")


def test_questions_that_only_resemble_each_other_are_not_found():
    assert leak_warnings([row(OTHER), row("Which planet has the longest day?")], items(QUESTION)) == []


def test_among_many_rows_only_the_same_words_are_found(monkeypatch):
    monkeypatch.setattr(contamination, "MAX_NEAR_ROWS", 1)
    assert leak_warnings([row(QUESTION.replace("hours", "hour")), row(OTHER)], items(QUESTION)) == []
    assert len(leak_warnings([row(NEARLY), row(OTHER)], items(QUESTION))) == 1


def test_prompts_of_preference_rows_and_plain_text_are_searched_too():
    preference = {"prompt": [{"role": "user", "content": QUESTION}], "chosen": "a", "rejected": "b", "source": "p:1"}
    assert "p:1" in leak_warnings([preference], items(QUESTION))[0]
    assert "t:1" in leak_warnings([{"text": QUESTION, "source": "t:1"}], items(QUESTION))[0]


def test_the_bare_question_counts_and_not_the_wording_of_the_task():
    item = Item("0", {"acc": 1.0}, "Question: Who?\nA. I\nB. You\nAnswer:", extra={"question": "Who?"})
    assert len(leak_warnings([row("Who?")], {"space": [item]})) == 1


def test_a_bundled_instruction_is_found_whose_input_stands_under_a_heading():
    asked = "Give the opposite of the word.\n\n### Input:\nheat"
    item = Item("0", {"exact_match": 1.0}, "...", extra={"question": "Give the opposite of the word.\nheat"})
    assert len(leak_warnings([row(asked)], {"instructions": [item]})) == 1


def test_a_question_inside_of_a_longer_text_is_found_and_a_short_one_is_not():
    text = {"text": f"A quiz of the year. {QUESTION} Venus, 5,832. Who? I.", "source": "page:1"}
    assert "1 of 2 items" in leak_warnings([text], items("Who?", QUESTION))[0]


def test_an_item_without_a_prompt_is_in_no_row():
    assert leak_warnings([row(" ")], items("", "")) == []


def write_rows(path, *questions: str) -> str:
    path.write_text("".join(json.dumps({"instruction": text, "output": "Venus"}) + "\n" for text in questions))
    return str(path)


def runs(tmp_path, **settings) -> list[str]:
    return [str(write_run(tmp_path / name, {"t": [1.0, 0.0]}, **settings)) for name in ("before", "after")]


def test_compare_warns_of_items_in_the_rows_it_is_given(tmp_path, capsys):
    train = write_rows(tmp_path / "train.jsonl", "question 1")
    main([*runs(tmp_path), "--train_data", train, "--html"])
    assert '<p class="callout alarm">warning: t: 1 of 2' in (tmp_path / "after/verdict.html").read_text()
    assert "warning: t: 1 of 2 items are asked in the training data, the first at " in capsys.readouterr().out
    main([*runs(tmp_path), "--train_data", write_rows(tmp_path / "other.jsonl", "something else")])
    assert "no item was found among the 1 training rows, word for word or nearly" in capsys.readouterr().out


def test_compare_finds_the_rows_of_the_run_that_made_the_adapter(tmp_path, capsys):
    train = write_rows(tmp_path / "train.jsonl", "question 0")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/run.yaml").write_text(f"# ftkit sft --config x\ndataset_name: {train}\n")
    main(runs(tmp_path, model={"name": "base", "adapter": str(tmp_path / "mine")}))
    assert "1 of 2 items are asked in the training data" in capsys.readouterr().out


def test_compare_finds_the_documents_that_a_model_was_pretrained_on(tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/page.txt").write_text(f"A quiz of the year. {QUESTION} Venus, 5,832.")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/run.yaml").write_text(f"# ftkit pretrain --config x\ndataset_name: {tmp_path / 'texts'}\n")
    main(runs(tmp_path, model={"name": str(tmp_path / "mine")}, prompts=[QUESTION, "Who?"]))
    assert "1 of 2 items are asked in the training data" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dataset", "note"),
    [
        (None, "the training data is not known here and was not searched"),
        ("gone.jsonl", r"the training data can't be searched for items (gone.jsonl: no such file"),
        ("owner/name", "owner/name is on the Hub and was not searched for items; name it with --train_data owner/name"),
    ],
)
def test_compare_says_when_it_could_not_look(tmp_path, capsys, dataset, note):
    (tmp_path / "mine").mkdir()
    if dataset:
        (tmp_path / "mine/run.yaml").write_text(f"# ftkit sft --config x\ndataset_name: {dataset}\n")
    main(runs(tmp_path, model={"name": "base", "adapter": str(tmp_path / "mine")}))
    assert note in capsys.readouterr().out


def test_rows_that_are_named_must_be_there(tmp_path):
    with pytest.raises(UserError, match="no-such.jsonl: no such file"):
        main([*runs(tmp_path), "--train_data", str(tmp_path / "no-such.jsonl")])
