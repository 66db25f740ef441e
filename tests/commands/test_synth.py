"""`ftkit synth` from the command line to files that trainers read, against a server that misbehaves."""

import importlib.util
import json
import re
import sys
import threading
from pathlib import Path

import pytest

from ftkit.cli import dispatch
from ftkit.config.errors import UserError
from ftkit.data.reading.loading import load_rows
from ftkit.data.rows.kinds import PREFERENCES

TESTS = Path(__file__).parents[1]
for name, folder in (("made_up", "inference/synth"), ("endpoint_stand_in", "evaluation")):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TESTS / folder / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])

from endpoint_stand_in import EndpointStandIn, Fault, completion  # noqa: E402
from made_up import passages, written  # noqa: E402


@pytest.fixture
def server(monkeypatch):
    """A server that writes as `made_up` does, asked without a key and with short waits."""
    from ftkit.inference import endpoint as endpoint_module

    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with EndpointStandIn() as stand_in:
        stand_in.behave = well_behaved
        yield stand_in


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch):
    """The bundled benchmarks, which take a second to read, are left to the tests of the filters."""
    from ftkit.inference.synth import held_out

    monkeypatch.setattr(held_out, "BENCHMARKS", ())


def well_behaved(number: int, body: dict) -> str:
    return written(body["messages"][-1]["content"], body.get("seed", 0))


@pytest.fixture
def seeds(tmp_path) -> str:
    path = tmp_path / "seeds.txt"
    path.write_text("".join(f"Name the river number {n}.\n" for n in range(1, 20)))
    return str(path)


@pytest.fixture
def docs(tmp_path) -> str:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, one in enumerate(passages(20)):
        (folder / f"page{number:02}.md").write_text(f"# {one.heading}\n\n{one.text}\n")
    return str(folder)


def synth(out, server, *flags):
    dispatch(["synth", "--endpoint", server.url, "--model", "writer", "--output_dir", str(out), *flags])


def test_rows_of_a_server_are_read_by_sft(tmp_path, server, seeds, capsys):
    synth(tmp_path / "out", server, "--kind", "self-instruct", "--seeds", seeds, "--number", "6", "--input_price", "1")
    out = capsys.readouterr().out
    assert "6 rows of " in out and " x " in out and "cost 0.00" in out and "ftkit data check" in out
    rows = load_rows(str(tmp_path / "out"))
    assert rows.format == "messages" and len(rows.train) == 6 and rows.ignored_columns == ["provenance"]
    said = json.loads((tmp_path / "out/train.jsonl").read_text().split("\n")[0])["provenance"]
    assert said["model"] == f"writer@{server.url}" and said["digest"] is None
    assert said["settings"]["temperature"] == 0.8 and said["seeds"][0].startswith(seeds)
    assert "ftkit synth --endpoint" in (tmp_path / "out/README.md").read_text()
    synth(tmp_path / "out", server, "--kind", "self-instruct", "--seeds", seeds, "--number", "6", "--input_price", "1")
    assert "finished before" in capsys.readouterr().out


def test_rows_of_documents_hold_questions_passages_and_quotations(tmp_path, server, docs):
    synth(tmp_path / "raft", server, "--kind", "raft", "--docs", docs, "--number", "5", "--share_without", "0")
    (row, *_) = map(json.loads, (tmp_path / "raft/train.jsonl").read_text().strip().split("\n"))
    assert row["has_passage"] and len(row["sources"]) == 4 and row["provenance"]["passages"][0] in row["sources"]
    assert len(load_rows(str(tmp_path / "raft")).train) == 5
    synth(tmp_path / "pairs", server, "--kind", "questions", "--docs", docs, "--number", "5")
    (row, *_) = map(json.loads, (tmp_path / "pairs/train.jsonl").read_text().strip().split("\n"))
    assert row["question"] in row["messages"][0]["content"] and "in the morning" in row["passage"]


def test_pairs_are_read_by_dpo(tmp_path, server, seeds):
    judge = ["--judge", f"judge@{server.url}"]
    for pairs in ("best-of-n", "judge"):
        synth(
            tmp_path / pairs,
            server,
            "--kind",
            "preferences",
            "--pairs",
            pairs,
            "--seeds",
            seeds,
            "--number",
            "4",
            *judge,
        )
        assert len(load_rows(str(tmp_path / pairs), kind=PREFERENCES).train) == 4
    argv = ["synth", "--kind", "preferences", "--pairs", "corruption", "--seeds", "instructions", "--number", "20"]
    dispatch([*argv, "--output_dir", str(tmp_path / "corrupted")])
    assert len(load_rows(str(tmp_path / "corrupted"), kind=PREFERENCES).train) == 20


FAULTS = {
    "429 with Retry-After": Fault(status=429, headers={"Retry-After": "0"}),
    "500": Fault(status=500),
    "a cut answer": Fault(half=True),
    "a closed connection": Fault(drop=True),
    "a hang": Fault(hang_seconds=0.4),
    "HTML": Fault(raw=b"<html><body>Sign in</body></html>"),
    "no choices": Fault(raw=b'{"choices": []}'),
    "two choices": Fault(
        raw=json.dumps(
            {"choices": [{"message": {"content": text}} for text in ("It is in Orla.", "It is in Benn.")]}
        ).encode()
    ),
    "empty": Fault(raw=completion("")),
    "no text": Fault(raw=b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}'),
    "cut by its limit": Fault(raw=b'{"choices": [{"message": {"content": "The"}, "finish_reason": "length"}]}'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_with_a_fault_now_and_then_gives_all_rows(fault, tmp_path, server, seeds, capsys):
    server.behave = lambda number, body: FAULTS[fault] if number % 7 == 3 else well_behaved(number, body)
    flags = ["--timeout_seconds", "0.2" if fault == "a hang" else "20", "--concurrency", "2"]
    synth(tmp_path / "out", server, "--kind", "personas", "--number", "5", *flags)
    rows = [json.loads(line) for line in (tmp_path / "out/train.jsonl").read_text().strip().split("\n")]
    assert len(rows) == 5 and all(len(row["messages"][1]["content"]) > 3 for row in rows)


def test_faults_that_stay_are_counted_by_their_reason(tmp_path, server, capsys):
    def behave(number, body):
        place = json.dumps(body["messages"])
        return Fault(raw=b"<html>") if len(place) % 3 == 0 else well_behaved(number, body)

    server.behave = behave
    synth(tmp_path / "out", server, "--kind", "personas", "--number", "5", "--num_retries", "0")
    assert " x the answer is not complete JSON" in capsys.readouterr().out


def test_a_server_that_dies_ends_the_command_and_the_same_command_goes_on(tmp_path, server, seeds):
    flags = ["--kind", "evolve", "--seeds", seeds, "--number", "8", "--num_retries", "0", "--concurrency", "1"]
    synth(tmp_path / "whole", server, *flags)
    num_asked = len(server.requests)

    def dying(number, body):
        if number == num_asked + 9:
            threading.Thread(target=server.die).start()
        return well_behaved(number, body)

    server.behave = dying
    with pytest.raises(UserError, match="no use asking further"):
        synth(tmp_path / "cut", server, *flags)
    note = tmp_path / "cut/.ftkit/run.json"
    with EndpointStandIn() as again:
        again.behave = well_behaved
        for path in (note,):  # a new port stands for a restarted server
            path.write_text(path.read_text().replace(server.url, again.url))
        synth(tmp_path / "cut", again, *flags)
        assert len(again.requests) <= num_asked - 8

    def texts(folder):
        return [json.loads(line)["messages"] for line in (folder / "train.jsonl").read_text().strip().split("\n")]

    assert texts(tmp_path / "cut") == texts(tmp_path / "whole")


WRONG = [
    ("--kind self-instruct --model m", "--kind self-instruct needs --seeds FILE"),
    ("--kind raft --seeds s --model m", "--seeds has no effect with --kind raft; give --docs in its place"),
    ("--kind raft --model m", "--kind raft needs --docs FOLDER"),
    ("--kind evolve --seeds s", "name the model: --model_name_or_path M"),
    ("--kind evolve --seeds s --model m --num_samples 3", "--num_samples has no effect with --kind evolve"),
    ("--kind evolve --seeds s --model m --share_without 0.5", "--share_without has no effect with --kind evolve"),
    ("--kind raft --docs d --model m --share_without 2", "give a share from 0 to 1"),
    ("--kind raft --docs d --model m --num_distractors 0", "--num_distractors is 0; it starts at 1"),
    ("--kind reasoning --seeds s --model m --temperature 0", "samples at temperature 0 are all equal"),
    ("--kind preferences --seeds s --model m", "--pairs best-of-n needs --judge"),
    ("--kind preferences --pairs corruption --seeds s --model m", "asks no model"),
    ("--kind evolve --seeds s --model m --judge_minimum 5", "no effect without --judge"),
    ("--kind evolve --seeds s --model m --judge m@http://x --judge_minimum 200", "points from 0 to 100"),
    ("--kind evolve --seeds s --model m --judge nowhere", "--judge nowhere: write MODEL@URL"),
    ("--kind evolve --seeds s --model m --near 0", "--near is 0.0; give a similarity from 0.1"),
    ("--kind evolve --seeds s --model m --number 0", "--number and --batch_size start at 1"),
    ("--kind evolve --seeds s --model m --endpoint http://x --top_k 5", "--top_k has no effect with --endpoint"),
    ("--kind evolve --seeds s --adapter a --adapter b", "give one adapter"),
    ("--kind evol --seeds s --model m", "invalid choice: 'evol'"),
]


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_command_line_is_one_line(line, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        dispatch(["synth", *line.split(), "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_rows_of_a_model_in_this_process_name_its_digest(tmp_path, monkeypatch):
    """The bundled base writes nonsense, of which the rules leave nothing; its replies are kept all the same."""
    from ftkit.inference.synth import loop

    monkeypatch.setattr(loop, "MAX_BARREN", 4)
    (tmp_path / "seeds.txt").write_text("Name a bird.\nName a fish.\nName a tree.\n")
    argv = ["synth", "--kind", "self-instruct", "--seeds", str(tmp_path / "seeds.txt"), "--model", "base"]
    argv += [
        "--template",
        "alpaca",
        "--number",
        "1",
        "--max_new_tokens",
        "8",
        "--batch_size",
        "4",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    try:
        dispatch(argv)
    except UserError as error:
        assert "no item gave a row" in str(error)
    note = json.loads((tmp_path / "out/.ftkit/run.json").read_text())
    assert len(note["fingerprint"]["digests"]["model"].split()[1]) == 64
    assert (tmp_path / "out/.ftkit/replies.jsonl").is_file()
