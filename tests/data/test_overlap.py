"""Test rows among the training rows are found, the short ones too."""

import random

from ftkit.data.cleaning.near_duplicates import near_matches, near_pairs, repeated_texts, word_runs
from ftkit.data.cleaning.overlap import copies_of_test_rows, question_overlaps
from ftkit.data.cleaning.splitting import question_groups


def chat(question, answer, source):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "source": source}


def test_copies_are_named_in_the_order_of_the_test_rows_also_short_ones():
    train = [chat("Hi", "Yo", "a:1"), chat("2+2?", "4", "a:2"), chat("Hi", "Yo", "a:3"), chat("Hi", "Hello", "a:4")]
    test = [chat("2+2?", "4", "b:1"), chat("2+3?", "4", "b:2"), chat("Hi", "Yo", "b:3"), chat("2+2?", "5", "b:4")]
    assert copies_of_test_rows(train, test) == [("a:2", "b:1"), ("a:1", "b:3")]


def test_white_space_makes_no_other_row_but_case_and_turns_do():
    train = [chat("Write in upper case:\n x", "X", "a:1")]
    test = [chat(" Write in  upper case: x", "X\n", "b:1"), chat("Write in upper case: x", "x", "b:2")]
    assert copies_of_test_rows(train, test) == [("a:1", "b:1")]
    assert not copies_of_test_rows(train, [{"text": "Write in upper case: x X", "source": "b:3"}])


def test_every_kind_of_row_is_compared():
    pair = {"prompt": [{"role": "user", "content": "Q"}], "chosen": "a", "rejected": "b"}
    for row in ({"text": "one"}, {"text": "one", "label": 1}, pair):
        assert copies_of_test_rows([row | {"source": "a:1"}], [row | {"source": "b:2"}]) == [("a:1", "b:2")]
    swapped = pair | {"chosen": "b", "rejected": "a", "source": "b:1"}
    assert not copies_of_test_rows([pair | {"source": "a:1"}], [swapped])


def test_what_a_row_carries_beside_its_content_is_not_compared():
    train, test = chat("Q", "A", "a:1") | {"untrained": [1]}, chat("Q", "A", "b:1")
    assert copies_of_test_rows([train], [test]) == [("a:1", "b:1")]


def test_runs_of_words_are_found_whatever_case_and_punctuation_and_short_questions_as_a_whole():
    train = [chat("x", "He said: The cat sat on the mat, twice!", "a:1"), chat("Is it two?", "no", "a:2")]
    test = [chat("the cat SAT on the mat", "", "b:1"), chat("two is it", "", "b:2"), chat("is it two", "", "b:3")]
    assert question_overlaps(train, test, num_words=5) == [("b:1", "a:1", 1.0), ("b:3", "a:2", 1.0)]
    (found,) = question_overlaps(train, [chat("so the cat sat on a mat", "", "b:1")], num_words=4)
    assert found == ("b:1", "a:1", 1 / 4)  # of so-the-cat-sat, the-cat-sat-on, cat-sat-on-a, sat-on-a-mat
    assert not question_overlaps(train, [chat("?!", "", "b:1"), chat("dog", "", "b:2")])


def test_the_first_training_row_with_a_shared_run_is_named():
    question = " ".join(f"w{number}" for number in range(40))
    parts = [chat("x", " ".join(question.split()[start : start + 5]), f"a:{start}") for start in range(35, -1, -1)]
    (found,) = question_overlaps(parts, [chat(question, "", "b:1")], num_words=5)
    assert found == (
        "b:1",
        "a:35",
        1.0,
    )  # the hash of a text, and with it the order of a set, is another in each process


def test_near_duplicates_are_those_of_comparing_every_pair():
    rng = random.Random(0)
    texts = []
    for _ in range(60):
        base = [f"w{rng.randrange(300)}" for _ in range(30)]
        texts += [" ".join(base), " ".join([*base[:-1], "end"]), " ".join(["new", "start", *base[12:]])]
    runs = [word_runs(text) for text in texts]
    expected = {
        (first, second)
        for second in range(len(texts))
        for first in range(second)
        if len(runs[first] & runs[second]) >= 0.7 * len(runs[first] | runs[second])
    }
    assert len(expected) >= 60 and set(near_pairs(texts, 0.7)) == expected


def test_a_repeated_text_is_measured_by_its_runs_of_three_words():
    first = "one two three four five six"  # four runs; the second text shares three of five
    matches = repeated_texts([first, "Something else.", "One, two three four five SEVEN"], threshold=0.6)
    assert matches == [(2, 0, 3 / 5)]
    assert not repeated_texts([first, "one two three four five seven"], threshold=0.61)


def test_the_most_similar_candidate_is_named():
    candidates = ["a b c d e f g h", "a b c d e f g x", "unlike"]
    assert near_matches(["a b c d e f g x y"], candidates, 0.5) == [(0, 1, 6 / 7)]


def test_groups_of_questions_pass_on_nearness():
    words = [f"w{number}" for number in range(40)]
    rows = [chat(" ".join(words[start : start + 30]), "x", f"a:{start}") for start in (0, 2, 4)] + [
        chat("other", "x", "a:9")
    ]
    groups = question_groups(rows, near=0.8)
    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert len(set(question_groups(rows))) == 4
