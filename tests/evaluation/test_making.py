"""Answers that are made to be voted on: kept as they come, made once, without thoughts."""

from types import SimpleNamespace

import pytest

from ftkit.data.rows.questions import Question
from ftkit.evaluation.judge import making
from ftkit.inference.asking import ModelSettings, Sampling
from ftkit.inference.completion import Reply

TURNS = [{"role": "system", "content": "S"}, {"role": "user", "content": "two"}]
QUESTIONS = [Question("f:1", [{"role": "user", "content": "one"}]), Question("f:2", TURNS)]
MODELS = {"a": "folder/a", "b": "folder/b"}


@pytest.fixture
def made(monkeypatch):
    """What was asked of which model; `stop_at` ends it with an interrupt."""
    state = SimpleNamespace(asked=[], stop_at=None)

    def each_engine(models, settings):
        yield from ((name, name) for name in models)

    def answer_each(engine, questions, sampling, batch_size):
        for question in questions:
            if len(state.asked) == state.stop_at:
                raise KeyboardInterrupt
            text = question.messages[-1]["content"]
            state.asked.append((engine, text))
            yield {"base": [Reply(f"<think>hm</think>{engine} {text}")]}

    monkeypatch.setattr(making, "each_engine", each_engine)
    monkeypatch.setattr(making, "answer_each", answer_each)
    return state


def ask(path, sampling=Sampling(max_new_tokens=8)):  # noqa: B008 - it is frozen
    return making.made_answers(MODELS, QUESTIONS, ModelSettings("folder/a"), sampling, path)


def test_answers_that_are_there_are_not_made_again(made, tmp_path):
    path = tmp_path / "votes.answers.jsonl"
    made.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        ask(path)
    made.stop_at = None
    answers = ask(path)
    assert made.asked == [("a", "one"), ("a", "two"), ("b", "one"), ("b", "two")]
    assert [row.answer for row in answers["b"]] == ["b one", "b two"]
    assert [row.asked for row in answers["a"]] == ["one", TURNS]
    assert ask(path) == answers and len(made.asked) == 4
    ask(path, Sampling(max_new_tokens=9))  # another answer
    assert len(made.asked) == 8
