"""A ballot: blind pairs in a seeded order, votes that a kill does not lose, and what becomes of them."""

import json

import pytest
from voting import QUESTIONS, answers, ballot

from ftkit.commands.arena import main
from ftkit.config.errors import UserError
from ftkit.data.reading.loading import load_rows
from ftkit.data.rows.kinds import PREFERENCES
from ftkit.evaluation.judge.ballot import Ballot, pairs_of
from ftkit.evaluation.judge.votes import read_votes
from ftkit.inference.judging import Answered


def vote_for(found: Ballot, model: str) -> None:
    """Vote on the next pair, for one model's answer."""
    pair = found.pairs[found.next_place()]
    found.vote(pair.id, "left" if pair.model_a == model else "right")


def test_order_and_sides_are_drawn_by_the_seed():
    drawn = [[(pair.prompt, pair.model_a) for pair in pairs_of(answers(), seed)] for seed in range(20)]
    assert drawn[3] == [(pair.prompt, pair.model_a) for pair in pairs_of(answers(), 3)]
    assert len({tuple(prompt for prompt, _ in pairs) for pairs in drawn}) > 5
    on_the_left = [model for pairs in drawn for _, model in pairs].count("mine")
    assert 20 < on_the_left < 60  # of 80
    assert all(sorted(prompt for prompt, _ in pairs) == sorted(QUESTIONS) for pairs in drawn)


def test_a_person_sees_no_model(tmp_path):
    shown = ballot(tmp_path / "votes.jsonl").shown(0)
    assert set(shown) == {"pair", "number", "question", "left", "right", "vote", "num_votes", "num_pairs"}
    assert not {"mine", "base"} & set(json.dumps(shown).replace('"', " ").split())


def test_every_two_models_make_a_pair_and_equal_answers_none():
    pairs = pairs_of(answers(third=["Crow.", "4", "mice", "hi"]))
    assert len(pairs) == 4 + 4 + 1  # third differs from mine in one answer
    with pytest.raises(UserError, match="all answers are equal, so there is nothing to vote on"):
        pairs_of(
            answers(base=answers()["mine"] and ["Crow.", "4", "mice", "<script>document.title = 'forged'</script>hi"])
        )


def test_votes_are_kept_as_they_come_and_the_same_voter_goes_on(tmp_path):
    path = tmp_path / "votes.jsonl"
    first = ballot(path)
    vote_for(first, "mine")
    assert len(read_votes(path)) == 1
    with path.open("a") as file:
        file.write('{"prompt": "torn')  # a kill in the midst of a line
    again = ballot(path, seed=7)  # in another order, on other sides
    assert (again.num_cast, again.num_before) == (1, 1)
    while again.next_place() is not None:
        vote_for(again, "mine")
    votes = read_votes(path)
    assert len(votes) == len({vote.question for vote in votes}) == 4
    assert {vote.voter for vote in votes} == {"ann"}
    assert ballot(path, voter="bob").num_cast == 0
    assert again.shown(again.next_place()) == {"num_votes": 4, "num_pairs": 4, "pair": None}


def test_a_double_click_is_one_vote_and_a_vote_again_replaces_it(tmp_path):
    path = tmp_path / "votes.jsonl"
    one = ballot(path)
    pair = one.pairs[0]
    one.vote(pair.id, "left")
    one.vote(pair.id, "right")
    assert [vote.winner for vote in read_votes(path)] == ["a"]
    one.vote(pair.id, "both_bad", again=True)
    assert [vote.winner for vote in read_votes(path)] == ["both_bad"]
    assert one.shown(0)["vote"] == "both_bad"
    assert len(path.read_text().splitlines()) == 2  # nothing is ever taken out of the file
    one.vote(pair.id, "left", again=True)
    other_side = next(seed for seed in range(50) if pairs_of(answers(), seed)[0].model_a != pair.model_a)
    again = ballot(path, seed=other_side)
    place = again.places[pair.id]
    side = "left" if again.pairs[place].model_a == pair.model_a else "right"
    assert again.shown(place)["vote"] == side


def test_votes_become_scores_and_rows(tmp_path, capsys):
    path = tmp_path / "votes.jsonl"
    one = ballot(path)
    for _ in range(3):
        vote_for(one, "mine")
    one.vote(one.pairs[one.next_place()].id, "both_bad")
    main([str(path), "--dpo", str(tmp_path / "dpo.jsonl"), "--kto", str(tmp_path / "kto.jsonl")])
    printed = capsys.readouterr().out
    assert printed.split("\n")[1].split()[:1] == ["mine"]
    assert "4 votes on 4 questions; Bradley-Terry" in printed
    rows = load_rows(str(tmp_path / "dpo.jsonl"), kind=PREFERENCES).train
    assert len(rows) == 3
    labels = [json.loads(line)["label"] for line in (tmp_path / "kto.jsonl").read_text().splitlines()]
    num_blank = sum(not pair.answer_a or not pair.answer_b for pair in one.pairs[3:])
    assert (labels.count(True), labels.count(False)) == (3, 3 + 2 - num_blank)


def test_a_conversation_is_asked_and_kept_as_one(tmp_path):
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    made = {name: [Answered("system: S\n\nuser: Q", text, turns=turns)] for name, text in (("a", "1"), ("b", "2"))}
    one = Ballot(pairs_of(made), tmp_path / "votes.jsonl", "ann")
    assert one.shown(0)["question"] == [{"role": "system", "text": "S"}, {"role": "user", "text": "Q"}]
    one.vote(one.pairs[0].id, "tie")
    assert read_votes(tmp_path / "votes.jsonl")[0].prompt == turns


SERVE = ["--serve", "votes.jsonl"]
REFUSED = [
    (["votes.jsonl", "--answers", "a.jsonl"], "--answers has no effect without --serve"),
    (["votes.jsonl", "--port", "1"], "--port has no effect without --serve"),
    (SERVE, "--serve: say whose answers: --answers FILE --answers FILE, or --compare M1,M2 --file QUESTIONS"),
    ([*SERVE, "--compare", "a,b"], "--compare needs questions: --file prompts.txt"),
    ([*SERVE, "--answers", "a", "--compare", "a,b"], "--serve: say whose answers"),
    ([*SERVE, "--answers", "a", "--temperature", "1"], "--temperature has no effect with --answers"),
    ([*SERVE, "two.jsonl", "--answers", "a"], "--serve: one person votes into one file"),
    (["--serve", "votes.csv", "--answers", "a"], "votes.csv: votes are written as JSON lines"),
    ([*SERVE, "--answers", "a", "--dpo", "x.jsonl"], "--dpo and --kto write rows of votes that there are"),
    ([*SERVE, "--answers", "a", "--port", "70000"], "--port is 70000; give a number from 0 to 65535"),
    ([*SERVE, "--answers", "a", "--limit", "0"], "--limit is 0; give at least 1"),
]


@pytest.mark.parametrize(("argv", "message"), REFUSED)
def test_what_cannot_be_voted_on_is_refused_before_anything_is_loaded(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        main(argv)
    assert str(error.value).startswith(message)


def test_answers_of_one_model_alone_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"prompt": "Q", "answer": "A"}\n')
    with pytest.raises(UserError, match="--answers holds those of a alone; give a second file of answers"):
        main([*SERVE, "--answers", "a.jsonl", "--port", "0"])
