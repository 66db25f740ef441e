"""Votes: read strictly, turned into rows that ftkit's own reader takes, and held against other voters'."""

import json

import pytest
from sklearn.metrics import cohen_kappa_score

from ftkit.commands.arena import main
from ftkit.config.errors import UserError
from ftkit.config.jsonl import write_jsonl
from ftkit.data.reading.loading import load_rows
from ftkit.data.rows.kinds import KINDS
from ftkit.evaluation.judge.votes import (
    Vote,
    agreement_lines,
    agreements,
    dpo_rows,
    kto_rows,
    read_votes,
    write_votes,
)


def vote(
    winner: str, prompt="6 x 7?", a: str = "42", b: str = "41", voter: str = "ann", models=("mine", "base")
) -> Vote:
    return Vote(prompt, models[0], a, models[1], b, winner, voter)


def test_votes_come_back_as_they_were_written(tmp_path):
    votes = [vote("a"), vote("tie", prompt=[{"role": "user", "content": "Hé?"}], voter="")]
    write_votes(tmp_path / "votes.jsonl", votes)
    assert read_votes(tmp_path / "votes.jsonl") == votes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"winner": "A"}, r'votes.jsonl:2: winner is "A"; give "a", "b", "tie" or "both_bad"'),
        ({"winner": None}, 'votes.jsonl:2: "winner" must be a string, got NoneType'),
        ({"model_b": "mine"}, "votes.jsonl:2: both answers are by mine; compare two models"),
        ({"model_b": " "}, 'votes.jsonl:2: "model_b" is empty'),
        ({"prompt": ""}, 'votes.jsonl:2: "prompt" is empty'),
        ({"prompt": "  "}, 'votes.jsonl:2: "prompt" is empty'),
        ({"prompt": 5}, 'votes.jsonl:2: "prompt" must be a string'),
        ({"prompt": [1, 2]}, "votes.jsonl:2: prompt: turn 1 must be an object"),
        (
            {"prompt": [{"role": "assistant", "content": "Hi"}]},
            "votes.jsonl:2: prompt: turn 1: an assistant turn comes",
        ),
        ({"prompt": []}, "votes.jsonl:2: prompt: turn 1: an assistant turn comes first"),
        ({"answer_a": 42}, 'votes.jsonl:2: "answer_a" must be a string, got int'),
    ],
)
def test_a_vote_that_is_none_is_named_with_its_line(tmp_path, change, message):
    row = {"prompt": "?", "model_a": "mine", "answer_a": "x", "model_b": "base", "answer_b": "y", "winner": "a"}
    (tmp_path / "votes.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row | change)}\n")
    with pytest.raises(UserError, match=message):
        read_votes(tmp_path / "votes.jsonl")


def test_a_misspelt_column_is_named(tmp_path):
    row = {"prompt": "?", "model_a": "mine", "answer_a": "x", "model_b": "base", "answer_b": "y", "winer": "a"}
    (tmp_path / "votes.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match='votes.jsonl:1: "winner" is missing; rename winer'):
        read_votes(tmp_path / "votes.jsonl")


def test_dpo_rows_are_what_the_dpo_reader_takes(tmp_path):
    chat = [{"role": "user", "content": "7 x 6?"}]
    votes = [vote("a"), vote("b", prompt="capital?", a="Paris is", b="Paris")]
    assert dpo_rows(votes) == [
        {"prompt": "6 x 7?", "chosen": "42", "rejected": "41"},
        {"prompt": "capital?", "chosen": "Paris", "rejected": "Paris is"},
    ]
    for rows in (dpo_rows(votes), dpo_rows([vote("a", prompt=chat)])):
        write_jsonl(tmp_path / "dpo.jsonl", rows)
        read = load_rows(str(tmp_path / "dpo.jsonl"), kind=KINDS["preference"]).train
        assert (read[0]["chosen"], read[0]["rejected"]) == ("42", "41")


def test_kto_rows_are_what_the_reader_takes(tmp_path):
    assert kto_rows([vote("a")]) == [
        {"prompt": "6 x 7?", "completion": "42", "label": True},
        {"prompt": "6 x 7?", "completion": "41", "label": False},
    ]
    write_jsonl(tmp_path / "kto.jsonl", kto_rows([vote("a")]))
    read = load_rows(str(tmp_path / "kto.jsonl"), kind=KINDS["kto"]).train
    assert [row["label"] for row in read] == [True, False]


def test_most_voters_decide_and_ties_teach_nothing():
    mirrored = Vote("6 x 7?", "base", "41", "mine", "42", "b", "bob")  # the same choice as vote("a")
    assert dpo_rows([vote("a"), mirrored, vote("b", voter="eve")])[0]["chosen"] == "42"
    assert dpo_rows([vote("a"), vote("b", voter="eve")]) == []
    assert dpo_rows([vote("tie")]) == kto_rows([vote("tie")]) == []
    assert dpo_rows([vote("a", b="42 ")]) == []


def test_the_same_two_answers_give_one_row_whoever_gave_them_and_however_they_end():
    votes = [vote("a"), vote("a", voter="bob", models=("x", "y")), vote("a", a="41\n", b=" 42", voter="eve")]
    assert dpo_rows(votes) == [{"prompt": "6 x 7?", "chosen": "42", "rejected": "41"}]
    assert [(row["completion"], row["label"]) for row in kto_rows(votes)] == [("42", True), ("41", False)]
    assert dpo_rows([vote("a"), vote("b", models=("x", "y"))]) == []


def test_a_chat_of_one_turn_is_the_same_question_as_its_text():
    chat = [{"role": "user", "content": "6 x 7?"}]
    assert agreements([vote("a"), vote("a", prompt=chat, voter="bob")])[0].num_pairs == 1


def test_where_only_one_thing_was_chosen_kappa_is_not_defined():
    (found,) = agreements([vote("a"), vote("a", voter="bob")])
    assert found.kappa is None and str(found).endswith("Cohen's kappa not defined (one choice alone)")


def test_people_who_voted_on_other_pairs_are_told_so():
    judged = [vote("a", voter="judge m")]
    assert agreement_lines([vote("a", prompt="7 x 6?")], judged) == [
        '0 of 1 people\'s votes are on pairs judged here; nobody was asked "7 x 6?"'
    ]
    assert agreement_lines([vote("b", voter="judge m")], judged) == [ "1 votes are by judge m and are not by people",
    ]  # fmt: skip
    (line,) = agreement_lines([vote("a"), vote("a", voter="judge other")], judged)[:1]
    assert line.startswith("ann and judge m agree on 1 of 1 pairs")


def test_agreement_and_kappa_equal_scikit_learns():
    winners = [("a", "a"), ("a", "b"), ("b", "b"), ("tie", "a"), ("tie", "tie"), ("b", "b"), ("a", "a")]
    votes = [
        vote(winner, prompt=str(number), voter=voter)
        for number, both in enumerate(winners)
        for voter, winner in zip(("ann", "judge"), both, strict=True)
    ]
    votes.append(vote("a", prompt="only ann saw this"))
    (found,) = agreements(votes)
    assert (found.num_equal, found.num_pairs) == (5, 7)
    assert found.kappa == pytest.approx(cohen_kappa_score(*zip(*winners, strict=True)))
    assert "ann and judge agree on 5 of 7 pairs, 71% (36% to 92%)" in str(found)


def test_the_order_of_the_answers_is_no_disagreement():
    (found,) = agreements([vote("a"), Vote("6 x 7?", "base", "41", "mine", "42", "b", "bob")])
    assert (found.num_equal, found.num_pairs) == (1, 1)


def test_the_command_ranks_and_writes_rows(tmp_path, capsys):
    votes = [vote("a", prompt=f"question {n}") for n in range(8)] + [vote("b", prompt="question 9", voter="bob")]
    write_votes(tmp_path / "votes.jsonl", votes)
    main([str(tmp_path / "votes.jsonl"), "--dpo", str(tmp_path / "d.jsonl"), "--kto", str(tmp_path / "k.jsonl")])
    out, err = capsys.readouterr()
    assert out.splitlines()[1].startswith("mine") and "9 votes on 9 questions" in out
    assert "9 rows to" in err and "18 rows to" in err
    assert "each model has half a won and half a lost vote on top" in out
    with pytest.raises(UserError, match="d.jsonl: exists already"):
        main([str(tmp_path / "votes.jsonl"), "--dpo", str(tmp_path / "d.jsonl")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dpo", "new.jsonl", "--kto", "./new.jsonl"], "--dpo and --kto name the same file; give each its own"),
        (["--dpo", "prefs"], "prefs: rows are written as JSON lines; name the file something.jsonl"),
        (["--kto", "prefs.csv"], "prefs.csv: rows are written as JSON lines"),
        (["--dpo", "nodir/x.jsonl"], "nodir/x.jsonl: there is no folder nodir; make it first"),
        (["--seed", "-1"], "--seed is -1; give 0 or more"),
        (["./votes.jsonl"], "votes.jsonl: is given twice, and would count twice; give it once"),
    ],
)
def test_a_mistaken_command_line_is_refused_before_anything_is_printed(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    write_votes(tmp_path / "votes.jsonl", [vote("a")])
    with pytest.raises(UserError, match=message):
        main([*flags, "votes.jsonl"] if flags[0].startswith("--") else ["votes.jsonl", *flags])
    assert capsys.readouterr().out == "" and [path.name for path in tmp_path.iterdir()] == ["votes.jsonl"]


def test_an_interval_that_the_votes_do_not_tell_is_unknown(tmp_path, capsys):
    write_votes(tmp_path / "votes.jsonl", [vote("a", prompt=f"question {n}") for n in range(10)])
    main([str(tmp_path / "votes.jsonl")])
    out = capsys.readouterr().out
    assert all(line.split()[2] == "(unknown)" for line in out.splitlines()[1:3])
    assert "warning: no interval for mine, base: votes on one question, all won" in out


def test_the_command_can_listen_to_one_voter(tmp_path, capsys):
    write_votes(tmp_path / "votes.jsonl", [vote("a"), vote("b", voter="bob"), vote("b", voter="bob")])
    main([str(tmp_path / "votes.jsonl"), "--voter", "bob"])
    assert capsys.readouterr().out.splitlines()[1].startswith("base")
    with pytest.raises(UserError, match="--voter \"eve\": cast no vote here; voters are 'ann', 'bob'"):
        main([str(tmp_path / "votes.jsonl"), "--voter", "eve"])


def test_votes_without_a_winner_give_no_rows(tmp_path):
    write_votes(tmp_path / "votes.jsonl", [vote("tie")])
    with pytest.raises(UserError, match="no vote tells two answers apart"):
        main([str(tmp_path / "votes.jsonl"), "--dpo", str(tmp_path / "d.jsonl")])


def test_models_that_are_not_linked_are_warned_about(tmp_path, capsys):
    write_votes(tmp_path / "votes.jsonl", [vote("a"), vote("a", models=("x", "y"))])
    main([str(tmp_path / "votes.jsonl")])
    assert "warning: some models are linked to others by no vote" in capsys.readouterr().out
