"""The folder of a judging: other judges, settings, answers, broken notes and names that are no folders are refused."""

import json

import pytest
from judging import judge_on_nothing, write_answers

from ftkit.commands.judge import main
from ftkit.config.errors import UserError


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_name_or_path", "qwen"], 'was judged with --model_name_or_path "llama", not "qwen"; choose another'),
        (["--system", "Be harsh."], 'was judged with --system null, not "Be harsh."'),
        (["--temperature", "1"], "was judged with --temperature 0.0, not 1.0"),
        (["--top_p", "0.5"], "was judged with --top_p 1.0, not 0.5"),
        (["--seed", "4"], "was judged with --seed 0, not 4"),
        (["--limit", "1"], r"holds judgements of different answers \(mine\) or of another --limit"),
    ],
)
def test_another_judge_setting_or_limit_does_not_go_on_in_the_same_folder(tmp_path, server, flags, message):
    server.behave = lambda number, body: "50"
    answers = write_answers(tmp_path / "mine.jsonl", ["x", "y"])
    argv = [
        answers,
        "--endpoint",
        server.url,
        "--output_dir",
        str(tmp_path / "judged"),
        "--model_name_or_path",
        "llama",
    ]
    main(argv)
    with pytest.raises(UserError, match=message):
        main([*argv, *flags])
    main([*argv, "--endpoint", server.url + "/", "--max_new_tokens", "9"])  # no difference
    assert len(server.requests) == 2


def test_other_answers_do_not_overwrite_a_judging(tmp_path, server):
    server.behave = lambda number, body: "A"
    files = [write_answers(tmp_path / f"{name}.jsonl", [name]) for name in "abcd"]
    flags = ["--endpoint", server.url, "--output_dir", str(tmp_path / "out"), "--model_name_or_path", "m"]
    main([*files[:2], *flags])
    votes = (tmp_path / "out/votes.jsonl").read_text()
    with pytest.raises(UserError, match=r"holds judgements of different answers \(c, d\) or of another --limit"):
        main([*files[2:], *flags])
    assert (tmp_path / "out/votes.jsonl").read_text() == votes


def test_a_folder_that_never_got_a_judgement_may_be_used_by_another_judge(tmp_path, server):
    server.behave = lambda number, body: "50" if body["model"] == "qwen" else "no number"
    argv = [
        write_answers(tmp_path / "mine.jsonl", ["x"]), "--endpoint", server.url, "--output_dir", str(tmp_path / "out"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="nothing was judged"):
        main([*argv, "--model_name_or_path", "llama"])
    main([*argv, "--model_name_or_path", "qwen"])
    assert json.loads((tmp_path / "out/judge.json").read_text())["model_name_or_path"] == "qwen"


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"judge": "x"'])
def test_a_folder_whose_note_is_broken_is_refused(tmp_path, note):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/judge.json").write_text(note)
    with pytest.raises(UserError, match="judge.json.*; choose another --output_dir"):
        main([*judge_on_nothing(tmp_path), "--output_dir", str(tmp_path / "out")])


def test_a_folder_in_use_or_below_a_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="is in use and holds no judgements"):
        main([*judge_on_nothing(tmp_path), "--output_dir", str(tmp_path)])
    with pytest.raises(UserError, match="mine.jsonl is a file; give --output_dir a folder"):
        main([*judge_on_nothing(tmp_path), "--output_dir", str(tmp_path / "mine.jsonl/out")])


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "judge.json", "Votes.jsonl", "x" * 300, "a b", "..\\.."])
def test_a_model_whose_name_is_no_folder_is_refused_before_anything_is_asked(tmp_path, name):
    file, *flags = judge_on_nothing(tmp_path)
    with pytest.raises(UserError, match="can't name a folder of scores; name its file NAME=FILE"):
        main([f"{name}={file}", *flags, "--output_dir", str(tmp_path / "out/deep")])
    assert not (tmp_path / "out").exists()


def test_two_models_of_one_folder_are_refused(tmp_path):
    file, *flags = judge_on_nothing(tmp_path)
    with pytest.raises(UserError, match="org/m and Org-m would share the folder org-m"):
        main([f"org/m={file}", f"Org-m={file}", *flags, "--output_dir", str(tmp_path / "out")])
