"""No text of a conversation with tools forges a turn, a call or a result: users' texts, results, names, arguments,
descriptions and thoughts, hostile ones too."""

import copy
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import trl

from ftkit.data.rows.thoughts import TAGS
from ftkit.data.rows.tools import with_tools
from ftkit.data.templates.rendering import render
from ftkit.data.templates.templates import forbidden_strings, install_template, prepare_messages
from ftkit.data.tokens.tokenization import prompt_ids, tokenize_rows

TEMPLATES = ("chatml", "llama3", "qwen3", "qwen2_5", "llama3_1", "gptoss")
GLUE = ("\n", "\n\n", " ", "\u2060", "user", "assistant\n", "ipython", "functions.add", "a", "<|", "|>", "<", ">", "</", '"}',
        '{"name": "add", "arguments": {}}', "é", "\u2028", "tool_call", "\\", '"')  # fmt: skip
NUM_CONVERSATIONS, NUM_SAMPLED = 10_000, 50  # of all templates together; rendered as a whole in the default suite


@pytest.fixture(scope="module")
def installed(trained_bpe):
    made = {}

    def get(name):
        if name not in made:
            tokenizer = copy.deepcopy(trained_bpe)
            if name in ("chatml", "llama3"):
                made[name] = tokenizer, install_template(tokenizer, name, add_tokens=True)
            else:
                source = (Path(trl.__file__).parent / f"chat_templates/{name}.jinja").read_text(encoding="utf-8")
                tokens = sorted(set(re.findall(r"<[|｜][^<>'\" ]+[|｜]>", source)))
                tokenizer.add_special_tokens({"additional_special_tokens": tokens})
                tokenizer.chat_template = source
                made[name] = tokenizer, install_template(tokenizer)
        return made[name]

    return get


def conversation(text, said, may_think: bool) -> tuple[list[dict], list[dict]]:
    """A question, a call, its result and an answer, all texts of which `text()` writes, but for the answer, which is
    `said()`; and the tools."""
    thought = {"reasoning_content": text()} if may_think else {}
    call = {
        "type": "function",
        "function": {"name": "add", "arguments": {text(): text(), "b": [text(), {"c": text()}]}},
    }
    messages = [
        {"role": "system", "content": text()},
        {"role": "user", "content": text()},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "add", "content": text()},
        {"role": "assistant", "content": said()} | thought,
        {"role": "user", "content": text()},
    ]
    schema = {"type": "object", "properties": {text(): {"type": "string", "description": text()}}}
    return messages, [{"type": "function", "function": {"name": "add", "description": text(), "parameters": schema}}]


def structure(text: str, tokenizer, info) -> Counter:
    """How often each token and mark of the template stands in a text."""
    strings = {*info.control_strings, *info.markers, *info.tools.marks, *(TAGS if info.has_thoughts else ())}
    return Counter({string: text.count(string) for string in strings if len(string) > 1})


def hostile(info, draw: random.Random, role: str = "user"):
    """Writes texts of pieces of the template's structure. role: an answer may hold the marks of calls that are not read
    out of it: they are what the model wrote."""
    pieces = [*forbidden_strings(info, role), *TAGS, *GLUE, *GLUE]
    return lambda: "x" + "".join(draw.choice(pieces) for _ in range(draw.randint(1, 8))) + "x"


def check(name, number, installed) -> None:
    tokenizer, info = installed(name)
    draw = random.Random(number)
    messages, tools = conversation(hostile(info, draw), hostile(info, draw, "assistant"), info.has_thoughts)
    harmless, plain = conversation(*[lambda: f"x{draw.randint(0, 9**9)}x"] * 2, info.has_thoughts)
    texts = [
        render(prepare_messages(with_tools(*both), tokenizer, info)[0], tokenizer, True)
        for both in ((messages, tools), (harmless, plain))
    ]
    counts = [structure(text, tokenizer, info) for text in texts]
    assert counts[0] == counts[1], (name, number)


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_text_beside_tools_forges_structure(name, installed):
    for number in range(NUM_SAMPLED):
        check(name, number, installed)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_no_text_beside_tools_forges_structure_in_ten_thousand(name, installed):
    for number in range(NUM_CONVERSATIONS // len(TEMPLATES) + 1):
        check(name, number, installed)


def test_no_text_survives_the_neutraliser_as_structure_in_ten_thousand(installed):
    for name in TEMPLATES:
        tokenizer, info = installed(name)
        text = hostile(info, random.Random(0))
        for _ in range(NUM_CONVERSATIONS // len(TEMPLATES) + 1):
            turns = [{"role": role, "content": text()} for role in ("user", "tool")]
            for turn in prepare_messages(turns, tokenizer, info)[0]:
                assert not +structure(turn["content"], tokenizer, info), (name, turn)


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_a_forged_result_is_context_and_what_is_asked_is_what_was_trained(name, installed):
    tokenizer, info = installed(name)
    text = hostile(info, random.Random(1))
    messages, tools = conversation(text, text, True)
    row = {"messages": with_tools(messages[:5], tools)}
    (tokens,) = tokenize_rows([row], tokenizer, info, None).rows
    prompt = prompt_ids(messages[:4], tokenizer, info, tools=tools)
    assert tokens["input_ids"][: len(prompt)] == prompt
    assert tokens["labels"][len(prompt)] == tokens["input_ids"][len(prompt)]
