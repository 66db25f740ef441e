"""What a request asks of the answer's form: response_format, tools, regular expressions; and the prompt with its tools.

asked = Asked.of(body, version, grammars)       # UserError where it can't be honoured
ids, constraint, reader = asked.prompt_ids(messages), asked.constraint(), asked.reader()
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftkit.config.errors import UserError
from ftkit.data.rows.tools import check_name
from ftkit.data.templates.tools import HERMES, LLAMA, MISTRAL, ToolPlace
from ftkit.data.tokens.tokenization import prompt_ids
from ftkit.inference.batching.constraints import (
    LITERAL,
    Form,
    Grammars,
    Piece,
    choice_form,
    object_form,
    regex_form,
    schema_form,
)
from ftkit.inference.end_tokens import end_token_ids
from ftkit.inference.tool_calls import CallReader

MAX_TOOLS, MAX_CHOICES = 128, 1000
MAX_TEMPLATE_SETTINGS = 16
NO_PARAMETERS = {"type": "object", "properties": {}}
GUIDED = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice"}  # vLLM's former names
CALLS = {  # what stands before and after the arguments of a call, by the name in JSON
    HERMES: ('<tool_call>\n{{"name": {}, "arguments": ', "}\n</tool_call>"),
    LLAMA: ('{{"name": {}, "parameters": ', "}"),
    MISTRAL: ('[TOOL_CALLS][{{"name": {}, "arguments": ', "}]"),
}
REFUSED = {
    "functions": "use tools", "function_call": "use tool_choice", "guided_grammar": "use a regular expression",
    "chat_template": "the server's own renders the messages", "documents": "write them into a message",
}  # fmt: skip
OURS = ("messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template", "documents",
        "conversations", "return_assistant_tokens_mask", "tokenize")  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What a chat request asks of its answer's form. tools: as the template shows them, () for none."""

    version: Any
    grammars: Grammars
    tools: Sequence[Mapping] = ()
    place: ToolPlace | None = None
    form: Form | None = None
    one_call: bool = False
    settings: Mapping = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping, version: Any, grammars: Grammars) -> "Asked":
        """Read the fields of a request. Raises UserError for one that this version, or this server, can't honour."""
        for name, instead in REFUSED.items():
            if body.get(name):
                raise UserError(f"{name} is not supported; {instead}")
        tools, choice = asked_tools(body)
        place = version.voice.template.tools if tools and version.voice.template else None
        if tools and not (place and place.takes_tools and place.style):
            what = "writes calls in a way that is not read back" if place else "has no place for tools"
            raise UserError(f"tools: the template of this model {what}; leave them out")
        form = format_of(body)
        if tools and (choice != "auto" or form):
            calls = calls_form(tools, place, choice)
            form = (*form, *calls) if form and choice == "auto" else calls
        one_call = body.get("parallel_tool_calls") is False
        return cls(version, grammars, tools, place, form, one_call, template_settings(body))

    def prompt_ids(self, messages: Sequence[Mapping], **rendering: bool) -> list[int]:
        """Token ids up to where the answer starts. rendering: add_generation_prompt, continue_final_message."""
        voice = self.version.voice
        if voice.template is None:
            raise UserError(
                f"{self.version.name} has no chat template: start the server with --template NAME, or ask "
                "/v1/completions, which continues a text as it is"
            )
        settings = dict(self.settings)
        if rendering.get("continue_final_message"):
            settings["continue_final_message"] = True
        return prompt_ids(
            messages, voice.tokenizer, voice.template, tools=self.tools, settings=settings,
            add_generation_prompt=rendering.get("add_generation_prompt", True),
        )  # fmt: skip

    def constraint(self):
        """What holds one answer to the form; None where it is free. Raises UserError where no grammar can be made."""
        if self.form is None:
            return None
        voice = self.version.voice
        return self.grammars.constraint(self.form, voice.tokenizer, end_token_ids(voice.tokenizer, voice.template))

    def reader(self) -> CallReader | None:
        """What reads calls out of one answer; None where there are no tools."""
        if not self.tools:
            return None
        names = {tool["function"]["name"] for tool in self.tools}
        return CallReader(self.place.style, names, one_call=self.one_call)


def asked_tools(body: Mapping) -> tuple[list[dict], str]:
    """The tools of a request and which one is to be called: "auto", "required" or a name. None to call: no tools."""
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise UserError(f"tools: must be an array of at most {MAX_TOOLS} functions")
    found = [checked_tool(tool) for tool in tools]
    names = [tool["function"]["name"] for tool in found]
    if len(set(names)) < len(names):
        raise UserError("tools: two functions have one name; rename one")
    if isinstance(choice, Mapping):
        function = choice.get("function")
        choice = check_name(function.get("name") if isinstance(function, Mapping) else None)
        if choice not in names:
            raise UserError(f'tool_choice: no tool is named "{choice}"')
        return found, choice
    if choice not in (None, "none", "auto", "required"):
        raise UserError(
            'tool_choice: must be "none", "auto", "required" or {"type": "function", "function": {"name": ...}}'
        )
    if choice == "required" and not found:
        raise UserError('tool_choice: "required" needs tools')
    return ([] if choice == "none" else found), choice or "auto"


def checked_tool(tool: Any) -> dict:
    """A tool as templates take it."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
        raise UserError('tools: each must be {"type": "function", "function": {"name", "description", "parameters"}}')
    parameters = function.get("parameters") or NO_PARAMETERS
    if not isinstance(parameters, Mapping):
        raise UserError("tools: parameters must be a JSON schema")
    described = {"description": str(function.get("description") or ""), "parameters": parameters}
    return {"type": "function", "function": {"name": check_name(function.get("name")), **described}}


def calls_form(tools: Sequence[Mapping], place: ToolPlace, choice: str) -> Form:
    """An answer that is one call: of any tool, or of the chosen one."""
    before, after = CALLS[place.style]
    alternatives = []
    for function in (tool["function"] for tool in tools):
        if choice in ("auto", "required", function["name"]):
            (arguments,) = schema_form(function["parameters"])
            opens = Piece(LITERAL, before.format(json.dumps(function["name"])))
            alternatives.append((opens, *arguments, Piece(LITERAL, after)))
    return tuple(alternatives)


def format_of(body: Mapping) -> Form | None:
    """The form that response_format, structured_outputs or guided_* ask for. Raises UserError for two of them."""
    asked = dict(mapping(body, "structured_outputs"))
    asked |= {name: body[former] for former, name in GUIDED.items() if body.get(former) is not None}
    asked = {name: value for name, value in asked.items() if value is not None}
    kind = mapping(body, "response_format").get("type", "text")
    if kind != "text":
        asked[kind] = body["response_format"]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(sorted(asked))} both ask for a form of the answer; keep one")
    for name, value in asked.items():
        return form_of(name, value)
    return None


def form_of(name: str, value: Any) -> Form:
    """The form of one of these names."""
    if name == "json_object":
        return object_form()
    if name == "json_schema":
        return schema_form(mapping(value, "json_schema").get("schema"))
    if name == "json":
        return schema_form(parsed(value) if isinstance(value, str) else value)
    if name == "regex" and isinstance(value, str):
        return regex_form(value)
    if name == "choice" and isinstance(value, list) and 0 < len(value) <= MAX_CHOICES:
        if all(isinstance(text, str) and text for text in value):
            return choice_form(value)
    raise UserError(f'the form of answers "{str(name)[:40]}" is not supported, or its value is none')


def parsed(text: str) -> Any:
    """A JSON schema that came as text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("the JSON schema is not JSON") from error


def mapping(body: Mapping, name: str) -> Mapping:
    """An object of a request, {} where it is missing."""
    value = body.get(name) or {}
    if not isinstance(value, Mapping):
        raise UserError(f"{name}: must be an object")
    return value


def template_settings(body: Mapping) -> dict:
    """The variables that a request gives to the template."""
    given = mapping(body, "chat_template_kwargs")
    if len(given) > MAX_TEMPLATE_SETTINGS:
        raise UserError(f"chat_template_kwargs: has more than {MAX_TEMPLATE_SETTINGS} names")
    for name, value in given.items():
        if name in OURS or not name.isidentifier():
            raise UserError(f'chat_template_kwargs: "{name[:40]}" is not a variable of a template')
        if not isinstance(value, bool | int | float | str | None):
            raise UserError(f"chat_template_kwargs: {name[:40]} must be a text, a number, true or false")
    return dict(given)
