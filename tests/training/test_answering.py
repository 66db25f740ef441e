"""How many held-out rows are answered before and after, by what it costs beside the run; counted by hand."""

import pytest
from asked import asked

from ftkit.config.estimate import Shape
from ftkit.config.hardware import PRESETS
from ftkit.training.answering import answer_tokens, run_tokens
from ftkit.training.decided import Facts
from ftkit.training.plan import decide

SMALL = Shape(4_000_000, 256, 4, 256, 2048, 2048)
LARGE = Shape(1_000_000_000, 2048, 16, 512, 24576, 32000)


def decided(shape=LARGE, *, rows=1000, held_out=200, answer=20, machine="cpu-2", command="sft", **settings):
    lengths = [60] * rows
    facts = Facts(
        PRESETS[machine], shape, context=1024, lengths=lengths, num_test=held_out, held_out=[(60, answer)] * held_out
    )
    settings = asked(command, **{"num_train_epochs": 3, "packing": False} | settings)
    return decide(settings, settings.given, facts), settings, facts


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({}, 200), ({"rows": 400}, 79), ({"rows": 100}, 0), ({"rows": 100, "before_after": True}, 200),
        ({"before_after": False}, 0), ({"held_out": 0}, 0), ({"held_out": 12}, 12), ({"held_out": 1000}, 200),
        ({"eval_strategy": "no"}, 0), ({"eval_strategy": "no", "before_after": True}, 200),
        ({"rows": 100, "shape": SMALL}, 84),  # some seconds, whatever the run takes
        ({"max_steps": 3, "shape": SMALL}, 0), ({"answer": 60, "rows": 400}, 0),
        ({"command": "dpo", "packing": None}, 200), ({"machine": "h100-80gb"}, 200),
    ],
)  # fmt: skip
def test_rows_are_answered_where_it_costs_under_a_tenth(settings, number):
    found, *_ = decided(**settings)
    assert found.num_answered == number
    if settings.keys() <= {"rows", "held_out", "max_steps", "shape", "answer", "command", "machine"} and found.facts:
        assert ("num_answered" in found.reasons) == (settings.get("held_out") != 0)


def test_costs_are_those_counted_by_hand():
    found, settings, facts = decided()
    values = {name: getattr(found, name) for name in vars(found)} | {"packing": False}
    assert run_tokens(settings, facts, values) == pytest.approx(
        found.num_updates * 8 * 60 * 3.4
    )  # activations are computed again
    # 64 rows in two batches of 32: 40 tokens of prompt each, 24 steps of 28 + 1.2 * 32; three times; examples of 180
    assert answer_tokens(settings, facts, values, 64) == pytest.approx(3 * (64 * 40 + 2 * 24 * 66.4) + 2 * 180)
