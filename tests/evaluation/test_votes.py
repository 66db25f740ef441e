"""Votes: read strictly, turned into rows that ftkit's own reader takes, and held against other voters'."""

import json

import pytest
from sklearn.metrics import cohen_kappa_score

from ftkit.commands.arena import main
from ftkit.config.errors import UserError
from ftkit.data.kinds import KINDS
from ftkit.data.loading import load_rows
from ftkit.evaluation.votes import Vote, agreements, dpo_rows, kto_rows, read_votes, write_rows, write_votes


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
        ({"winner": "A"}, r'votes.jsonl:2: winner is "A"; give "a", "b" or "tie"'),
        ({"winner": None}, 'votes.jsonl:2: "winner" must be a string, got NoneType'),
        ({"model_b": "mine"}, "votes.jsonl:2: both answers are by mine; compare two models"),
        ({"prompt": ""}, "votes.jsonl:2: prompt must be text or a list of messages"),
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
        write_rows(tmp_path / "dpo.jsonl", rows)
        read = load_rows(str(tmp_path / "dpo.jsonl"), kind=KINDS["preference"]).train
        assert (read[0]["chosen"], read[0]["rejected"]) == ("42", "41")


def test_kto_rows_are_what_the_reader_takes(tmp_path):
    assert kto_rows([vote("a")]) == [
        {"prompt": "6 x 7?", "completion": "42", "label": True},
        {"prompt": "6 x 7?", "completion": "41", "label": False},
    ]
    write_rows(tmp_path / "kto.jsonl", kto_rows([vote("a")]))
    read = load_rows(str(tmp_path / "kto.jsonl"), kind=KINDS["kto"]).train
    assert [row["label"] for row in read] == [True, False]


def test_most_voters_decide_and_ties_teach_nothing():
    mirrored = Vote("6 x 7?", "base", "41", "mine", "42", "b", "bob")  # the same choice as vote("a")
    assert dpo_rows([vote("a"), mirrored, vote("b", voter="eve")])[0]["chosen"] == "42"
    assert dpo_rows([vote("a"), vote("b", voter="eve")]) == []
    assert dpo_rows([vote("tie")]) == kto_rows([vote("tie")]) == []
    assert dpo_rows([vote("a", b="42 ")]) == []


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
    with pytest.raises(UserError, match="d.jsonl: exists already"):
        main([str(tmp_path / "votes.jsonl"), "--dpo", str(tmp_path / "d.jsonl")])


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
