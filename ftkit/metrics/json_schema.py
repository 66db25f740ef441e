"""Whether a JSON value fits a schema: the part of JSON Schema that describes a record, and nothing of it overlooked.

check_schema({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}})
fits_schema({"name": "Ada"}, schema)

A keyword that is not known here is refused when the schema is read, so that no rule is without effect.
Source: https://json-schema.org/draft/2020-12/json-schema-validation
"""

import math
import re

from ftkit.config.errors import did_you_mean

TYPES = {
    "object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool,
    "null": type(None),
}  # fmt: skip
NOTES = ("$schema", "$id", "title", "description", "default", "examples")  # which ask for nothing


def is_type(value, name: str) -> bool:
    """Whether a value has a JSON type; true is no number, and 1.0 is an integer."""
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def equal(one, other) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def as_list(value) -> list:
    """A list as it is, and any other value as a list of one."""
    return value if isinstance(value, list) else [value]


def fits_properties(value: dict, schema: dict) -> bool:
    """Whether the members of an object fit, those that are named and those that are not."""
    named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    return all(fits_schema(item, named.get(name, others)) for name, item in value.items())


# Keyword -> the types of values it is about, and whether (value, what the schema gives, the whole schema) fits.
KEYWORDS = {
    "type": (object, lambda value, given, schema: any(is_type(value, name) for name in as_list(given))),
    "enum": (object, lambda value, given, schema: any(equal(value, one) for one in given)),
    "const": (object, lambda value, given, schema: equal(value, given)),
    "anyOf": (object, lambda value, given, schema: any(fits_schema(value, one) for one in given)),
    "allOf": (object, lambda value, given, schema: all(fits_schema(value, one) for one in given)),
    "required": (dict, lambda value, given, schema: all(name in value for name in given)),
    "properties": (dict, lambda value, given, schema: fits_properties(value, schema)),
    "additionalProperties": (dict, lambda value, given, schema: fits_properties(value, schema)),
    "items": (list, lambda value, given, schema: all(fits_schema(item, given) for item in value)),
    "minItems": (list, lambda value, given, schema: len(value) >= given),
    "maxItems": (list, lambda value, given, schema: len(value) <= given),
    "minLength": (str, lambda value, given, schema: len(value) >= given),
    "maxLength": (str, lambda value, given, schema: len(value) <= given),
    "pattern": (str, lambda value, given, schema: re.search(given, value) is not None),
    "minimum": ((int, float), lambda value, given, schema: value >= given),
    "maximum": ((int, float), lambda value, given, schema: value <= given),
}
LISTS, ONE, NAMED = ("anyOf", "allOf"), ("items", "additionalProperties"), "properties"  # of schemas inside


def fits_schema(value, schema: dict | bool) -> bool:
    """Whether a JSON value fits a schema that `check_schema` took."""
    if isinstance(schema, bool):
        return schema
    rules = ((KEYWORDS[name], given) for name, given in schema.items() if name in KEYWORDS)
    return all(not applies(value, kind) or bool(fits(value, given, schema)) for (kind, fits), given in rules)


def applies(value, kind) -> bool:
    """Whether a keyword of these types says anything of a value; true is no number."""
    return isinstance(value, kind) and not (isinstance(value, bool) and kind == (int, float))


def check_schema(schema) -> None:
    """Raise ValueError for what is no schema, and for a keyword or type that is not known here."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError(f"a schema is an object, got {type(schema).__name__}")
    for name, given in schema.items():
        if name not in (*KEYWORDS, *NOTES):
            hint = did_you_mean(name, KEYWORDS) or f"; allowed: {', '.join(KEYWORDS)}"
            raise ValueError(f'unknown keyword "{name}"{hint}')
        for part in schemas_in(name, given):
            check_schema(part)
        if not is_rule(name, given):
            raise ValueError(f'"{name}" is {given!r}, which is no rule')


def schemas_in(name: str, given) -> list:
    """The schemas inside of a keyword's value."""
    if name in LISTS and isinstance(given, list):
        return given
    if name == NAMED and isinstance(given, dict):
        return list(given.values())
    return [given] if name in ONE else []


def is_rule(name: str, given) -> bool:
    """Whether a keyword may have this value."""
    if name == "type":
        return all(isinstance(one, str) and one in TYPES for one in as_list(given))
    if name == NAMED:
        return isinstance(given, dict)
    if name in LISTS:
        return isinstance(given, list)
    if name in ("enum", "required"):
        return isinstance(given, list) and (name == "enum" or all(isinstance(one, str) for one in given))
    if name == "pattern":
        try:
            return isinstance(given, str) and re.compile(given) is not None
        except re.error:
            return False
    if name.startswith(("min", "max")):
        return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    return True
