"""Each kind of synthesis, step by step: what is asked, what becomes a row, what is dropped."""

import random

import pytest
from made_up import passages

from ftkit.inference.synth.corruption import RULES, corrupted
from ftkit.inference.synth.items import Draft, Dropped, Material, Seed, user
from ftkit.inference.synth.kinds import KINDS, maker
from ftkit.inference.synth.questions import SUPPORT, support

SEEDS = [Seed(f"seeds.txt:{n}", user(f"Name the river number {n}."), f"The river {n} is long.") for n in range(1, 7)]
SETTINGS = {
    "num_samples": 3,
    "pairs": "best-of-n",
    "num_distractors": 2,
    "share_without": 0.0,
    "without_passage": "refuse",
}


def played(kind: str, *replies, number: int = 0, kept=(), **settings):
    """The draft of an item whose asks are replied to in order, and what it asked."""
    is_of_docs = KINDS[kind].source == "docs"
    material = Material(
        () if is_of_docs else SEEDS, passages(5) if is_of_docs else (), seed=1, settings=SETTINGS | settings
    )
    item = maker(kind)(number, material, kept)
    asked, replies = [], iter(replies)
    try:
        asked.append(next(item.steps))
        while True:
            asked.append(item.steps.send(next(replies)))
    except StopIteration as end:
        return end.value, asked, item.origin


def test_self_instruct_shows_seeds_and_rows_and_answers_its_task():
    kept = [Draft("Tell a joke about tea.", "No.", {})]
    draft, asked, origin = played("self-instruct", ["Task: Name a lake.\n\nTask: x"], ["Answer: Geneva."], kept=kept)
    assert draft.columns["messages"] == [*user("Name a lake."), {"role": "assistant", "content": "Geneva."}]
    shown = asked[0].conversations[0][0]["content"]
    assert "Task: Tell a joke about tea." in shown and shown.count("Name the river number") == len(origin["seeds"]) == 3
    assert origin["rows"] == [0] and asked[1].conversations == [user("Name a lake.")]


def test_personas_are_the_listed_ones_or_a_persons_own():
    draft, asked, origin = played("personas", ["How do I bake?"], ["With flour."])
    assert origin["persona"] in asked[0].conversations[0][0]["content"] and origin["seeds"][0].startswith("seeds.txt")
    assert draft.question == "How do I bake?"
    item = maker("personas")(0, Material(seed=1), ())
    assert "seeds" not in item.origin and item.origin["persona"]


def test_evolve_changes_a_seed_by_a_named_change():
    draft, asked, origin = played("evolve", ["Name a long river, and say why."], ["The Nile."])
    assert origin["change"] and "Name the river number" in asked[0].conversations[0][0]["content"]
    assert draft.question == "Name a long river, and say why."


def test_questions_are_about_a_sentence_and_answered_from_it():
    question = ["When does the ferry open?"]
    _, asked, origin = played_about("questions", "opens at", question, ["at 2 in the morning"])
    draft = played_about("questions", "opens at", question, ["Answer: at 2 in the morning"])[0]
    assert draft.columns["question"] == "When does the ferry open?" and draft.columns["passage"].startswith("The ferry")
    assert origin["passages"] == ["guide.md#1"]
    assert not asked[0].way.is_greedy and asked[1].way.is_greedy
    assert asked[1].conversations[0][-1]["content"].endswith("Answer in a few words: When does the ferry open?")
    with pytest.raises(Dropped, match="not from the sentence"):
        played_about("questions", "opens at", question, ["Tickets cost 5 crowns."])
    with pytest.raises(Dropped, match="no question in the reply"):
        played_about("questions", "opens at", ["It opens at two."])


@pytest.mark.parametrize(
    ("answer", "is_from"),
    [
        ("from Tuesday to Friday", True),
        ("It is open from Tuesday to Friday.", True),
        ("The museum is a children's museum.", False),  # written by SmolLM2, as is the next
        ("The museum is open from Tuesday to Friday, but it's closed on Sundays.", False),
        ("", False),
    ],
)
def test_an_answer_that_adds_something_is_not_from_its_sentence(answer, is_from):
    assert (support(answer, "The museum is open from Tuesday to Friday.") >= SUPPORT) == is_from


def played_about(kind: str, words: str, *replies):
    """`played` of the first item that is about a sentence of the first passage with these words."""
    for number in range(100):
        item = maker(kind)(number, Material(passages=passages(5), seed=1, settings=SETTINGS), ())
        if item.origin["passages"] != ["guide.md#1"]:
            continue
        asked = next(item.steps).conversations[0][-1]["content"]
        if words in asked.rpartition("answers: ")[2]:
            return played(kind, *replies, number=number)
    raise AssertionError(words)


def test_reasoning_keeps_the_shortest_solution_that_comes_to_the_known_answer():
    def solve(*replies):
        seed = Seed("s:1", user("What is 2 + 3?"), "2 + 3 = 5\n#### 5")
        steps = maker("reasoning")(0, Material([seed], settings=SETTINGS), ()).steps
        assert len(next(steps).conversations) == 3
        try:
            steps.send(list(replies))
        except StopIteration as end:
            return end.value

    long, short = "Two and three is what we add.\nThat makes five.\n#### 5.0", "We add 2 and 3 here.\n#### 5"
    draft = solve("It is six.\n#### 6", long, short)
    assert draft.answer == short and not draft.is_new
    assert draft.columns["messages"][0]["content"] == "What is 2 + 3?"  # not the prompt that asks for steps
    with pytest.raises(Dropped, match="none of 3 solutions is right"):
        solve("#### 4", "no number", "#### 6")
    with pytest.raises(Dropped, match="a right answer without steps"):
        solve("5", "#### 5", "Answer: 5")


def test_reasoning_compares_words_where_the_answer_has_no_number():
    seed = Seed("s:1", user("Is the sea salty?"), "Yes")
    steps = maker("reasoning")(0, Material([seed], settings=SETTINGS), ()).steps
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(["Sea water holds much salt in it.\n#### yes.", "Lakes are not salty at all.\n#### no"])
    assert end.value.value.answer.endswith("#### yes.")


def test_best_of_n_pairs_the_highest_and_the_lowest_score():
    answers = ["bad", "good", "middling"]
    draft, asked, _ = played("preferences", answers, ["10", "90", "50"])
    assert (draft.columns["chosen"], draft.columns["rejected"]) == ("good", "bad")
    assert len(asked[1].conversations) == 3 and asked[1].who == "judge"
    with pytest.raises(Dropped, match="less than 20 points apart"):
        played("preferences", answers, ["50", "55", "60"])
    with pytest.raises(Dropped, match="no score"):
        played("preferences", answers, ["good", "90", "no"])
    with pytest.raises(Dropped, match="no two answers that differ"):
        played("preferences", ["same", "same", "same"])


def test_a_judged_pair_is_kept_where_both_orders_agree():
    draft, asked, _ = played("preferences", ["one", "two"], ["B", "A"], pairs="judge")
    assert (draft.columns["chosen"], draft.columns["rejected"]) == ("two", "one")
    assert "<answer_A>\none\n" in asked[1].conversations[0][0]["content"]
    assert "<answer_A>\ntwo\n" in asked[1].conversations[1][0]["content"]
    for replies in (["A", "A"], ["tie", "tie"], ["B", "B"], ["A", "tie"]):
        with pytest.raises(Dropped, match="a tie, or the judge contradicts itself"):
            played("preferences", ["one", "two"], replies, pairs="judge")
    with pytest.raises(Dropped, match="no choice"):
        played("preferences", ["one", "two"], ["A"], pairs="judge")


def test_a_corrupted_answer_asks_nobody_and_names_its_rule():
    draft, asked, origin = played("preferences", pairs="corruption")
    assert not asked and origin["corruption"] in RULES
    assert draft.columns["chosen"].startswith("The river") and draft.columns["rejected"] != draft.columns["chosen"]


@pytest.mark.parametrize("name", RULES)
def test_each_rule_changes_an_answer_and_says_nothing_where_it_can_not(name):
    text = "The ship has 12 sails and is fast. It left the old harbour on Monday. Nobody saw it go."
    for seed in range(20):
        assert RULES[name](text, random.Random(seed)) not in ("", text)
        assert RULES[name]("So.", random.Random(seed)) == ""


def test_no_rule_changes_a_word():
    assert corrupted("Yes", random.Random(0)) == ("", "")
    with pytest.raises(Dropped, match="no rule"):
        item = maker("preferences")(
            0, Material([Seed("s:1", user("Is it?"), "Yes")], settings=SETTINGS | {"pairs": "corruption"}), ()
        )
        next(item.steps)


def test_raft_quotes_the_sentence_among_other_passages():
    draft, asked, origin = played_about("raft", "opens at", ["When does the ferry open?"], ["at 2 in the morning"])
    answer = draft.columns["messages"][-1]["content"]
    assert answer.startswith('"The ferry of Orla opens at 2 in the morning." [')
    assert answer.endswith("\n\nAnswer: at 2 in the morning")
    assert len(draft.columns["sources"]) == 3 and origin["passages"][0] in draft.columns["sources"]
    assert len(asked) == 2
    with pytest.raises(Dropped, match="not from the sentence"):
        played_about("raft", "opens at", ["When does the ferry open?"], ["Tickets cost 5 crowns."])
