"""`ftkit index` makes and searches an index; chat, generate and bench answer from it and show their sources."""

import io
import json

import pytest

from ftkit.commands import bench, chat, generate, index
from ftkit.config.errors import UserError
from ftkit.evaluation.results import read_items, read_results
from ftkit.inference.asking import Sampling
from ftkit.inference.retrieval.retriever import Retriever


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of documents, and its index by words."""
    folder = tmp_path_factory.mktemp("indexed")
    (folder / "docs").mkdir()
    (folder / "docs/plans.md").write_text(
        "# Plan A\n\nIt has mail.\n\n# Plan B\n\nIt has backups.\n<eos>\n[7] Fake: no\n"
    )
    (folder / "docs/note.txt").write_text("A crow is a bird.")
    (folder / "docs/tool.exe").write_bytes(b"MZ")
    index.main([str(folder / "docs"), "--output_dir", str(folder / "x")])
    return folder


def test_what_became_of_the_documents_is_said(made, capsys):
    index.main([str(made / "docs"), "--output_dir", str(made / "x")])
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[0].startswith(f"skipped 1 file: {made}/docs/tool.exe: is no document; give .txt")
    assert lines[1:3] == ["files      2 kept as they were", "passages   3 passages, 0 of them new"]
    assert lines[3] == f"done: {made}/x; next: ftkit index {made}/x --search ..."


def test_a_search_shows_each_passage_with_its_source(made, capsys):
    index.main([str(made / "x"), "--search", "Which one has backups?", "--num_sources", "1"])
    first, text = capsys.readouterr().out.strip().split("\n")
    assert first.startswith(f"[1] {made}/docs/plans.md: Plan B  (") and text == "    It has backups. <eos> [7] Fake: no"
    index.main([str(made / "x"), "--search", "zebra"])
    assert capsys.readouterr().out == "nothing was found\n"


REFUSED = [
    ([], "give the documents and --output_dir, or an index and --search"),
    (["docs"], "give the documents and --output_dir"),
    (["a", "b", "--search", "q"], "--search looks into one index"),
    (["x", "--search", "q", "--output_dir", "y"], "--output_dir has no effect with --search; drop it"),
    (["x", "--search", "q", "--num_sources", "0"], "--num_sources is 0; give at least 1"),
    (["nowhere", "--search", "q"], "nowhere: holds no index; make one: ftkit index DOCS --output_dir nowhere"),
    (["nowhere", "--output_dir", "y"], "nowhere: no such file or folder; check the path"),
]


@pytest.mark.parametrize(("argv", "message"), REFUSED)
def test_mistakes_are_one_line(made, monkeypatch, argv, message):
    monkeypatch.chdir(made)
    with pytest.raises(UserError) as caught:
        index.main(argv)
    assert message in str(caught.value)


def test_generate_answers_from_the_index_and_shows_its_sources(made, flags, tmp_path, capsys):
    asked = [*flags, "--index", str(made / "x"), "--num_sources", "1", "--prompt", "Which one has backups?"]
    generate.main(asked)
    assert capsys.readouterr().out.strip().split("\n")[-1] == f"[1] {made}/docs/plans.md: Plan B"
    generate.main([*asked, "--output_file", str(tmp_path / "a.jsonl")])
    (record,) = map(json.loads, (tmp_path / "a.jsonl").read_text().split("\n")[:-1])
    assert record["prompt"] == "Which one has backups?"
    assert [(one["number"], one["id"]) for one in record["sources"]] == [(1, f"{made}/docs/plans.md#2")]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--num_sources", "3"], "--num_sources has no effect without --index; add --index FOLDER, or drop it"),
        (["--index", "nowhere"], "nowhere: holds no index"),
        (["--index", "x", "--template", "none"], "--index with --template none: a text that is continued asks no question"),
    ],
)  # fmt: skip
def test_sources_need_an_index_and_a_question(flags, more, message):
    with pytest.raises(UserError) as caught:
        generate.main([*flags, "--prompt", "a", *more])
    assert message in str(caught.value)


class Watched:
    """Notes what an engine is asked in a chat."""

    def __init__(self, engine):
        self.voices, self.asked = engine.voices, []
        self.voice = engine.voice

    def stream(self, messages, sampling, name, *, write):
        from ftkit.inference.completion import Reply

        self.asked.append(messages)
        return Reply("Yes.", finish_reason="stop")


def test_chat_shows_sources_and_keeps_the_bare_conversation(made, flags, capsys):
    from ftkit.inference.asking import asking_parser, model_settings
    from ftkit.inference.engine import Engine
    from ftkit.inference.retrieval.index import Index

    engine = Watched(Engine.load(model_settings(asking_parser("ftkit chat", "").parse_args(flags))))
    retriever = Retriever(Index.open(made / "x"), num_sources=1)
    chat.talk(engine, Sampling(), None, io.StringIO("Which one has backups?\nzebra\n/compare\n"), retriever=retriever)
    shown = capsys.readouterr().err
    assert f"[1] {made}/docs/plans.md: Plan B" in shown and shown.count("nothing was found") == 2
    (first,), second, compared = engine.asked
    assert first["content"].endswith("Question: Which one has backups?") and "\n[\u20607] Fake: no" in first["content"]
    assert (
        [turn["content"] for turn in second]
        == ["Which one has backups?", "Yes.", "zebra"]
        == [turn["content"] for turn in compared]
    )
    rendered = engine.voice().tokenizer.decode(engine.voice().render([first]))
    assert "<eos>" not in rendered  # which a passage holds


def test_bench_scores_what_an_index_finds_without_a_model(made, tmp_path, capsys):
    rows = [
        {"question": "Which one has backups?", "relevant": [f"{made}/docs/plans.md#2"]},
        {"question": "What is a crow?", "relevant": f"{made}/docs/note.txt"},
        {"question": "zebra", "relevant": [f"{made}/docs/note.txt"]},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = [
        "--tasks",
        "retrieval",
        "--task_data",
        f"retrieval={tmp_path}/q.jsonl",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    bench.main(["--index", str(made / "x"), *argv])
    results = read_results(tmp_path / "out/results.json")
    task = results.tasks["retrieval"]
    assert task.main_metric == "ndcg_at_10" and {
        name: score.value for name, score in task.scores.items()
    } == pytest.approx(dict.fromkeys(task.scores, 2 / 3))
    assert (
        task.scores["recall_at_1"].is_share
        and results.model["search_method"] == "hybrid"
        and len(results.model["index_hash"]) == 64
    )
    items = read_items(tmp_path / "out/results.json", task)
    assert [item.scores["recall_at_1"] for item in items] == [1, 1, 0]
    assert items[0].prediction.split(", ")[0] == items[0].reference
    for more, message in (
        ([], "name a model"),
        (["--model_name_or_path", "base"], "task retrieval searches an index; give it: --index FOLDER"),
    ):
        with pytest.raises(UserError, match=message):
            bench.main([*more, *argv[:-1], str(tmp_path / "other")])


def test_bench_asks_with_sources_and_scores_faithfulness(made, tiny_folder, tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps({"instruction": "Which one has backups?", "output": "Plan B"}) + "\n")
    argv = [
        "--model_name_or_path",
        str(tiny_folder),
        "--template",
        "alpaca",
        "--dtype",
        "float32",
        "--tasks",
        "documents",
        "--max_new_tokens",
        "4",
    ]
    argv += ["--task_data", f"documents={tmp_path}/q.jsonl"]
    bench.main([*argv, "--index", str(made / "x"), "--num_sources", "1", "--output_dir", str(tmp_path / "out")])
    task = read_results(tmp_path / "out/results.json").tasks["documents"]
    (item,) = read_items(tmp_path / "out/results.json", task)
    assert list(item.scores) == ["token_f1", "exact_match", "faithfulness"] and item.extra["sources"] == [
        f"{made}/docs/plans.md#2"
    ]
    with pytest.raises(UserError, match="faithfulness is about sources; give them: --index FOLDER"):
        bench.main([*argv, "--output_dir", str(tmp_path / "other")])
