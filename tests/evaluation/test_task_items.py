"""Items of tasks: rows of every kind of source, examples, rendered prompts, and what does not fit."""

import csv
import json

import pytest

from ftkit.config.errors import UserError
from ftkit.evaluation.task_file import bundled_tasks, load_task
from ftkit.evaluation.task_items import ItemSettings, build_items, conversation, plain_prompt, resolved_data
from ftkit.evaluation.task_rows import read_rows

ROWS = [
    {"question": " One? ", "choices": ["a", "b", "c", "d"], "answer": 1, "subject": "first_things"},
    {"question": "Two?", "choices": ["e", "f", "g", "h"], "answer": "C", "subject": "first_things"},
    {"question": "Three?", "choices": ["i", "j", "k", "l"], "answer": 0, "subject": "others"},
]


def write_jsonl(path, rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    write_jsonl(tmp_path / "mmlu/test.jsonl", ROWS)
    write_jsonl(tmp_path / "mmlu/dev.jsonl", [{**row, "question": f"Example {n}?"} for n, row in enumerate(ROWS)])
    return str(tmp_path / "mmlu")


def test_mmlu_is_asked_as_in_the_paper(folder):
    task = load_task("mmlu")
    items = build_items(task, ItemSettings(folder, num_fewshot=1))
    assert plain_prompt(task, items[1], items[1].prompts[0]) == (
        "The following are multiple choice questions (with answers) about first things.\n\n"
        "Example 0?\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\nTwo?\nA. e\nB. f\nC. g\nD. h\nAnswer:"
    )
    assert [item.answer for item in items] == [1, 2, 0] and items[1].reference == "C"
    assert items[0].prompts[0].startswith("One?\nA.")


LIKE_THE_HUBS = {  # rows in the columns of the Hub's datasets, and (context, choices) as lm-eval 0.4.13's own tasks give them
    "hellaswag": (
        {
            "activity_label": "Removing ice", "ctx_a": "A man writes.", "ctx_b": "then he STOPS [title] Why [step] now",
            "endings": ["scrapes [title] it. [step] Go  on", " then he leaves"], "label": "1",
        },
        "Removing ice: A man writes. Then he stops. why now",
        ["scrapes. it. Go on", "then he leaves"],
    ),
    "arc_easy": (
        {"question": "Why?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
        "Question: Why?\nAnswer:",
        ["x", "y"],
    ),
    "sentiment": (
        {"sentence": "a film of charm ", "label": 1},
        "a film of charm \nQuestion: Is this sentence positive or negative?\nAnswer:",
        ["negative", "positive"],
    ),
    "truthfulqa": (
        {"question": "What if?", "mc1_targets": {"choices": ["Luck.", "Nothing."], "labels": [0, 1]}},
        "Q: Where were the 1992 Olympics held?\nA: The 1992 Olympics were held in Barcelona, Spain.\n\nQ: What if?\nA:",
        ["Luck.", "Nothing."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIKE_THE_HUBS)
def test_a_published_benchmark_is_asked_as_lm_eval_asks_it(tmp_path, name):
    row, context, choices = LIKE_THE_HUBS[name]
    task = load_task(name)
    (item,) = build_items(task, ItemSettings(write_jsonl(tmp_path / "rows.jsonl", [row])))
    assert plain_prompt(task, item, item.prompts[0]).endswith(context)
    assert item.choices == choices and item.answer == 1


def test_the_bare_question_is_the_texts_of_the_row_that_are_asked(folder):
    assert build_items(load_task("mmlu"), ItemSettings(folder, num_fewshot=1))[1].question == "Two?"
    asked = [build_items(load_task(name), ItemSettings(limit=1))[0] for name in ("instructions", "bias", "robustness")]
    rows = [read_rows(str(resolved_data(load_task(name))), "test")[0].values for name in ("instructions", "bias")]
    assert asked[0].question == f"{rows[0]['instruction']}\n{rows[0]['input']}".strip()
    assert asked[1].question == f"{rows[1]['stereotype']}\n{rows[1]['other']}"
    assert asked[2].question in asked[2].prompts[0] and "\n" not in asked[2].question


def test_an_item_names_the_line_of_its_row(folder):
    assert [item.source.rpartition("/")[2] for item in build_items(load_task("mmlu"), ItemSettings(folder, num_fewshot=0))] == [
        "test.jsonl:1", "test.jsonl:2", "test.jsonl:3",
    ]  # fmt: skip


def test_through_a_chat_template_examples_are_turns(folder):
    item = build_items(load_task("mmlu"), ItemSettings(folder, num_fewshot=1))[0]
    messages = conversation(item, item.prompts[0])
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == "B"


def test_subjects_and_limits(folder):
    task = load_task("mmlu")
    one = build_items(task, ItemSettings(folder, group="others", num_fewshot=0))
    assert [item.prompts[0].splitlines()[0] for item in one] == ["Three?"]
    assert len(build_items(task, ItemSettings(folder, num_fewshot=0, limit=1))) == 2  # one a subject
    with pytest.raises(UserError, match='no row of mmlu has subject "other"'):
        build_items(task, ItemSettings(folder, group="other"))
    with pytest.raises(UserError, match=r"\(dev, first_things\) has 2 examples; use --num_fewshot 2"):
        build_items(task, ItemSettings(folder, group="first_things", num_fewshot=5))


@pytest.mark.parametrize("has_header", [True, False])
def test_mmlus_own_csv_files_are_read_with_and_without_a_header(tmp_path, has_header):
    header = [["question", "choice0", "choice1", "choice2", "choice3", "answer"]]
    for split in ("dev", "test"):
        with open(tmp_path / f"astronomy_{split}.csv", "w", newline="") as file:
            answer = "2" if has_header else "C"
            csv.writer(file).writerows((header if has_header else []) + [["How, far?", "1", "2", "3", "4", answer]])
    rows = read_rows(str(tmp_path), "test")
    assert rows[0].values["choices"] == ["1", "2", "3", "4"] and rows[0].values["subject"] == "astronomy"
    items = build_items(load_task("mmlu"), ItemSettings(str(tmp_path), num_fewshot=1))
    assert items[0].answer == 2 and items[0].examples[0].answer == "C"


def test_a_broken_mmlu_file_is_named(tmp_path):
    (tmp_path / "astronomy_test.csv").write_text("Q,1,2,3,4,C\nQ,1,2\n")
    with pytest.raises(UserError, match="astronomy_test.csv:2: 3 columns; MMLU has 6"):
        read_rows(str(tmp_path), "test")


def test_equal_rows_get_their_own_ids_which_depend_on_content_only(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [ROWS[0], ROWS[1], ROWS[0]])
    task = load_task("multiple_choice")
    ids = [item.item_id for item in build_items(task, ItemSettings(path))]
    assert ids[2] == ids[0] + "-2" and ids[0] != ids[1]
    moved = write_jsonl(tmp_path / "moved.jsonl", [ROWS[1], ROWS[0]])
    assert [item.item_id for item in build_items(task, ItemSettings(moved))] == [ids[1], ids[0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None, "extra": 1}, None),
        ({"choices": "abcd"}, "rows.jsonl:1: choices of task multiple_choice: gives 'abcd', not a list of texts"),
        ({"choices": ["a"]}, "not a list of texts"),
        ({"answer": 4}, 'answer of task multiple_choice: is "4"; with 4 choices give 0 to 3'),
        ({"answer": "E"}, 'is "E"'),
        ({"answer": ""}, 'is ""'),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, change, message):
    path = write_jsonl(tmp_path / "rows.jsonl", [{**ROWS[0], **change}])
    if message is None:
        assert build_items(load_task("multiple_choice"), ItemSettings(path))
        return
    with pytest.raises(UserError, match=message):
        build_items(load_task("multiple_choice"), ItemSettings(path))


def test_a_constraint_that_cannot_be_checked_names_its_row(tmp_path):
    rows = [{"instruction": "Write.", "constraints": [{"kind": "min_words", "value": value}]} for value in (3, "3")]
    with pytest.raises(UserError, match=r"rows.jsonl:2: constraints of task constraints: .*'3'; give a whole number"):
        build_items(load_task("constraints"), ItemSettings(write_jsonl(tmp_path / "rows.jsonl", rows)))


def test_a_column_that_a_row_lacks_is_named(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a"}])
    with pytest.raises(UserError, match="rows.jsonl:1: choices of task multiple_choice"):
        build_items(load_task("multiple_choice"), ItemSettings(path))


def test_a_task_without_data_asks_for_it():
    with pytest.raises(UserError, match="task perplexity has no data of its own; give it: --task_data perplexity=PATH"):
        build_items(load_task("perplexity"))
    with pytest.raises(UserError, match="nowhere.txt: no such file"):
        build_items(load_task("perplexity"), ItemSettings("nowhere.txt"))


def test_examples_need_a_split_of_their_own(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(UserError, match="has no train split to take examples from"):
        build_items(load_task("multiple_choice"), ItemSettings(path, num_fewshot=1))


def test_a_text_file_is_one_text(tmp_path):
    (tmp_path / "book.txt").write_text("One line.\n\nAnother.\n")
    items = build_items(load_task("perplexity"), ItemSettings(str(tmp_path / "book.txt")))
    assert [item.prompts for item in items] == [["One line.\n\nAnother.\n"]]


def test_hellaswags_context_is_cleaned_as_its_authors_do(tmp_path):
    row = {"activity_label": "Cooking", "ctx_a": "A man [title] stands. [step] He", "ctx_b": "cuts", "label": "2"}
    path = write_jsonl(tmp_path / "rows.jsonl", [{**row, "endings": ["a", "b", "c", "d"]}])
    item = build_items(load_task("hellaswag"), ItemSettings(path))[0]
    assert item.prompts[0] == "Cooking: A man. stands. He Cuts" and item.answer == 2


@pytest.mark.parametrize("name", [n for n in bundled_tasks() if load_task(n).data and "/" not in load_task(n).data])
def test_every_task_with_bundled_rows_has_items(name):
    items = build_items(load_task(name))
    assert len(items) >= 20 and len({item.item_id for item in items}) == len(items)
