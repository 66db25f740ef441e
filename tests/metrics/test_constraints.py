"""Verifiable instructions: each kind kept and broken, by hand."""

import json

import pytest

from ftkit.metrics.constraints import (
    CHECKS,
    InstructionConstraints,
    checked,
    constraints_kept,
    count_of,
    num_sentences,
)

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


@pytest.mark.parametrize("answer", ["[" * 3000, "1" * 5000, "NaN", '{"a": -Infinity}', '{"a": 1}}'])
def test_a_degenerate_answer_is_no_json_and_no_crash(answer):
    assert constraints_kept(answer, [{"kind": "json"}, {"kind": "json", "value": False}]) == [False, True]


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ({"kind": "min_words", "value": "3"}, "constraint min_words: \"value\" is '3'; give a whole number"),
        ({"kind": "min_words"}, 'constraint min_words: "value" is None; give a whole number'),
        ({"kind": "min_words", "value": True}, "is True; give a whole number"),
        ({"kind": "num_sentences", "value": "1"}, "constraint num_sentences: .* give a whole number"),
        ({"kind": "max_words", "value": -1}, "is -1; give a whole number"),
        ({"kind": "includes", "value": "cat"}, "constraint includes: \"value\" is 'cat'; give a list of texts"),
        ({"kind": "excludes", "value": []}, r"is \[\]; give a list of texts"),
        ({"kind": "includes", "value": [""]}, "give a list of texts"),
        ({"kind": "one_of", "value": "yes"}, "constraint one_of: .* give a list of texts"),
        ({"kind": "starts_with"}, "constraint starts_with: .* give a text"),
        ({"kind": "json", "value": "true"}, "constraint json: \"value\" is 'true'; give true or false"),
        ({"kind": "matches", "value": "("}, "constraint matches: .* give a regular expression"),
        ({"kind": "word_count", "value": {"word": "so"}}, "constraint word_count: .* give {\"word\": a text, \"count\": a"),
        ({"kind": "json", "vlaue": False}, 'constraint json has the unknown key "vlaue"'),
        ({"kind": ["json"]}, "unknown constraint"),
        ("json", r"\['json'\] is not a list of constraints"),
    ],
)  # fmt: skip
def test_a_value_that_is_none_of_its_kind_is_refused_before_any_answer(constraint, message):
    with pytest.raises(ValueError, match=message):
        checked([constraint])
    with pytest.raises(ValueError, match=message):
        constraints_kept("", [constraint])


def test_constraints_as_text_must_be_a_json_list():
    with pytest.raises(ValueError, match="constraints are not JSON"):
        InstructionConstraints().compute(predictions=["a"], references=["nope"])
    with pytest.raises(ValueError, match="is not a list of constraints"):
        InstructionConstraints().compute(predictions=["a"], references=['{"kind": "json"}'])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Dr. Smith is here. He left.", 2), ("I met Mr. and Mrs. Lee, e.g. today.", 1), ("It was the Dr.", 1),
        ("It is 3.5 m. Yes!", 2), ("私は学生です。元気です。", 2), ("そう！本当？", 2), ("No end", 1),
    ],
)  # fmt: skip
def test_sentences_are_counted(text, count):
    assert num_sentences(text) == count


@pytest.mark.parametrize(
    ("word", "text", "count"),
    [
        ("猫", "これは猫です。3猫", 2), ("cat", "これはcatです", 1), ("cat", "concat cats Cat", 1), ("แมว", "นี่คือแมวครับ", 1),
        ("C++", "I like C++.", 1), ("고양이", "고양이 한 마리", 1), ("the cat", "The cat, the cats", 1),
    ],
)  # fmt: skip
def test_a_keyword_is_found_as_a_whole_and_in_scripts_without_spaces(word, text, count):
    assert count_of(word, text) == count


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(ValueError, match='unknown constraint "max_word"; did you mean "max_words"'):
        constraints_kept("a", [{"kind": "max_word", "value": 1}])
    with pytest.raises(ValueError, match="an item without constraints"):
        constraints_kept("a", [])
    with pytest.raises(ValueError, match="no items to score"):
        InstructionConstraints().compute(predictions=[], references=[])
