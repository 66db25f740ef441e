"""The kill matrix has enough points, spread evenly, goes on where it was stopped, and counts what it reports."""

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TRAINERS = {"sft", "dpo", "reward", "kto", "grpo", "ppo", "distill", "pretrain", "classify"}


@pytest.fixture
def matrix(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import kill_matrix

    return kill_matrix


def test_four_hundred_points_over_all_trainers_and_two_processes(matrix):
    assert len(matrix.CONFIGURATIONS) * matrix.POINTS >= 400
    assert {command for command, _ in matrix.CONFIGURATIONS.values()} == TRAINERS
    assert {"sft LoRA", "sft all weights", "sft QLoRA", "sft packed", "sft streaming", "sft two processes"} <= {
        *matrix.CONFIGURATIONS
    }


def test_points_lie_evenly_over_the_run_and_some_are_killed_again(matrix):
    kills = matrix.kills_of("sft LoRA", 480, 48)
    assert [numbers[0] for numbers in kills] == list(range(1, 481, 10))
    assert sum(len(numbers) == 2 for numbers in kills) == 10
    assert all(1 <= second <= 481 - first for first, second in filter(lambda numbers: len(numbers) == 2, kills))
    assert kills == matrix.kills_of("sft LoRA", 480, 48)  # so that a matrix can go on


def test_a_sample_has_as_many_points_as_asked_for_the_same_for_a_seed(matrix):
    names, chosen = matrix.sample(20, 7, list(matrix.CONFIGURATIONS))
    points = {name: chosen(name, 300) for name in names}
    assert sum(map(len, points.values())) == 20 and any(
        len(numbers) == 2 for some in points.values() for numbers in some
    )
    again, chosen = matrix.sample(20, 7, list(matrix.CONFIGURATIONS))
    assert again == names and points == {name: chosen(name, 300) for name in names}


class Pretended:
    """Stands for a Trial; notes what was killed."""

    def __init__(self, matrix):
        self.matrix, self.killed = matrix, []

    def reference(self):
        return self.matrix.Expected(None, ["open x"] * 6)

    def kill(self, expected, numbers):
        self.killed.append(numbers)
        differences = ["losses"] if numbers == [3] else []
        return self.matrix.Point(numbers, ["open x"] * len(numbers), [], int(numbers == [2]), differences, 1.0)


def test_points_that_are_known_are_not_tried_again_and_all_are_counted(matrix, monkeypatch):
    monkeypatch.setattr(matrix, "warm_up", lambda trial: None)
    records, first, second = [], Pretended(matrix), Pretended(matrix)
    matrix.try_points("dpo", first, lambda *_: [[1], [2]], [], records.append)
    matrix.try_points("dpo", second, lambda *_: [[1], [2], [3], [4, 1]], list(records), records.append)
    assert first.killed == [[1], [2]] and second.killed == [[3], [4, 1]]
    lines = matrix.section(records).split("\n")
    *_, header, _, row, all_rows = lines
    assert header == (
        "| configuration | moments | points | killed twice | invalid visible checkpoints | the same command went on |"
        " same losses and weights | s per point |"
    )
    assert row == "| dpo | 6 | 4 | 1 | 0 | 3 | 2 | 1.0 (1.0 to 1.0) |" and all_rows == row.replace("dpo", "all")
