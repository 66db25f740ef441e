"""`ftkit judge` from the command line to its files, against a loopback server and a tiny local model."""

import threading

import pytest
import torch
from endpoint_stand_in import EndpointStandIn, Fault
from judging import judge_on_nothing, write_answers

from ftkit.commands.judge import judge_parser, judge_settings, main
from ftkit.config.errors import UserError
from ftkit.evaluation.judge.local import ask_local
from ftkit.evaluation.judge.votes import Vote, read_votes, write_votes
from ftkit.evaluation.verdict.pairing import read_run
from ftkit.evaluation.verdict.verdict import compare_runs
from ftkit.inference.asking import model_settings, sampling_of
from ftkit.inference.engine import Engine


def test_the_command_scores_over_http_and_compare_reads_it(tmp_path, server, capsys):
    server.behave = lambda number, body: "90" if "good" in body["messages"][0]["content"] else "20"
    before = write_answers(tmp_path / "before.jsonl", ["bad"] * 10)
    after = write_answers(tmp_path / "after.jsonl", ["good"] * 10)
    out = tmp_path / "judged"
    flags = ["--endpoint", server.url, "--model_name_or_path", "llama", "--input_price", "10", "--output_price", "20"]
    main([before, after, "--mode", "score", *flags, "--output_dir", str(out)])
    text = capsys.readouterr().out
    assert "before: 20.0" in text and "after: 90.0" in text
    assert "14 tokens read, 4 written, cost 0.0002" in text or "140 tokens read, 40 written, cost 0.0022" in text
    assert server.requests[0][2]["max_tokens"] == 64
    verdict = compare_runs([read_run(out / "before")], read_run(out / "after"))
    assert (verdict.outcome, verdict.tasks[0].difference) == ("better", pytest.approx(0.7))


def test_an_item_that_failed_for_one_model_is_left_out_for_all(tmp_path, server, capsys):
    server.behave = lambda number, body: "no idea" if "bad 3" in body["messages"][0]["content"] else "50"
    before = write_answers(tmp_path / "before.jsonl", [f"bad {n}" for n in range(5)])
    after = write_answers(tmp_path / "after.jsonl", [f"good {n}" for n in range(5)])
    flags = ["--endpoint", server.url, "--model_name_or_path", "llama", "--mode", "score"]
    main([before, after, *flags, "--output_dir", str(tmp_path / "judged")])
    assert "10 judgements asked for, 1 failed (10.0 %)" in capsys.readouterr().out
    assert (
        compare_runs([read_run(tmp_path / "judged/before")], read_run(tmp_path / "judged/after")).tasks[0].num_items
        == 4
    )


def test_the_command_compares_pairs_holds_them_against_people_and_writes_votes(tmp_path, server, capsys):
    def behave(number, body):
        text = body["messages"][0]["content"]
        return "A" if text.index("good") < text.index("bad") else "B"

    server.behave = behave
    base = write_answers(tmp_path / "base.jsonl", ["bad", "bad", "same"])
    mine = write_answers(tmp_path / "mine.jsonl", ["good", "good", "same"])
    people = [
        Vote("question 0", "mine", "good", "base", "bad", "a", "ann"),
        Vote("question 1", "mine", "good", "base", "bad", "tie", "ann"),
    ]
    write_votes(tmp_path / "people.jsonl", people)
    main([
        base, mine, "--endpoint", server.url, "--model_name_or_path", "llama", "--output_dir", str(tmp_path / "judged"),
        "--votes", str(tmp_path / "people.jsonl"),
    ])  # fmt: skip
    text = capsys.readouterr().out
    assert "base against mine: 0 won, 0 tied, 2 lost" in text
    assert "ann and judge llama agree on 1 of 2 pairs" in text
    votes = read_votes(tmp_path / "judged/votes.jsonl")
    assert [(vote.winner, vote.voter) for vote in votes] == [
        ("b", "judge llama"),
        ("b", "judge llama"),
        ("tie", "judge llama"),
    ]


def test_a_server_that_dies_ends_the_command_and_the_same_command_goes_on(tmp_path, server, capsys):
    def behave(number, body):
        if number == 4:
            threading.Thread(target=server.die).start()
        return "50"

    server.behave = behave
    answers = write_answers(tmp_path / "mine.jsonl", [f"answer {n}" for n in range(40)])
    argv = [answers, "--model_name_or_path", "llama", "--output_dir", str(tmp_path / "judged"), "--num_retries", "0"]
    with pytest.raises(UserError, match="no use asking further"):
        main([*argv, "--endpoint", server.url, "--concurrency", "1"])
    kept = (tmp_path / "judged/judgements.jsonl").read_text().count('"value": 50')
    assert 4 <= kept < 40
    with EndpointStandIn() as again:
        again.behave = lambda number, body: "50"
        note = tmp_path / "judged/judge.json"
        note.write_text(note.read_text().replace(server.url, again.url))  # a new port stands for a restarted server
        main([*argv, "--endpoint", again.url])
        assert len(again.requests) == 40 - kept
    assert "mine: 50.0 (50.0 to 50.0) of 100, 40 answers" in capsys.readouterr().out


def test_a_judge_that_only_talks_garbage_gives_no_scores_but_counts(tmp_path, server, capsys):
    faults = ["I think 7", Fault(raw=b"?"), Fault(status=429, headers={"Retry-After": "0"}), Fault(half=True)]
    server.behave = lambda number, body: faults[number % 4]
    answers = write_answers(tmp_path / "mine.jsonl", [f"answer {n}" for n in range(8)])
    with pytest.raises(UserError, match=r"nothing was judged \(.*\); the replies are in .*judgements.jsonl"):
        main([
            answers, "--endpoint", server.url, "--model_name_or_path", "llama", "--output_dir",
            str(tmp_path / "judged"), "--num_retries", "0", "--concurrency", "1",
        ])  # fmt: skip
    text = capsys.readouterr().out
    assert "8 judgements asked for, 8 failed (100.0 %)" in text
    assert "2 x status 429" in text and "2 x not a whole number from 0 to 100" in text
    assert not (tmp_path / "judged/mine").exists()


def test_pairs_of_which_none_was_judged_give_no_votes(tmp_path, server):
    server.behave = lambda number, body: Fault(status=500)
    files = [write_answers(tmp_path / f"{name}.jsonl", [name] * 9) for name in "ab"]
    flags = ["--endpoint", server.url, "--model_name_or_path", "m", "--num_retries", "0"]
    with pytest.raises(UserError, match=r"no use asking further \(status 500\); look at the server"):
        main([*files, *flags, "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out/votes.jsonl").exists()


def test_what_was_judged_before_the_server_went_away_is_told(tmp_path, server, capsys):
    server.behave = lambda number, body: "50" if number < 3 else Fault(status=500)
    argv = [
        write_answers(tmp_path / "mine.jsonl", [f"answer {n}" for n in range(20)]), "--endpoint", server.url,
        "--model_name_or_path", "m", "--num_retries", "0", "--concurrency", "1", "--output_dir", str(tmp_path / "out"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no use asking further"):
        main(argv)
    out = capsys.readouterr().out
    assert "20 judgements asked for, 17 failed" in out and "12 x not asked" in out and "5 x status 500" in out
    assert "mine: 50.0 (50.0 to 50.0) of 100, 3 answers" in out


def test_questions_that_can_never_be_answered_do_not_keep_a_judging_from_its_end(tmp_path, server, capsys):
    def behave(number, body):
        return Fault(status=500) if "hard" in body["messages"][0]["content"] else "50"

    server.behave = behave
    argv = [
        write_answers(tmp_path / "mine.jsonl", [f"hard {n}" for n in range(6)] + ["easy"] * 3), "--concurrency", "1",
        "--endpoint", server.url, "--model_name_or_path", "m", "--num_retries", "0", "--output_dir", str(tmp_path / "o"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no use asking further"):
        main(argv)
    main(argv)  # the hard one that is new, the easy ones, then what failed
    main(argv)  # only what failed
    assert "9 judgements asked for, 6 failed" in capsys.readouterr().out.rpartition("not asked")[2]
    assert (tmp_path / "o/mine/results.json").is_file()


def test_the_system_text_and_top_p_reach_the_server_and_each_repeat_has_its_seed(tmp_path, server):
    server.behave = lambda number, body: "50"
    main([
        write_answers(tmp_path / "mine.jsonl", ["x"]), "--endpoint", server.url, "--model_name_or_path", "m",
        "--output_dir", str(tmp_path / "out"), "--system", "Be harsh.", "--top_p", "0.5", "--temperature", "0.7",
        "--num_repeats", "3", "--seed", "5",
    ])  # fmt: skip
    bodies = [body for _, _, body in server.requests]
    assert sorted(body["seed"] for body in bodies) == [5, 6, 7]
    assert {body["top_p"] for body in bodies} == {0.5}
    assert bodies[0]["messages"][0] == {"role": "system", "content": "Be harsh."}


def test_a_reply_of_half_a_character_or_cut_off_is_counted_and_asked_again(tmp_path, server, capsys):
    half = Fault(raw=b'{"choices": [{"message": {"content": "\\ud83d"}}]}')
    cut = Fault(raw=b'{"choices": [{"message": {"content": "10"}, "finish_reason": "length"}]}')
    server.behave = lambda number, body: [half, cut, "50"][min(number, 2)]
    argv = [
        write_answers(tmp_path / "mine.jsonl", ["x", "y", "z"]), "--endpoint", server.url, "--model_name_or_path", "m",
        "--output_dir", str(tmp_path / "out"), "--concurrency", "1", "--input_price", "1",
    ]  # fmt: skip
    main(argv)
    out = capsys.readouterr().out
    assert "1 x not a whole number" in out and "1 x cut off at the limit of tokens; raise --max_new_tokens" in out
    assert "7 tokens read, 2 written, cost 0.0000 at the prices given; unknown for 2 more replies" in out
    main([*argv, "--max_new_tokens", "512"])
    assert "3 judgements asked for, 0 failed" in capsys.readouterr().out


def test_votes_on_the_same_answers_count_whatever_their_form(tmp_path, server, capsys):
    def behave(number, body):
        text = body["messages"][0]["content"]
        return "A" if text.index("good") < text.index("bad") else "B"

    server.behave = behave
    files = [write_answers(tmp_path / f"{name}.jsonl", [f"{name}\n"] * 2) for name in ("good", "bad")]
    chat = [[{"role": "user", "content": f"question {n}"}] for n in range(3)]
    write_votes(tmp_path / "people.jsonl", [
        Vote(chat[0], "x", "good", "y", " bad", "a", "ann"), Vote(chat[1], "x", "worse", "y", "bad", "a", "ann"),
        Vote(chat[2], "x", "good", "y", "bad", "a", "ann"), Vote("question 0", "x", "good", "y", "bad", "a", "judge m"),
    ])  # fmt: skip
    main([
        *files, "--endpoint", server.url, "--model_name_or_path", "m", "--output_dir", str(tmp_path / "out"),
        "--votes", str(tmp_path / "people.jsonl"),
    ])  # fmt: skip
    out = capsys.readouterr().out
    assert "ann and judge m agree on 1 of 1 pairs, 100% (21% to 100%), Cohen's kappa not defined" in out
    assert '1 of 3 people\'s votes are on pairs judged here; the answers are different for "question 1"' in out
    assert "1 votes are by judge m and are not by people" in out


def test_a_local_model_judges_too(tmp_path, tiny_folder, capsys):
    answers = write_answers(tmp_path / "mine.jsonl", ["a", "b", "c", "word " * 5000])
    with pytest.raises(UserError, match=r"nothing was judged \(cut off at the limit of tokens; raise"):
        main([
            answers, "--model_name_or_path", str(tiny_folder), "--template", "plain", "--max_new_tokens", "2",
            "--batch_size", "2", "--output_dir", str(tmp_path / "judged"), "--dtype", "float32",
        ])  # fmt: skip
    text = capsys.readouterr().out
    assert "4 judgements asked for, 4 failed" in text
    assert "1 x longer than the judge's context" in text and "3 x cut off at the limit of tokens" in text


def local_args(folder, tmp_path, *flags: str):
    argv = ["x.jsonl", "--model_name_or_path", str(folder), "--template", "plain", "--dtype", "float32", *flags]
    return judge_parser().parse_args([*argv, "--output_dir", str(tmp_path / "out")])


def test_a_local_reply_is_whole_where_an_end_token_came_within_the_limit(tmp_path, tiny_folder, monkeypatch):
    args = local_args(tiny_folder, tmp_path, "--max_new_tokens", "3")
    engine = Engine.load(model_settings(args))
    messages = [{"role": "user", "content": "a"}]
    prompt = torch.tensor([engine.prompt_ids(messages)])
    ids = engine.model.generate(prompt, max_new_tokens=3, do_sample=False, eos_token_id=None)[0, prompt.shape[1] :]
    for end, expected in ((int(ids[0]), ("stop", 0)), (None, ("length", 3))):
        monkeypatch.setattr(engine, "end_token_ids", lambda *args, end=end, **settings: [end] if end else [])
        ((index, reply),) = ask_local(engine, [messages], [0], sampling_of(args), batch_size=8)
        assert (index, reply.finish_reason, reply.output_tokens, reply.input_tokens) == (0, *expected, prompt.shape[1])


def test_an_adapter_and_its_base_are_noted_by_their_whole_paths(tmp_path, monkeypatch):
    (tmp_path / "runs/judge").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "runs")
    settings = judge_settings(local_args("judge", tmp_path, "--adapter", "judge"))
    assert settings["adapter"] == [str(tmp_path / "runs/judge")]
    assert settings["model_name_or_path"] == str(tmp_path / "runs/judge")
    assert settings["dtype"] == "float32" and settings["load_in_4bit"] is False


SERVER = ["--endpoint", "http://h/v1", "--model_name_or_path", "m"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["x.jsonl"], "name the judge: --model_name_or_path M, with --endpoint URL"),
        (["x.jsonl", "--endpoint", "localhost", "--model_name_or_path", "m"], "is not a server's address"),
        (["x.jsonl", "--endpoint", "http://h/v1", "--adapter", "a"], "--adapter has no effect with --endpoint"),
        (["x.jsonl", "--model_name_or_path", "m", "--num_repeats", "0"], "--num_repeats and --batch_size start at 1"),
        (["x.jsonl", "--model_name_or_path", "m", "--num_repeats", "2"], "--num_repeats at temperature 0 would bring"),
        (["x.jsonl", *SERVER, "--template", "nope"], "--template has no effect with --endpoint; leave it out"),
        (["x.jsonl", *SERVER, "--top_k", "3"], "--top_k has no effect with --endpoint"),
        (["x.jsonl", *SERVER, "--repetition_penalty", "2"], "--repetition_penalty has no effect with --endpoint"),
        (["x.jsonl", *SERVER, "--load_in_4bit"], "--load_in_4bit has no effect with --endpoint"),
        (["x.jsonl", *SERVER, "--dtype", "float32"], "--dtype has no effect with --endpoint"),
        (["x.jsonl", *SERVER, "--temperature", "nan"], "--temperature is nan; give 0"),
        (["x.jsonl", *SERVER, "--temperature", "inf"], "--temperature is inf; give 0"),
        (["x.jsonl", *SERVER, "--repetition_penalty", "nan"], "--repetition_penalty must be positive"),
        (["x.jsonl", *SERVER, "--timeout_seconds", "nan"], "timeout_seconds, concurrency and max_tokens must be"),
        (["x.jsonl", *SERVER, "--input_price", "nan"], "--input_price and --output_price are those of a million"),
        (["x.jsonl", *SERVER, "--output_price", "-5"], "--input_price and --output_price are those of a million"),
        (["x.jsonl", *SERVER, "--api_key_variable", "NOT_SET"], "--api_key_variable: NOT_SET is not set; export it"),
    ],
)
def test_a_mistaken_command_line_says_what_to_give(tmp_path, argv, message):
    with pytest.raises(UserError, match=message):
        main([*argv, "--output_dir", str(tmp_path / "out")])


def test_pairs_need_two_models(tmp_path):
    answers = write_answers(tmp_path / "mine.jsonl", ["x"])
    with pytest.raises(UserError, match="--mode pair compares models; give answers of at least two"):
        main([answers, "--mode", "pair", "--model_name_or_path", "m", "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize("mode", [[], ["--mode", "score"]])
def test_votes_need_pairs(tmp_path, mode):
    file, *flags = judge_on_nothing(tmp_path)
    with pytest.raises(UserError, match="--votes are on pairs of answers; give --mode pair"):
        main([file, *flags, *mode, "--votes", file, "--output_dir", str(tmp_path / "out")])
