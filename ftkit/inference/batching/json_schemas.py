"""JSON schemas that an answer can be held to: every keyword is honoured or refused by name, and an instance can end.

checked_schema({"type": "object", "properties": {"bird": {"type": "string"}}, "required": ["bird"]})
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftkit.config.errors import UserError

MAX_CHARACTERS, MAX_DEPTH, MAX_SCHEMAS, MAX_REFERENCES, MAX_CHOICES, MAX_REPEATS = 2**16, 32, 1000, 100, 1000, 4096
NOTES = {
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "example", "examples",
    "deprecated", "readOnly", "writeOnly", "discriminator",
}  # fmt: skip
LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
ALONE = ("$ref", "const", "enum", "anyOf", "oneOf", "allOf")  # what stands beside them would not be looked at
ACT = {
    *ALONE, *LENGTHS, *BOUNDS, "type", "properties", "required", "additionalProperties", "items", "prefixItems",
    "pattern", "format",
}  # fmt: skip
FORMATS = (
    "email", "date", "time", "date-time", "duration", "ipv4", "ipv6", "hostname", "uuid", "uri", "uri-reference",
    "uri-template", "json-pointer", "relative-json-pointer",
)  # fmt: skip
TYPES = ("string", "number", "integer", "boolean", "null", "array", "object")
WHERE = "the JSON schema"


def checked_schema(schema: Any) -> str:
    """The schema as JSON, for a grammar.

    Raises UserError for one that is too large, asks for what can't be enforced, or never ends.
    """
    if not isinstance(schema, Mapping):
        raise UserError(f"{WHERE} is no object")
    text = json.dumps(schema)
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{WHERE} has more than {MAX_CHARACTERS:,} characters; simplify it")
    schema = json.loads(text)
    nodes: list[dict] = []
    for node, depth in subschemas(schema, 0):
        nodes.append(node)
        if depth > MAX_DEPTH or len(nodes) > MAX_SCHEMAS:
            raise UserError(f"{WHERE} is nested more than {MAX_DEPTH} deep, or has more than {MAX_SCHEMAS:,} parts")
        check_node(node)
    check_references(schema, nodes)
    if not can_end(schema):
        raise UserError(f"{WHERE} can't be met: a value would have to hold itself without end; make a key optional")
    for node in nodes:  # an object that names no keys may have any, as JSON Schema has it
        if "object" in kinds_of(node) and not node.keys() & {"properties", "additionalProperties"}:
            node["additionalProperties"] = True
    return json.dumps(schema)


def subschemas(node: Any, depth: int) -> Iterator[tuple[dict, int]]:
    """A schema and all below it, each with its depth. Raises UserError for what is no schema."""
    if isinstance(node, bool):
        return
    if not isinstance(node, dict):
        raise UserError(f"{WHERE} holds {json.dumps(node)[:40]} where a schema belongs")
    yield node, depth
    if depth > MAX_DEPTH:
        return
    for name in ("properties", "$defs", "definitions"):
        if not isinstance(children := node.get(name, {}), Mapping):
            raise UserError(f'{WHERE}: "{name}" is no object')
        for child in children.values():
            yield from subschemas(child, depth + 1)
    for name in ("items", "additionalProperties"):
        if name in node:
            yield from subschemas(node[name], depth + 1)
    for name in ("prefixItems", "anyOf", "oneOf", "allOf"):
        if not isinstance(children := node.get(name, []), list):
            raise UserError(f'{WHERE}: "{name}" is no array')
        for child in children:
            yield from subschemas(child, depth + 1)


def check_node(node: Mapping) -> None:
    """Raise UserError for a keyword of one schema that would be ignored, or has no meaning."""
    if unknown := sorted(node.keys() - ACT - NOTES):
        raise UserError(f'{WHERE}: "{unknown[0]}" is not supported; leave it out, and check the answer yourself')
    alone = [name for name in ALONE if name in node]
    beside = node.keys() - NOTES - {*alone[:1]} - ({"type"} if alone[:1] in (["const"], ["enum"]) else set())
    if alone and beside:
        raise UserError(f'{WHERE}: "{alone[0]}" beside "{min(beside)}" is not supported; move one of them')
    if len(node.get("allOf", [0])) != 1:
        raise UserError(f'{WHERE}: "allOf" of several schemas is not supported; write one')
    if len(node.get("anyOf", [0])) == 0 or len(node.get("oneOf", [0])) == 0:
        raise UserError(f"{WHERE} has a choice of nothing")
    if "pattern" in node and (node.keys() & {"format", *LENGTHS}):
        raise UserError(f'{WHERE}: "pattern" beside a length or a format is not supported; write it into the pattern')
    if node.get("format", FORMATS[0]) not in FORMATS:
        raise UserError(f'{WHERE}: the format "{node["format"]}" is not supported; use one of: {", ".join(FORMATS)}')
    if "type" in node and not all(kind in TYPES for kind in kinds_of(node) or [None]):
        raise UserError(f'{WHERE}: "type" is {json.dumps(node["type"])[:40]}; use one of: {", ".join(TYPES)}')
    check_numbers(node)


def kinds_of(node: Mapping) -> list:
    """The types that a schema names."""
    kinds = node.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


def check_numbers(node: Mapping) -> None:
    """Raise UserError for lengths and choices that are too many, or no numbers and lists."""
    for name in LENGTHS:
        value = node.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_REPEATS:
            raise UserError(f'{WHERE}: "{name}" must be a whole number from 0 to {MAX_REPEATS:,}')
    for name in BOUNDS:
        if isinstance(node.get(name, 0), bool) or not isinstance(node.get(name, 0), int | float):
            raise UserError(f'{WHERE}: "{name}" must be a number')
    choices = node.get("enum", [None])
    if not isinstance(choices, list) or not 0 < len(choices) <= MAX_CHOICES:
        raise UserError(f'{WHERE}: "enum" must be an array of 1 to {MAX_CHOICES:,} values')
    required = node.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise UserError(f'{WHERE}: "required" must be an array of names')
    if missing := set(required) - {*node.get("properties", ())}:
        raise UserError(f'{WHERE} requires "{min(missing)[:40]}" and does not describe it; add it to "properties"')
    if not isinstance(node.get("pattern", ""), str):
        raise UserError(f'{WHERE}: "pattern" must be a text')


def check_references(root: Mapping, nodes: Sequence[Mapping]) -> None:
    """Raise UserError for references to what is no schema, and for too many of them."""
    references = {str(node["$ref"]) for node in nodes if "$ref" in node}
    if len(references) > MAX_REFERENCES:
        raise UserError(f"{WHERE} refers to more than {MAX_REFERENCES} of its parts; simplify it")
    known = set(map(id, nodes))
    for reference in references:
        if id(resolved(reference, root)) not in known:
            raise UserError(f'{WHERE}: "$ref": "{reference[:80]}" names no schema; write it below "$defs"')


def resolved(reference: str, root: Mapping) -> Any:
    """What a reference names. Raises UserError where there is nothing in this very schema."""
    if not reference.startswith("#"):
        raise UserError(f'{WHERE}: "$ref" must name a part of the schema itself, such as "#/$defs/Bird"')
    node: Any = root
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, Mapping) or name not in node:
            raise UserError(f'{WHERE}: "$ref": "{reference[:80]}" names nothing; write it below "$defs"')
        node = node[name]
    return node


def can_end(root: Mapping) -> bool:
    """Whether a value of finite size meets the schema: not where each one requires another of its kind."""
    references = {node["$ref"] for node, _ in subschemas(root, 0) if "$ref" in node}
    ending: set[str] = set()
    while found := {name for name in references - ending if ends(resolved(name, root), ending)}:
        ending |= found
    return ends(root, ending)


def ends(node: Any, ending: set[str]) -> bool:
    """Whether a value of finite size meets a schema, given the references of which that is known."""
    if not isinstance(node, Mapping):
        return True
    if "$ref" in node:
        return node["$ref"] in ending
    for name, decide in (("anyOf", any), ("oneOf", any), ("allOf", all)):
        if name in node:
            return decide(ends(child, ending) for child in node[name])
    named = kinds_of(node) or ["object" if "properties" in node else "array" if "items" in node else "string"]
    return any(kind_ends(kind, node, ending) for kind in named)


def kind_ends(kind: str, node: Mapping, ending: set[str]) -> bool:
    """As `ends`, for a value of one type."""
    if kind == "object":
        properties = node.get("properties", {})
        return all(ends(properties.get(name), ending) for name in node.get("required", []))
    if kind == "array" and (least := node.get("minItems", 0)):
        first = node.get("prefixItems", [])[:least]
        return all(ends(child, ending) for child in [*first, *[node.get("items")][: least - len(first)]])
    return True
