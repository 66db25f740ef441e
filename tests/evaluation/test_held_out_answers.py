"""Held-out conversations: how they are asked, what baselines answer, and how losses are weighted."""

import pytest

from ftkit.evaluation.bench.task_items import Example, conversation
from ftkit.evaluation.held_out.answers import LOSS, TASK, baselines, questions, write_answers
from ftkit.evaluation.results import Item, read_results


def row(question, answer, group="", earlier=()):
    turns = [{"role": role, "content": text} for role, text in (*earlier, ("user", question), ("assistant", answer))]
    return {"messages": turns, "group": group}


def test_a_row_is_asked_after_examples_of_its_group_and_its_own_earlier_turns():
    train = [row("2+1", "3", "sums"), row("mouse", "mice", "plurals"), row("2+2", "4", "sums"), row("5+1", "6", "sums")]
    earlier = [("system", "Be short."), ("user", "hi"), ("assistant", "hello")]
    (item,) = questions([row("3+3", "6", "sums", earlier)], train, 2)
    assert item.examples == [Example("2+1", "3"), Example("2+2", "4"), Example("hi", "hello")]
    assert (item.target, item.group) == ("6", "sums")
    texts = [message["content"] for message in conversation(item, item.prompts[0])]
    assert texts == ["Be short.", "2+1", "3", "2+2", "4", "hi", "hello", "3+3"]


def test_equal_rows_are_items_of_their_own_and_the_same_row_has_the_same_id_with_and_without_examples():
    test = [row("a", "b"), row("a", "b"), row("c", "d")]
    plain, shown = questions(test), questions(test, [row("e", "f")], 1)
    assert len({item.item_id for item in plain}) == 3
    assert [item.item_id for item in plain] == [item.item_id for item in shown]


def test_baselines_answer_by_group_and_copy_what_is_asked_about():
    train = [
        row("x", "sum", "sums"),
        row("y", "mice", "plurals"),
        row("z", "mice", "plurals"),
        row("w", "men", "plurals"),
    ]
    test = [row("q", "sum", "sums"), row('Write the plural of "sheep".', "sheep", "plurals")]
    found = baselines(test, train)
    assert [item.prediction for item in found["most frequent answer"]] == ["sum", "mice"]
    assert [item.prediction for item in found["copying the input"]] == ["q", "sheep"]
    assert [item.scores["exact_match"] for item in found["copying the input"]] == [0.0, 1.0]


def test_the_answer_loss_is_the_mean_over_tokens_and_lower_is_better(tmp_path):
    items = [
        Item(str(loss), {"exact_match": 1.0, "token_f1": 1.0, LOSS: loss}, extra={"num_answer_tokens": tokens})
        for loss, tokens in ((1.0, 3), (2.0, 1))
    ]
    task = read_results(write_answers(tmp_path, {"name": "m"}, items, num_fewshot=3)).tasks[TASK.name]
    assert task.scores[LOSS].value == pytest.approx((1.0 * 3 + 2.0) / 4) and not task.scores[LOSS].higher_is_better
    assert task.num_fewshot == 3 and task.main_metric == "exact_match"
