"""Values against schemas, with the answers that the specification gives."""

import pytest

from ftkit.metrics.json_schema import check_schema, fits_schema

PERSON = {
    "type": "object",
    "required": ["name", "age"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        "partner": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    },
}


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"name": "Ada", "age": 36}, True),
        ({"name": "Ada", "age": 36.0}, True),  # 36.0 is an integer
        ({"name": "Ada", "age": 36.5}, False),
        ({"name": "Ada", "age": True}, False),  # true is no number
        ({"name": "Ada"}, False),
        ({"name": "ada", "age": 1}, False),
        ({"name": "Ada", "age": -1}, False),
        ({"name": "Ada", "age": 1, "other": 1}, False),
        ({"name": "Ada", "age": 1, "tags": ["a", "b"]}, True),
        ({"name": "Ada", "age": 1, "tags": ["c"]}, False),
        ({"name": "Ada", "age": 1, "tags": ["a", "a", "b"]}, False),
        ({"name": "Ada", "age": 1, "partner": None}, True),
        ({"name": "Ada", "age": 1, "partner": 1}, False),
        ([], False),
    ],
)
def test_values_fit_as_the_specification_says(value, fits):
    check_schema(PERSON)
    assert fits_schema(value, PERSON) is fits


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"properties": {"a": {"typ": "string"}}}, 'unknown keyword "typ"; did you mean "type"'),
        ({"type": "text"}, "which is no rule"),
        ({"anyOf": {"type": "null"}}, "which is no rule"),
        ({"pattern": "("}, "which is no rule"),
        ({"minLength": "3"}, "which is no rule"),
        ([], "a schema is an object, got list"),
    ],
)
def test_a_schema_of_which_a_rule_would_have_no_effect_is_refused(schema, message):
    with pytest.raises(ValueError, match=message):
        check_schema(schema)
