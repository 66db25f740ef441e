"""results.json and items that are broken are one line, whatever is wrong with them."""

import json

import pytest
from benchmark_runs import write_run

from ftkit.config.errors import UserError
from ftkit.evaluation.bench.records import ItemRecords
from ftkit.evaluation.results import SCHEMA, Item, Score, item_of, mean_score, read_items, read_results
from ftkit.metrics.intervals import wilson_interval


@pytest.fixture
def written(tmp_path):
    return write_run(tmp_path, {"a": [1.0, 0.5]})


def test_what_was_written_is_read(written):
    results = read_results(written)
    assert results.tasks["a"].scores["acc"].value == 0.75 and results.tasks["a"].examples_hash == ""
    assert [item.scores for item in read_items(written, results.tasks["a"])] == [{"acc": 1.0}, {"acc": 0.5}]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{", b"[" * 100_000, b"", b"[]", b"null", b"{", b'{"schema": "other"}'],
    ids=["not UTF-8", "deep", "empty", "list", "null", "cut", "another form"],
)  # fmt: skip
def test_a_file_that_is_no_result_is_one_line(written, content):
    written.write_bytes(content)
    with pytest.raises(UserError, match="results.json:?1?: "):
        read_results(written)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("model",), None), (("model",), "name"), (("seed",), "0"), (("tasks",), []), (("tasks", "a"), None),
        (("tasks", "a", "items_file"), None), (("tasks", "a", "task_hash"), None), (("tasks", "a", "scores"), None),
        (("tasks", "a", "num_items"), True), (("tasks", "a", "scores", "acc"), 1.0),
        (("tasks", "a", "scores", "acc", "value"), float("nan")), (("tasks", "a", "scores", "acc", "low"), "x"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_one_line(written, place, value):
    raw = json.loads(written.read_text())
    inner = raw
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    written.write_text(json.dumps(raw))
    with pytest.raises(UserError, match="not a complete result|not JSON"):
        read_results(written)


@pytest.mark.parametrize(
    "change",
    [
        {"weight": "a"}, {"weight": float("nan")}, {"weight": -1.0}, {"scores": None}, {"scores": {}},
        {"scores": {"acc": None}}, {"scores": {"acc": float("nan")}}, {"item_id": 3}, {"prompt": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_line_that_is_no_item_is_named_and_asked_again(written, change):
    path = written.parent / "items/a.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps(json.loads(second) | change)}\n")
    with pytest.raises(UserError, match="items/a.jsonl:2: no item of a result"):
        read_items(written, read_results(written).tasks["a"])
    assert list(ItemRecords(written.parent, "a").read()) == ["a-0"]


def test_bytes_that_are_no_text_are_named(written):
    path = written.parent / "items/a.jsonl"
    path.write_bytes(path.read_bytes().replace(b"question 1", b"question \xff"))
    with pytest.raises(UserError, match="items/a.jsonl:2: no item"):
        read_items(written, read_results(written).tasks["a"])


@pytest.mark.parametrize("name", ["a[b]", "a*", "plain"])
def test_parts_are_found_whatever_the_task_is_called(tmp_path, name):
    ItemRecords(tmp_path, name, 0).append([Item("one", {"acc": 1.0})])
    ItemRecords(tmp_path, name, 1).append([Item("two", {"acc": 0.0})])
    records = ItemRecords(tmp_path, name)
    assert set(records.read()) == {"one", "two"}
    records.finish(list(records.read().values()))
    assert [path.name for path in (tmp_path / "items").iterdir()] == [f"{name}.jsonl"]


def test_the_first_form_is_read_and_one_without_items_is_refused_by_name(written):
    raw = json.loads(written.read_text()) | {"schema": "ftkit.results/1"}
    score = raw["tasks"]["a"]["scores"].pop("acc")
    del score["is_share"]
    raw["tasks"]["a"] |= {"scores": {"acc": score, "bleu/easy": score}, "seconds": 0.0}
    written.write_text(json.dumps(raw))
    results = read_results(written)
    assert results.schema == SCHEMA
    assert {name: one.is_share for name, one in results.tasks["a"].scores.items()} == {"acc": True, "bleu/easy": False}
    written.write_text('{"measure": "pairs in the right order", "num_pairs": 3, "rows": []}')
    with pytest.raises(UserError, match="results.json: is of an earlier ftkit and holds no items to compare; run"):
        read_results(written)


def test_the_mean_of_0_and_1_has_wilsons_interval_and_any_other_the_bootstraps():
    assert mean_score([1.0] * 3 + [0.0] * 7) == Score(0.3, *wilson_interval(3, 10), is_share=True)
    weighted = mean_score([1.0, 0.0], [3.0, 1.0], higher_is_better=False)
    assert (weighted.value, weighted.low, weighted.high, weighted.higher_is_better) == (0.75, 0.0, 1.0, False)
    assert mean_score([-2.5], is_share=False) == Score(-2.5)


def test_a_mean_of_equal_values_claims_no_certainty():
    assert mean_score([0.5] * 4) == Score(0.5, is_share=True)  # not 0.5 (0.5 to 0.5)
    assert mean_score([0.0] * 4).high == wilson_interval(0, 4)[1]


def test_whole_numbers_are_floats_and_true_is_no_number():
    assert item_of({"item_id": "a", "scores": {"acc": 1}}).scores == {"acc": 1.0}
    for value in (True, "1", None):
        with pytest.raises(ValueError, match="Expected `float`"):
            item_of({"item_id": "a", "scores": {"acc": value}})
