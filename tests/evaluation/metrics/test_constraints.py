"""Verifiable instructions: each kind kept and broken, by hand."""

import json

import pytest

from ftkit.evaluation.metrics.constraints import CHECKS, InstructionConstraints, constraints_kept

CASES = [  # kind, value, an answer that keeps to it, one that does not
    ("min_words", 3, "one two three", "one two"),
    ("max_words", 2, "don't stop", "a b c"),
    ("num_sentences", 2, "It is 3.5 m. Yes!", "One."),
    ("max_sentences", 1, "One", "One. Two."),
    ("num_paragraphs", 2, "a\n\nb", "a\nb"),
    ("num_bullets", 2, "- a\n* b", "- a\ntext"),
    ("includes", ["Cat", "dog"], "a cat, a DOG", "a caterpillar and a dog"),
    ("excludes", ["cat"], "a caterpillar", "Cat"),
    ("word_count", {"word": "so", "count": 2}, "so and so", "so"),
    ("starts_with", "Dear", " Dear you", "My dear"),
    ("ends_with", "end.", "The end.", "The end"),
    ("one_of", ["yes", "no"], " yes\n", "Yes"),
    ("matches", r"\d{4}-\d\d", "2024-05", "in 2024-05"),
    ("json", True, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("no_commas", True, "a; b", "a, b"),
    ("quoted", True, '"yes"', 'say "yes"'),
    ("all_lowercase", True, "abc 1", "Abc"),
    ("all_uppercase", True, "ABC 1", "123"),
    ("capital_words", 2, "NASA and ESA", "NASA and A"),
]


@pytest.mark.parametrize(("kind", "value", "kept", "broken"), CASES, ids=[case[0] for case in CASES])
def test_what_keeps_to_an_instruction_and_what_does_not(kind, value, kept, broken):
    constraint = {"kind": kind, "value": value}
    assert constraints_kept(kept, [constraint]) == [True]
    assert constraints_kept(broken, [constraint]) == [False]


def test_every_kind_has_a_case():
    assert {case[0] for case in CASES} == set(CHECKS)


@pytest.mark.parametrize("kind", CHECKS)
def test_an_empty_answer_keeps_to_nothing(kind):
    value = next(case[1] for case in CASES if case[0] == kind)
    assert constraints_kept(" \n", [{"kind": kind, "value": value}]) == [False]


def test_answers_and_instructions_are_counted_apart():
    both = json.dumps([{"kind": "all_uppercase"}, {"kind": "max_words", "value": 1}])
    found = InstructionConstraints().compute(predictions=["YES", "NO NO", "no"], references=[both] * 3)
    assert found == {"constraints": pytest.approx(1 / 3), "each_constraint": pytest.approx(4 / 6)}


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(ValueError, match='unknown constraint "max_word"; did you mean "max_words"'):
        constraints_kept("a", [{"kind": "max_word", "value": 1}])
    with pytest.raises(ValueError, match="an item without constraints"):
        constraints_kept("a", [])
    with pytest.raises(ValueError, match="no items to score"):
        InstructionConstraints().compute(predictions=[], references=[])
