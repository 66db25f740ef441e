"""Thirteen public forms of rows, tools and thoughts among them, become the tokens that the published templates render and
the masks that cover exactly the answers and their calls; a template without a place refuses them by name."""

import copy
import json
import re
from pathlib import Path

import pytest
import trl

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import stop
from ftkit.data.reading.records import Record
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.conversion import answered, convert_row
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.rows.kinds import KTO, PREFERENCES
from ftkit.data.templates.lock import make_lock, verify_lock, write_lock
from ftkit.data.templates.templates import install_template
from ftkit.data.tokens.receipt import build_receipt
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.data.tokens.tokenization import IGNORE_INDEX, prompt_ids, tokenize_rows, trained_answers

ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}
TOOL = {"type": "function", "function": ADD}
SYSTEM = {"role": "system", "content": "Be brief."}
ASK, SAY = {"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "It is 5."}
MORE, LAST = {"role": "user", "content": "And doubled?"}, {"role": "assistant", "content": "10."}
RESULT = {"role": "tool", "content": "5"}
WRITTEN_CALL = {"name": "add", "arguments": {"a": 2, "b": 3}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": WRITTEN_CALL}]}
WITH_ID = {"id": "call00001", "type": "function", "function": WRITTEN_CALL}
AS_JSON = {**WITH_ID, "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
THOUGHT = {"reasoning_content": "2 and 3."}
OBSERVED = {"from": "observation", "value": "5"}
HERMES_SYSTEM = (
    "Be brief.\nYou are a function calling AI model. You are provided with function signatures within <tools> </tools> "
    f"XML tags.\n<tools>\n{json.dumps([TOOL])}\n</tools>\nFor each function call return a JSON object within "
    "<tool_call> </tool_call> tags:\n<tool_call>\n{'name': <function-name>, 'arguments': <args-dict>}\n</tool_call>"
)


def human(text: str) -> dict:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict:
    return {"from": "gpt", "value": text}


# name: (row as published, kind, the messages it is, its tools, places of the answers that are trained)
FORMS = {
    "openai tools": (
        {"messages": [SYSTEM, ASK, {"role": "assistant", "content": None, "tool_calls": [AS_JSON]},
                      {**RESULT, "tool_call_id": "call00001"}, SAY], "tools": [TOOL]},
        CONVERSATIONS,
        [SYSTEM, ASK, {**CALL, "tool_calls": [WITH_ID]}, {**RESULT, "tool_call_id": "call00001"}, SAY], [TOOL], [2, 4]),
    "openai functions": (
        {"messages": [ASK, {"role": "assistant", "content": None, "function_call": AS_JSON["function"]},
                      {"role": "function", "name": "add", "content": "5"}, SAY], "functions": [ADD]},
        CONVERSATIONS, [ASK, CALL, {**RESULT, "name": "add"}, SAY], [TOOL], [1, 3]),
    "sharegpt function_call and observation": (
        {"conversations": [human("What is 2 + 3?"), {"from": "function_call", "value": json.dumps(WRITTEN_CALL)},
                           OBSERVED, gpt("It is 5.")], "system": "Be brief.", "tools": json.dumps([ADD])},
        CONVERSATIONS, [SYSTEM, ASK, CALL, RESULT, SAY], [TOOL], [2, 4]),
    "hermes": (
        {"conversations": [{"from": "system", "value": HERMES_SYSTEM}, human("What is 2 + 3?"),
                           gpt(f"<tool_call>\n{WRITTEN_CALL}\n</tool_call>"),
                           {"from": "tool", "value": "<tool_response>\n5\n</tool_response>"}, gpt("It is 5.")]},
        CONVERSATIONS, [SYSTEM, ASK, CALL, RESULT, SAY], [TOOL], [2, 4]),
    "xlam": (
        {"id": 3, "query": "What is 2 + 3?", "tools": json.dumps([ADD]), "answers": json.dumps([WRITTEN_CALL])},
        CONVERSATIONS, [ASK, CALL], [TOOL], [1]),
    "prompt and completion with tools": (
        {"prompt": [ASK], "completion": [CALL, {**RESULT, "name": "add"}, SAY], "tools": [TOOL]},
        CONVERSATIONS, [ASK, CALL, {**RESULT, "name": "add"}, SAY], [TOOL], [1, 3]),
    "reasoning_content": (
        {"messages": [ASK, SAY | THOUGHT]}, CONVERSATIONS, [ASK, SAY | THOUGHT], [], [1]),
    "sharegpt with a thought in its text": (
        {"conversations": [human("What is 2 + 3?"), gpt("<think>\n2 and 3.\n</think>\n\nIt is 5.")]},
        CONVERSATIONS, [ASK, SAY | THOUGHT], [], [1]),
    "alpaca with a history": (
        {"instruction": "And doubled?", "input": "", "output": "10.", "history": [["What is 2 + 3?", "It is 5."]]},
        CONVERSATIONS, [ASK, SAY, MORE, LAST], [], [1, 3]),
    "messages with a weight": (
        {"messages": [ASK, SAY | {"weight": 0}, MORE, LAST | {"weight": 1}]},
        CONVERSATIONS, [ASK, SAY, MORE, LAST], [], [3]),
    "preference with tools": (
        {"conversations": [human("What is 2 + 3?")], "tools": json.dumps([ADD]),
         "chosen": {"from": "function_call", "value": json.dumps(WRITTEN_CALL)}, "rejected": gpt("It is 5.")},
        PREFERENCES, [ASK, CALL], [TOOL], [1]),
    "calls without a list of tools": (
        {"messages": [ASK, CALL, RESULT, SAY]}, CONVERSATIONS, [ASK, CALL, RESULT, SAY], [], [1, 3]),
    "kto messages": (
        {"prompt": [SYSTEM, ASK], "completion": [SAY], "label": True}, KTO, [SYSTEM, ASK, SAY], [], [2]),
}  # fmt: skip
NAMES = tuple(FORMS)
TOOL_FORMS = tuple(name for name, form in FORMS.items() if form[3])
IN_TEXT = "sharegpt with a thought in its text"
THOUGHT_FORMS = ("reasoning_content",)  # one in the text is a part of the answer where there is no place
PUBLISHED = {  # by template of TRL's: the forms that it refuses, with what is said of them
    "qwen3": {},
    "llama3_1": dict.fromkeys(THOUGHT_FORMS, "has no place for thoughts"),
    "deepseekv3": dict.fromkeys(TOOL_FORMS, "has no place for tools") | dict.fromkeys(THOUGHT_FORMS, "no place for thou"),
    "gptoss": {},
    "phi3": {"calls without a list of tools": "has no place for tool calls"}
    | dict.fromkeys(TOOL_FORMS, "has no place for tools") | dict.fromkeys(THOUGHT_FORMS, "no place for thoughts"),
}  # fmt: skip


def published(name: str) -> str:
    return (Path(trl.__file__).parent / f"chat_templates/{name}.jinja").read_text(encoding="utf-8")


def read(name: str) -> dict:
    """The row of a form as ftkit reads it; of a pair the chosen answer, of which alone is asked here."""
    values, kind, *_ = FORMS[name]
    (row,) = RowChecker("f", kind, report=stop).rows([Record(values, 3)])
    if "prompt" in row:
        row = answered(row["prompt"], row["chosen" if "chosen" in row else "completion"]) | {"source": row["source"]}
    return row


def with_published(tokenizer, template: str):
    """The tokenizer with a published template and its control tokens, and what is known of it."""
    source = published(template)
    tokens = sorted(set(re.findall(r"<[|｜][^<>'\" ]+[|｜]>", source)))
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.chat_template = source
    return tokenizer, install_template(tokenizer)


@pytest.fixture(scope="module", params=["bpe", pytest.param("smollm2", marks=pytest.mark.smollm2)])
def base(request):
    return request.getfixturevalue({"bpe": "trained_bpe", "smollm2": "loaded_smollm2"}[request.param])


@pytest.fixture(scope="module", params=PUBLISHED)
def installed(request, base):
    return (request.param, *with_published(copy.deepcopy(base), request.param))


def as_text(messages: list[dict]) -> list[dict]:
    """The messages with the arguments of their calls as JSON."""
    written = copy.deepcopy(messages)
    for call in (call for turn in written for call in turn.get("tool_calls", ())):
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return written


def expected(template, tokenizer, info, form) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) by transformers' own rendering: each answer from where its prompt ends to its end token; by TRL's
    training variant, where that is used, what it marks."""
    _, _, messages, tools, trained = FORMS[form]
    if form == IN_TEXT and not info.has_thoughts:
        messages = [ASK, {"role": "assistant", "content": "<think>\n2 and 3.\n</think>\n\nIt is 5."}]
    messages = [
        turn | ({"thinking": turn["reasoning_content"]} if "reasoning_content" in turn else {}) for turn in messages
    ]
    given = {"tools": tools or None, "return_dict": True}
    if info.trains_with == "trl":
        found = tokenizer.apply_chat_template(
            messages, chat_template=published(f"{template}_training"), return_assistant_tokens_mask=True, **given
        )
        ids, mask = found["input_ids"], found["assistant_masks"]
        own = as_text(messages) if template == "deepseekv3" else messages  # which takes arguments as text alone
        assert ids == tokenizer.apply_chat_template(own, **given)["input_ids"]
        starts = [place for place, one in enumerate(mask) if one and not (place and mask[place - 1])]
        answers = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
        assert len(starts) == len(answers)
        bounds = [*starts[1:], len(ids)]
        labels = [IGNORE_INDEX] * len(ids)
        for answer, start, end in zip(answers, starts, bounds, strict=True):
            for place in range(start, end) if answer in trained else ():
                labels[place] = ids[place] if mask[place] else IGNORE_INDEX
        return [(ids, labels)]
    given = {"tools": tools or None, "tokenize": False}
    whole, spans = tokenizer.apply_chat_template(messages, **given), []
    for place in trained:
        prompt = tokenizer.apply_chat_template(messages[:place], add_generation_prompt=True, **given)
        through = tokenizer.apply_chat_template(messages[: place + 1], **given)
        assert through.startswith(prompt)
        end = through.index(info.end_of_turn, len(prompt)) + len(info.end_of_turn)
        spans.append((through, len(prompt), end))
    if all(whole.startswith(text[:end]) for text, _, end in spans):
        spans = [(whole, *span[1:]) for span in spans]
    found = {}
    for text, start, end in spans:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = encoded["input_ids"]
        labels = found.setdefault(text, (ids, [IGNORE_INDEX] * len(ids)))[1]
        for place, (first, last) in enumerate(encoded["offset_mapping"]):
            if last > start and first < end:
                labels[place] = ids[place]
    return list(found.values())


@pytest.mark.parametrize("form", NAMES)
def test_a_public_form_becomes_the_published_tokens_and_masks(installed, form):
    template, tokenizer, info = installed
    row = read(form)
    if form in PUBLISHED[template]:
        with pytest.raises(UserError, match=f"^f:3: the template auto .*{PUBLISHED[template][form]}.*; use --template"):
            tokenize_rows([row], tokenizer, info, None)
        return
    rows = tokenize_rows([row], tokenizer, info, None).rows
    assert [(one["input_ids"], one["labels"]) for one in rows] == expected(template, tokenizer, info, form)


def test_the_row_is_the_messages_that_the_form_means():
    for name, (_, _, messages, tools, trained) in FORMS.items():
        row = read(name)
        turns = row["messages"]
        if tools:
            assert turns[0]["role"] == "system" and turns[0].pop("tools") == tools, name
            turns = turns if turns[0]["content"] else turns[1:]
        if name == "preference with tools":  # an answer as one text
            assert turns[1]["content"] == f"<tool_call>\n{json.dumps(WRITTEN_CALL)}\n</tool_call>"
            turns = messages
        if name == IN_TEXT:
            turns = [turns[0], messages[1]]
        assert turns == messages, name
        untrained = [place - len(row["messages"]) + len(messages) for place in row.get("untrained", ())]
        answers = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
        assert [place for place in answers if place not in untrained] == trained, name


TARGETS = ("messages", "sharegpt", "prompt_completion")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if form[1] is CONVERSATIONS])
def test_a_converted_row_keeps_tools_calls_and_thoughts(form, target):
    row = {name: value for name, value in read(form).items() if name != "source"}
    (written,) = convert_row(row, target)
    checker = RowChecker("f", CONVERSATIONS, report=stop)
    (again,) = checker.rows([Record(json.loads(json.dumps(written)), 3)])
    assert {name: value for name, value in again.items() if name != "source"} == row
    assert checker.columns.ignored_columns() == []


def test_a_converted_pair_has_its_tools_in_a_column_and_its_calls_apart():
    values, kind, *_ = FORMS["preference with tools"]
    (row,) = RowChecker("f", kind, report=stop).rows([Record(values, 3)])
    (written,) = convert_row(row, "preference")
    assert written == {"prompt": [ASK], "chosen": [CALL], "rejected": [SAY], "tools": [TOOL]}
    assert [one["label"] for one in convert_row(row, "kto")] == [True, False]


OWN = [(template, form) for template in ("chatml", "llama3") for form in NAMES]


@pytest.mark.parametrize(("template", "form"), OWN)
def test_our_templates_train_calls_and_answers_and_no_result(bpe, template, form):
    info = install_template(bpe, template)
    row = read(form)
    (tokens,) = tokenize_rows([row], bpe, info, None).rows
    spans, was_trained = [], False
    for id, label in zip(tokens["input_ids"], tokens["labels"], strict=True):
        spans += [[]] if label != IGNORE_INDEX and not was_trained else []
        if was_trained := label != IGNORE_INDEX:
            spans[-1].append(id)
    written = json.dumps(WRITTEN_CALL)
    call = {
        "chatml": f"<tool_call>\n{written}\n</tool_call>", "llama3": written.replace('"arguments"', '"parameters"')
    }[template]  # fmt: skip
    _, _, messages, _, trained = FORMS[form]
    said = []
    for turn in (messages[place] for place in trained):
        thought = "<think>\n2 and 3.\n</think>\n\n" if "reasoning_content" in turn else ""
        said.append(thought + (call if "tool_calls" in turn else turn["content"]) + info.end_of_turn)
    assert [bpe.decode(span) for span in spans] == said
    first = trained_answers(row)[0]  # what is asked is the beginning of what is trained
    prompt = prompt_ids(row["messages"][:first], bpe, info)
    assert tokens["input_ids"][: len(prompt)] == prompt
    assert all(label == IGNORE_INDEX for label in tokens["labels"][: len(prompt)])


@pytest.mark.parametrize("form", TOOL_FORMS)
def test_chatml_shows_tools_as_qwen_does(bpe, form):
    _, _, messages, tools, _ = FORMS[form]
    ours = copy.deepcopy(bpe)
    info = install_template(ours, "chatml")
    bpe.chat_template = published("qwen3")
    text = ours.decode(prompt_ids(messages[:-1], ours, info, tools=tools))
    theirs = bpe.apply_chat_template(messages[:-1], tools=tools, add_generation_prompt=True, tokenize=False)
    assert text.replace(info.end_of_turn, "<|im_end|>") == theirs


def test_the_receipt_counts_calls_and_results(bpe):
    info = install_template(bpe, "chatml")
    rows = [read(name) for name in ("openai tools", "xlam")]
    tokenized = tokenize_rows(rows, bpe, info, None)
    text = format_receipt(build_receipt(tokenized.rows, bpe, info, tokenized))
    assert "tools      2 calls trained, 1 result not" in text


def test_a_row_whose_history_the_template_rewrites_is_one_sequence_for_each_answer(bpe):
    tokenizer, info = with_published(bpe, "qwen3")
    row = read("alpaca with a history")
    tokenized = tokenize_rows([row, read("xlam")], tokenizer, info, None)
    assert (tokenized.kept, tokenized.num_rows, tokenized.num_parts) == ([0, 0, 1], 2, 2)
    text = format_receipt(build_receipt(tokenized.rows, tokenizer, info, tokenized))
    assert "unfolded   2 sequences, one per answer: the template renders earlier answers differently" in text


@pytest.mark.parametrize("template", ["chatml", "llama3"])
def test_the_lock_holds_the_rendering_of_tools(bpe, tmp_path, template):
    install_template(bpe, template)
    lock = make_lock(bpe, template)
    assert sum("tools" in case["messages"][0] for case in lock["golden"] if "messages" in case) == 2
    write_lock(tmp_path, lock)
    verify_lock(tmp_path, bpe)
    mark = {"chatml": "<tool_response>", "llama3": "ipython"}[template]
    bpe.chat_template = bpe.chat_template.replace(mark, "other")
    with pytest.raises(UserError, match="it was trained with different tokens"):
        verify_lock(tmp_path, bpe)


WRONG = [
    ("tools that are no JSON", {"messages": [ASK, SAY], "tools": "add"}, '"tools" is a text, but not JSON; correct it'),
    ("tools that are a number", {"messages": [ASK, SAY], "tools": 3}, '"tools" must be a list of functions, got int'),
    ("a tool without a name", {"messages": [ASK, SAY], "tools": [{"description": "f"}]}, '"tools": the name of a function'),
    ("two of one name", {"messages": [ASK, SAY], "tools": [ADD, TOOL]}, '"tools" has two functions of the name "add"'),
    ("two columns", {"messages": [ASK, SAY], "tools": [ADD], "functions": [ADD]}, "tools and functions both hold tools"),
    ("a call of none", {"messages": [ASK, CALL], "tools": [{**ADD, "name": "ad"}]},
     'turn 2 calls "add", which is none of the tools; did you mean "ad"?'),
    ("arguments that are no JSON", {"messages": [ASK, {**CALL, "tool_calls": [{"name": "add", "arguments": "{a"}]}]},
     "turn 2: tool_calls: the arguments of a call are not JSON"),
    ("a function_call that is no call", {"conversations": [human("Q"), {"from": "function_call", "value": "add(1)"}]},
     'turn 2: "tool_calls" is a text, but not JSON'),
    ("calls of the user", {"messages": [{**CALL, "role": "user"}]}, "turn 1: calls of a user turn; only an answer has any"),
    ("a result without a call", {"messages": [ASK, SAY, RESULT]}, "turn 3: a tool turn comes right after assistant; put"),
    ("two results of one call", {"messages": [ASK, CALL, RESULT, RESULT]}, "turn 4: more results than the answer before"),
    ("a result of another call", {"messages": [ASK, {**CALL, "tool_calls": [WITH_ID]}, {**RESULT, "tool_call_id": "x"}]},
     'turn 3: "tool_call_id" is x, which is no call of the answer before'),
    ("a trained result", {"messages": [ASK, CALL, {**RESULT, "train": True}]}, 'turn 3: "train" is true, but a tool turn'),
]  # fmt: skip


@pytest.mark.parametrize(("row", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_tools_that_are_wrong_are_refused_with_their_place(row, message):
    with pytest.raises(UserError) as error:
        list(RowChecker("f", CONVERSATIONS, report=stop).rows([Record(row, 3)]))
    assert str(error.value).startswith(f"f:3: {message}")


def test_rows_of_text_with_calls_stay_text_where_a_template_has_no_place(bpe):
    row = {
        "messages": [
            ASK,
            {"role": "assistant", "content": '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'},
        ]
    }
    info = install_template(bpe, "phi3")
    assert tokenize_rows([row], bpe, info, None).num_neutralised_rows == 0
