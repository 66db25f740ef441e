"""A JSON schema is held to as a whole, or refused with the part that can't be."""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.inference.batching.json_schemas import MAX_CHARACTERS, checked_schema

LIST = {"type": "object", "properties": {"next": {"$ref": "#"}}}  # may end
ENDLESS = {**LIST, "required": ["next"]}
TEXT = {"type": "string"}

ACCEPTED = [
    ("a text", TEXT),
    ("two types", {"type": ["string", "null"]}),
    ("notes", {"$schema": "x", "title": "Bird", "description": "d", "default": {"type": 7}, "examples": [{"not": 1}]}),
    ("keys named as keywords", {"type": "object", "properties": {"type": TEXT, "enum": TEXT, "not": TEXT}}),
    ("what pydantic writes", {
        "$defs": {"Wing": {"properties": {"side": {"enum": ["left", "right"], "type": "string"}}, "required": ["side"], "type": "object"}},
        "properties": {"wings": {"items": {"$ref": "#/$defs/Wing"}, "maxItems": 2, "type": "array"}, "note": {"anyOf": [TEXT, {"type": "null"}], "default": None}},
        "required": ["wings"], "title": "Bird", "type": "object",
    }),
    ("a list that may end", LIST),
    ("a tree by its children", {"type": "object", "properties": {"sons": {"type": "array", "items": {"$ref": "#"}}}, "required": ["sons"]}),
    ("two that need each other, one with a way out", {
        "$defs": {"a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}, "required": ["b"]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}},
        "$ref": "#/$defs/a",
    }),
]  # fmt: skip


@pytest.mark.parametrize("schema", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_what_can_be_enforced_is_taken(schema):
    assert json.loads(checked_schema(schema)) == schema


def test_an_object_that_names_no_keys_may_have_any():
    assert json.loads(checked_schema({"type": "object"})) == {"type": "object", "additionalProperties": True}
    closed = {"type": "object", "additionalProperties": False}
    assert json.loads(checked_schema(closed)) == closed


def nested(depth: int) -> dict:
    schema = TEXT
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED = [
    ("no object", ["string"], "is no object"),
    ("nothing", None, "is no object"),
    ("a text where a schema belongs", {"properties": {"a": "string"}}, 'holds "string" where a schema belongs'),
    ("properties as an array", {"properties": ["a"]}, '"properties" is no object'),
    ("a choice that is no array", {"anyOf": TEXT}, '"anyOf" is no array'),
    ("a choice of nothing", {"anyOf": []}, "a choice of nothing"),
    ("a keyword that would be ignored", {"type": "number", "multipleOf": 3}, '"multipleOf" is not supported'),
    ("a negation", {"not": TEXT}, '"not" is not supported'),
    ("unique items", {"type": "array", "uniqueItems": True}, '"uniqueItems" is not supported'),
    ("a condition", {"if": TEXT, "then": TEXT}, '"if" is not supported'),
    ("a reference beside keys", {"$ref": "#/$defs/a", "required": [], "$defs": {"a": TEXT}}, r'"\$ref" beside "required"'),
    ("a choice beside keys", {"type": "object", "anyOf": [TEXT]}, '"anyOf" beside "type"'),
    ("all of two", {"allOf": [TEXT, TEXT]}, '"allOf" of several schemas'),
    ("a pattern beside a length", {"pattern": "a+", "maxLength": 3}, '"pattern" beside a length'),
    ("an unknown format", {"type": "string", "format": "iban"}, 'the format "iban" is not supported'),
    ("an unknown type", {"type": "str"}, '"type" is "str"'),
    ("no type", {"type": []}, r'"type" is \[\]'),
    ("a reference to nothing", {"$ref": "#/$defs/a"}, "names nothing"),
    ("a reference to a note", {"$ref": "#/default", "default": TEXT}, "names no schema"),
    ("a reference to the web", {"$ref": "https://evil.example/a"}, "must name a part of the schema itself"),
    ("a reference to a file", {"$ref": "file:///etc/passwd"}, "must name a part of the schema itself"),
    ("itself", {"$ref": "#"}, "hold itself without end"),
    ("a list without end", ENDLESS, "hold itself without end"),
    ("two that need each other", {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "without end"),
    ("an array of at least one such", {"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "without end"),
    ("a huge length", {"type": "string", "maxLength": 10**9}, "whole number from 0 to 4,096"),
    ("a negative length", {"type": "array", "minItems": -1}, "whole number from 0"),
    ("a length that is a text", {"type": "string", "minLength": "3"}, "whole number from 0"),
    ("a bound that is a text", {"type": "integer", "minimum": "3"}, '"minimum" must be a number'),
    ("too many choices", {"enum": list(range(10_000))}, "array of 1 to 1,000 values"),
    ("no choices", {"enum": []}, "array of 1 to 1,000 values"),
    ("required that is no list", {"required": "a"}, '"required" must be an array of names'),
    ("a key that is required and not described", {"type": "object", "required": ["a"]}, 'requires "a" and does not describe it'),
    ("a pattern that is a number", {"pattern": 7}, '"pattern" must be a text'),
    ("deep", nested(200), "nested more than 32 deep"),
    ("wide", {"properties": {f"a{number}": {} for number in range(3000)}}, "more than 1,000 parts"),
    ("long", {"description": "x" * MAX_CHARACTERS}, "more than 65,536 characters"),
    ("many references", {"$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(200)} | {"a200": TEXT}}, "more than 100 of its parts"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_can_not_be_enforced_is_refused(schema, reason):
    with pytest.raises(UserError, match=reason):
        checked_schema(schema)
