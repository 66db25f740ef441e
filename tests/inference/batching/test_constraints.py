"""Whatever a model would like to say, its answer has the form that was asked for; and a bomb does no harm."""

import json
import re
import time

import pytest
import torch

from ftkit.config.errors import UserError
from ftkit.inference.batching import constraints
from ftkit.inference.batching.constraints import (
    LITERAL,
    Grammars,
    Piece,
    choice_form,
    object_form,
    regex_form,
    schema_form,
)
from ftkit.model.loading import load_tokenizer

WIDER = 7  # rows of the head beyond the vocabulary
BIRD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "legs": {"type": "integer", "minimum": 0, "maximum": 12},
        "colours": {"type": "array", "items": {"enum": ["red", "blue", "é 🙂"]}, "minItems": 1, "maxItems": 3},
        "tame": {"type": "boolean"},
    },
    "required": ["name", "legs", "colours", "tame"],
    "additionalProperties": False,
}


def is_bird(text: str) -> bool:
    bird = json.loads(text)
    return (
        set(bird) == {"name", "legs", "colours", "tame"} and 1 <= len(bird["name"]) <= 8 and type(bird["tame"]) is bool
        and type(bird["legs"]) is int and 0 <= bird["legs"] <= 12 and 1 <= len(bird["colours"]) <= 3
        and set(bird["colours"]) <= {"red", "blue", "é 🙂"}
    )  # fmt: skip


def is_call(text: str) -> bool:
    body = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text, re.DOTALL)
    call = json.loads(body[1])
    return set(call) == {"name", "arguments"} and call["name"] in ("f", "g") and isinstance(call["arguments"]["a"], int)


def calls_of(*names: str):
    (arguments,) = schema_form(
        {
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}},
            "required": ["a"],
            "additionalProperties": False,
        }
    )
    return tuple(
        (
            Piece(LITERAL, f'<tool_call>\n{{"name": "{name}", "arguments": '),
            *arguments,
            Piece(LITERAL, "}\n</tool_call>"),
        )
        for name in names
    )


LINKED = {
    "$defs": {
        "n": {
            "type": "object",
            "properties": {"v": {"enum": [1, 2]}, "n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
            "required": ["v", "n"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/n",
}

FORMS = [
    ("a schema", lambda: schema_form(BIRD), is_bird),
    ("a number", lambda: schema_form({"type": "integer", "minimum": 5, "maximum": 120}), lambda text: 5 <= int(text) <= 120),
    ("a list that refers to itself", lambda: schema_form(LINKED), lambda text: json.loads(text)["v"] in (1, 2)),
    ("a date", lambda: schema_form({"type": "string", "format": "date"}), lambda text: re.fullmatch(r'"\d{4}-\d\d-\d\d"', text)),
    ("one of several texts", lambda: choice_form(['a "quoted" text', "back\\slash", "é 🙂\nend"]), lambda text: text in ('a "quoted" text', "back\\slash", "é 🙂\nend")),
    ("a regular expression", lambda: regex_form(r"(yes|no), [A-Z][a-z]{2,5}\.(\d+ )?"), lambda text: re.fullmatch(r"(yes|no), [A-Z][a-z]{2,5}\.(\d+ )?", text)),
    ("letters beyond ASCII", lambda: regex_form(r"[а-я]{3}|é+x"), lambda text: re.fullmatch(r"[а-я]{3}|é+x", text)),
    ("a pattern within JSON", lambda: schema_form({"type": "string", "pattern": "[^x]{2,3}"}), lambda text: re.fullmatch("[^x]{2,3}", json.loads(text))),
    ("a long text", lambda: schema_form({"type": "string", "maxLength": 4000}), lambda text: len(json.loads(text)) <= 4000),
    ("a call of one tool", lambda: calls_of("f"), is_call),
    ("a call of one of two", lambda: calls_of("f", "g"), is_call),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("base")


@pytest.fixture(scope="module")
def grammars():
    return Grammars()


def written(constraint, tokenizer, seed: int, limit: int = 300) -> str | None:
    """A text drawn by random logits; None where it has no end within `limit` tokens."""
    generator, ids = torch.Generator().manual_seed(seed), []
    for _ in range(limit):
        if constraint.is_complete():
            return tokenizer.decode(ids)
        logits_V = torch.randn(len(tokenizer) + WIDER, generator=generator)
        logits_V[tokenizer.eos_token_id] += 3
        constraint.mask(logits_V)
        token = int(logits_V.argmax())
        assert token < len(tokenizer)
        constraint.accept(token)
        ids += [token] if token != tokenizer.eos_token_id else []
    return None


@pytest.mark.parametrize(("form", "is_met"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
def test_random_tokens_have_the_form(form, is_met, tokenizer, grammars):
    texts = [
        written(grammars.constraint(form(), tokenizer, [tokenizer.eos_token_id]), tokenizer, seed) for seed in range(8)
    ]
    ended = [text for text in texts if text is not None]
    assert len(ended) >= 6 and all(map(is_met, ended)), ended


def test_any_object_is_one(tokenizer, grammars):
    constraint = grammars.constraint(object_form(), tokenizer, [tokenizer.eos_token_id])
    for text in ('{"a": [1, {"b": null}], "c": "x"}', "{}"):
        constraint = grammars.constraint(object_form(), tokenizer, [tokenizer.eos_token_id])
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            assert constraint.allowed()[token], text
            constraint.accept(token)
        assert constraint.is_complete()
    constraint = grammars.constraint(object_form(), tokenizer, [tokenizer.eos_token_id])
    assert not constraint.allowed()[tokenizer("[", add_special_tokens=False)["input_ids"][0]]


def test_an_answer_may_end_where_more_could_follow_and_must_where_nothing_can(tokenizer, grammars):
    eos, (a,) = tokenizer.eos_token_id, tokenizer("a", add_special_tokens=False)["input_ids"]
    constraint = grammars.constraint(regex_form("a{1,2}"), tokenizer, [eos])
    assert not constraint.allowed()[eos] and not constraint.is_complete()
    constraint.accept(a)
    assert constraint.allowed()[eos] and constraint.allowed()[a] and not constraint.is_complete()
    constraint.accept(a)
    assert constraint.is_complete()


def test_an_end_that_comes_too_early_ends_the_answer_and_not_the_engine(tokenizer, grammars):
    constraint = grammars.constraint(choice_form(["a"]), tokenizer, [tokenizer.eos_token_id])
    logits_V = torch.full((len(tokenizer),), -torch.inf)
    constraint.mask(logits_V)
    assert int(logits_V.argmax()) == tokenizer.eos_token_id
    constraint.accept(tokenizer("b", add_special_tokens=False)["input_ids"][0])
    assert constraint.is_complete()


def test_one_grammar_is_compiled_once_for_equal_tokenizers(tokenizer, monkeypatch):
    compiled = []
    monkeypatch.setattr(constraints, "compile_form", lambda form, compiler: compiled.append(form))
    monkeypatch.setattr(constraints, "GrammarConstraint", lambda *_: None)
    monkeypatch.setattr(Grammars, "num_bytes", lambda self: 0)
    mine = Grammars()
    for one in (tokenizer, load_tokenizer("base"), tokenizer):
        for text in ("a", "b"):
            mine.constraint(choice_form([text]), one, [0])
    assert compiled == [choice_form(["a"]), choice_form(["b"])] and len(mine.vocabularies) == 1


def test_grammars_that_were_not_asked_for_longest_make_room(tokenizer):
    small = Grammars(max_bytes=1)
    for text in ("a", "b"):
        small.constraint(choice_form([text]), tokenizer, [0])
    assert [form for _, form in small.compiled] == [choice_form(["b"])]


BOMBS = [
    ("nested groups", "(" * 500 + "a" + ")" * 500), ("long", "a" * 5000), ("a huge count", "a{1000000}"), ("a huge least count", "(a{2000,}){2000}"),
    ("open", "(a"), ("no expression", "*a"), ("what follows", "a(?=b)"), ("a back reference", r"(a)\1"),
]  # fmt: skip


def test_a_special_token_is_no_text(tokenizer, grammars):
    constraint = grammars.constraint(schema_form({"type": "string"}), tokenizer, [tokenizer.eos_token_id])
    constraint.accept(tokenizer('"', add_special_tokens=False)["input_ids"][0])
    assert not constraint.allowed()[[tokenizer.pad_token_id, tokenizer.eos_token_id]].any()
    assert constraint.allowed()[tokenizer("Crow", add_special_tokens=False)["input_ids"][0]]


@pytest.mark.parametrize("pattern", ['a"b', r"[\x00-\x1f]{2}", '.*"'])
def test_a_pattern_that_would_break_the_json_around_it_is_refused(pattern, tokenizer, grammars):
    with pytest.raises(UserError, match="needs letters that JSON escapes"):
        grammars.constraint(schema_form({"type": "string", "pattern": pattern}), tokenizer, [0])


@pytest.mark.parametrize("pattern", [row[1] for row in BOMBS], ids=[row[0] for row in BOMBS])
def test_an_expression_that_can_not_be_enforced_is_refused(pattern, tokenizer, grammars):
    with pytest.raises(UserError, match="regular expression"):
        grammars.constraint(regex_form(pattern), tokenizer, [0])


def test_what_takes_too_long_to_compile_is_ended(tokenizer, monkeypatch):
    def forever(form):
        while True:
            time.sleep(0)

    monkeypatch.setattr(constraints, "COMPILE_SECONDS", 1)
    monkeypatch.setattr(constraints, "grammar_of", forever)
    with pytest.raises(UserError, match="takes more than 1 seconds"):
        Grammars().constraint(choice_form(["a"]), tokenizer, [0])


def test_a_missing_package_is_one_line(tokenizer, monkeypatch):
    monkeypatch.setattr(constraints.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"answers of a given form need xgrammar; pip install 'ftkit\[serve\]'"):
        Grammars().constraint(choice_form(["a"]), tokenizer, [0])
