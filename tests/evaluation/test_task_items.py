"""Items of tasks: rows of every kind of source, examples, rendered prompts, and what does not fit."""

import csv
import json

import pytest

from ftkit.config.errors import UserError
from ftkit.evaluation.bench.task_file import bundled_tasks, load_task
from ftkit.evaluation.bench.task_items import ItemSettings, build_items, conversation, plain_prompt, resolved_data
from ftkit.evaluation.bench.task_rows import read_rows

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


def write_task(tmp_path, rows, **settings):
    """A task of generation, or what `settings` say, and the rows that it reads."""
    if settings.get("kind") != "multiple_choice":
        settings = {"kind": "generation", "metrics": ["exact_match"], "target": "{{ a }}"} | settings
    settings = {"version": 1, "about": "mine", "data": "rows.jsonl", "prompt": "{{ q }}"} | settings
    write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "mine.yaml").write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items()))
    return load_task(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ 1 / 0 }}", "rows.jsonl:1: prompt of task mine: division by zero; fix the row or .*mine.yaml"),
        ("{{ q | regex_replace('(', '') }}", "rows.jsonl:1: prompt of task mine: missing \\), unterminated"),
        ("{% for n in range(10 ** 9) %}{% endfor %}", "prompt of task mine: Range too big"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "prompt of task mine: maximum recursion depth"),
        ("{{ q.nosuch }}", "prompt of task mine: .* has no attribute 'nosuch'"),
        ("{{ q.__class__.__mro__ }}", "access to attribute '__class__' .* is unsafe"),
        ("{{ nested.one }}", "prompt of task mine: a value that it shows is null"),
        ("{{ empty | trim }}", "prompt of task mine: column empty is null"),
        ("{{ q", "mine.yaml:4: not a Jinja template \\(.*\\); fix the line"),
        ("{{ q | nosuch }}", "mine.yaml:4: not a Jinja template \\(No filter named 'nosuch'"),
        ("{{ q[:0] }}", "rows.jsonl:1: prompt of task mine: is empty"),
    ],
)
def test_a_template_that_fails_is_one_line(tmp_path, template, message):
    row = {"q": "Why?", "a": "So.", "empty": None, "nested": {"one": None}}
    with pytest.raises(UserError, match=message):
        build_items(write_task(tmp_path, [row], prompt=template))


def test_an_expression_that_is_wrong_is_one_line(tmp_path):
    choices = {"kind": "multiple_choice", "metrics": ["acc"], "answer": "0"}
    with pytest.raises(UserError, match="mine.yaml:5: not a Jinja template"):
        build_items(write_task(tmp_path, [{"q": "a"}], choices="q |", **choices))
    with pytest.raises(UserError, match="rows.jsonl:1: choices of task mine: 'nosuch' is undefined"):
        build_items(write_task(tmp_path, [{"q": "a"}], choices="nosuch", **choices))


def test_a_null_may_be_tested_for(tmp_path):
    prompt = (
        "{{ q }}{% if more %} {{ more }}{% endif %}{{ more or '!' }}{% if more is none and more == none %}?{% endif %}"
    )
    items = build_items(write_task(tmp_path, [{"q": "a", "a": "b", "more": None}], prompt=prompt))
    assert items[0].prompts == ["a!?"] and items[0].question == "a"


def test_a_target_that_a_metric_cannot_compare_with_names_its_row(tmp_path):
    rows = [{"q": "a", "a": "4"}, {"q": "b", "a": "four"}]
    with pytest.raises(UserError, match='rows.jsonl:2: target of task mine: "four" has no number, which numeric_match'):
        build_items(write_task(tmp_path, rows, metrics=["numeric_match"]))
    with pytest.raises(UserError, match='rows.jsonl:1: target of task mine: is "4"; refusal takes refuse and answer'):
        build_items(write_task(tmp_path, rows, metrics=["refusal"]))


def test_the_reference_is_what_the_answer_is_compared_with(tmp_path):
    (item,) = build_items(write_task(tmp_path, [{"q": "a", "a": ""}]))
    assert item.reference == ""
    item = build_items(load_task("constraints"))[0]
    assert json.loads(item.reference) == item.constraints


def test_a_choice_that_equals_the_right_one_is_refused_in_a_list_of_templates(tmp_path):
    settings = {
        "kind": "multiple_choice",
        "metrics": ["acc"],
        "choices": ["{{ a }}", "{{ b }}", "{{ c }}"],
        "answer": "0",
    }
    assert build_items(write_task(tmp_path, [{"q": "", "a": "x", "b": "y", "c": "y"}], **settings))
    with pytest.raises(UserError, match='rows.jsonl:1: choices of task mine: gives the right answer "x" twice'):
        build_items(write_task(tmp_path, [{"q": "", "a": "x", "b": "x", "c": "y"}], **settings))


def test_a_column_to_group_by_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        UserError, match='rows.jsonl:1: group_by of task mine: no value in column "subjct"; the row has q, a'
    ):
        build_items(write_task(tmp_path, [{"q": "a", "a": "b"}], group_by="subjct"))


def test_subjects_and_limits(folder):
    task = load_task("mmlu")
    one = build_items(task, ItemSettings(folder, group="others", num_fewshot=0))
    assert [item.prompts[0].splitlines()[0] for item in one] == ["Three?"]
    assert len(build_items(task, ItemSettings(folder, num_fewshot=0, limit=1))) == 2  # one a subject
    with pytest.raises(UserError, match='no row of mmlu has subject "other"; did you mean "others"'):
        build_items(task, ItemSettings(folder, group="other"))
    with pytest.raises(UserError, match='no row of mmlu has subject "x"; there are first_things, others'):
        build_items(task, ItemSettings(folder, group="x"))
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
    with pytest.raises(UserError, match="astronomy_test.csv:2: 3 fields, but there are 6 columns; add the missing"):
        read_rows(str(tmp_path), "test")


@pytest.mark.parametrize("has_header", [True, False])
def test_mmlu_files_are_read_as_strictly_as_others(tmp_path, has_header):
    path, header = tmp_path / "astronomy_test.csv", "question,A,B,C,D,answer\n" if has_header else ""
    path.write_text("\ufeff" + header + "Q?,1,2,3,4,C\n", encoding="utf-8")
    (row,) = read_rows(str(tmp_path), "test")
    assert row.values["question"] == "Q?" and row.source == f"{path}:{1 + has_header}"
    path.write_bytes((header + "Caf\xe9?,1,2,3,4,C\n").encode("latin-1"))
    with pytest.raises(UserError, match=rf"astronomy_test.csv:{1 + has_header}: not UTF-8 \(byte 0xe9"):
        read_rows(str(tmp_path), "test")
    path.write_text(header + '"Q?,1,2,3,4,C\n')
    with pytest.raises(UserError, match=rf"astronomy_test.csv:{1 + has_header}: bad CSV"):
        read_rows(str(tmp_path), "test")
    path.write_text("")
    with pytest.raises(UserError, match="astronomy_test.csv: the file is empty"):
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
        ({"question": None}, "rows.jsonl:1: prompt of task multiple_choice: column question is null; fix the row"),
        ({"choices": None}, "choices of task multiple_choice: column choices is null"),
        ({"choices": ["a", ""]}, r"gives \['a', ''\], not a list of texts, two or more and none empty"),
        ({"answer": None}, "answer of task multiple_choice: column answer is null"),
        ({"choices": "abcd"}, "rows.jsonl:1: choices of task multiple_choice: gives 'abcd', not a list of texts"),
        ({"choices": ["a"]}, "not a list of texts"),
        ({"answer": 4}, 'answer of task multiple_choice: is "4"; with 4 choices give 0 to 3'),
        ({"answer": "E"}, 'is "E"'),
        ({"answer": ""}, 'is ""'),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, change, message):
    path = write_jsonl(tmp_path / "rows.jsonl", [{**ROWS[0], **change}])
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
    (tmp_path / "book.TXT").write_text("One line.\n\nAnother.\n")
    items = build_items(load_task("perplexity"), ItemSettings(str(tmp_path / "book.TXT")))
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


def test_a_text_has_no_examples_and_is_not_empty(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a"}, {"text": ""}])
    with pytest.raises(UserError, match="task perplexity scores whole texts, which have no examples"):
        build_items(load_task("perplexity"), ItemSettings(path, num_fewshot=2))
    with pytest.raises(UserError, match="rows.jsonl:2: prompt of task perplexity: is empty"):
        build_items(load_task("perplexity"), ItemSettings(path))
