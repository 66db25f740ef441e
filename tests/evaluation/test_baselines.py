"""Held-out rows beside what answers them without a model, and the scores of their groups."""

from types import SimpleNamespace

import pytest

from ftkit.evaluation.bench.scores import task_scores
from ftkit.evaluation.bench.task_items import Example, conversation
from ftkit.evaluation.held_out.baselines import add_baselines, answers_without_model, with_examples_of_groups
from ftkit.evaluation.held_out.before_after import TASK, questions
from ftkit.evaluation.held_out.likelihoods import ANSWERS, likelihood_scores
from ftkit.evaluation.results import Item, Results, content_id, measured_runs, task_of, write_run


def row(question, answer, group="", earlier=()):
    turns = [{"role": role, "content": text} for role, text in (*earlier, ("user", question), ("assistant", answer))]
    return {"messages": turns, "group": group}


def test_a_row_is_asked_after_the_examples_and_its_own_earlier_turns():
    shown = [row("2+1", "3"), row("Undo it", "2", earlier=[("user", "2+2"), ("assistant", "4")])]
    earlier = [("system", "Be short."), ("user", "hi"), ("assistant", "hello")]
    (item,) = questions([row("3+3", "6", earlier=earlier)["messages"]], [shown])
    assert item.examples == [Example("2+1", "3"), Example("Undo it", "2"), Example("hi", "hello")]
    assert item.target == "6"
    texts = [message["content"] for message in conversation(item, item.prompts[0])]
    assert texts == ["Be short.", "2+1", "3", "Undo it", "2", "hi", "hello", "3+3"]


def test_equal_rows_are_items_of_their_own_and_the_same_row_has_the_same_id_with_and_without_examples():
    test = [row(*pair)["messages"] for pair in (("a", "b"), ("a", "b"), ("c", "d"))]
    plain, shown = questions(test), questions(test, [[row("e", "f")]] * 3)
    assert len({item.item_id for item in plain}) == 3
    assert [item.item_id for item in plain] == [item.item_id for item in shown]


TRAIN = [row("x", "sum", "sums"), row("y", "mice", "plurals"), row("z", "mice", "plurals"), row("w", "men", "plurals")]
TEST = [row("q", "sum", "sums"), row('Write the plural of "sheep".', "sheep", "plurals")]


def test_the_examples_are_of_a_rows_own_group():
    parts = [SimpleNamespace(content=one["messages"]) for one in TEST[::-1]]
    shown = with_examples_of_groups(TRAIN, TEST).before.keywords["examples"](None, parts)
    assert [[one["messages"][-1]["content"] for one in rows] for rows in shown] == [["mice", "mice", "men"], ["sum"]]


def test_baselines_answer_by_group_and_copy_what_is_asked_about():
    assert answers_without_model(TEST, TRAIN) == {
        "most frequent answer": ["sum", "mice"], "copying the input": ["q", "sheep"]
    }  # fmt: skip


def test_baselines_stand_beside_a_run_with_its_task_and_all_have_scores_of_the_groups(tmp_path):
    for folder, said in ((tmp_path / "before", ["", ""]), (tmp_path, ["sum", "sheeps"])):
        items = [
            Item(
                content_id(one["messages"]), dict.fromkeys(TASK.metrics, float(text == one["messages"][-1]["content"])),
                "question", text, one["messages"][-1]["content"],
            )
            for one, text in zip(TEST, said, strict=True)
        ]  # fmt: skip
        task = task_of(ANSWERS, items, task_scores(TASK, items), settings="x", is_sample=True)
        write_run(folder, Results({"name": "m"}, {ANSWERS: task}), {ANSWERS: items})
    add_baselines(tmp_path, TRAIN, TEST)
    tasks = {name: results.tasks[ANSWERS] for name, results in measured_runs(tmp_path).items()}
    assert list(tasks) == ["before", "before, copying the input", "before, most frequent answer", "after"]
    assert len({task.task_hash for task in tasks.values()}) == 1
    right = {
        name: [task.scores[f"exact_match/{group}"].value for group in ("sums", "plurals")]
        for name, task in tasks.items()
    }
    assert right == {
        "before": [0, 0], "before, copying the input": [0, 1], "before, most frequent answer": [1, 0], "after": [1, 0]
    }  # fmt: skip


def test_the_answer_loss_is_the_mean_over_tokens_and_lower_is_better():
    items = [
        Item(str(loss), {"answer_loss": loss}, extra={"num_answer_tokens": tokens})
        for loss, tokens in ((1.0, 3), (2.0, 1))
    ]
    score = likelihood_scores(items)["answer_loss"]
    assert score.value == pytest.approx((1.0 * 3 + 2.0) / 4) and not score.higher_is_better
