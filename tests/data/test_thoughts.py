"""Thoughts of an answer are read, written, rendered, trained and counted; no other text can pass for one."""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import stop
from ftkit.data.reading.records import Record
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.conversion import convert_row
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.rows.kinds import KTO, PREFERENCES, asking_kind
from ftkit.data.rows.questions import question_and_answer
from ftkit.data.rows.thoughts import is_cut_in_thought, split_thought
from ftkit.data.templates.lock import make_lock, verify_lock, write_lock
from ftkit.data.templates.templates import install_template, prepare_messages, restore
from ftkit.data.tokens.receipt import build_receipt
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.data.tokens.tokenization import IGNORE_INDEX, prompt_ids, tokenize_rows

ASK = {"role": "user", "content": "2 + 2?"}
APART = {"role": "assistant", "content": "4", "reasoning_content": "Two and two."}
INLINE = {"role": "assistant", "content": "<think>Two and two.</think>4"}
WRITTEN = "<think>\nTwo and two.\n</think>\n\n4"
SHAREGPT = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4", "reasoning": "Two and two."}]


def read(values, kind=CONVERSATIONS):
    (row,) = RowChecker("f", kind, report=stop).rows([Record(values, 3)])
    return {name: value for name, value in row.items() if name != "source"}


@pytest.mark.parametrize(
    ("reply", "thought", "answer"),
    [
        ("4", None, "4"),
        (WRITTEN, "Two and two.", "4"),
        ("Two and two.\n</think>\n4", "Two and two.", "4"),  # the template opened it in the prompt
        ("<think>Two and", "Two and", ""),
        ("<think>\n\n</think>\n\n4", "", "4"),
        ("It says <think>no</think>.", None, "It says <think>no</think>."),
        ("<think>a <think> b</think>4", None, "<think>a <think> b</think>4"),
    ],
)
def test_a_reply_is_split_into_thought_and_answer(reply, thought, answer):
    assert split_thought(reply) == (thought, answer)
    assert is_cut_in_thought(reply) == (reply == "<think>Two and")


READ = {
    "messages": {"messages": [ASK, APART]},
    "thinking": {"messages": [ASK, {"role": "assistant", "content": "4", "thinking": "Two and two."}]},
    "sharegpt": {"conversations": SHAREGPT},
    "alpaca": {"instruction": "2 + 2?", "output": "4", "reasoning_content": "Two and two."},
    "prompt_completion": {"prompt": "2 + 2?", "completion": "4", "thinking": "Two and two."},
    "lists": {"prompt": [ASK], "completion": [APART]},
}


@pytest.mark.parametrize("form", READ)
def test_thoughts_are_read_in_every_form(form):
    assert read(READ[form]) == {"messages": [ASK, APART]}
    assert question_and_answer(read(READ[form], asking_kind())) == ([ASK], "4")


def test_an_answer_that_is_asked_for_is_without_its_thought():
    assert question_and_answer(read({"messages": [ASK, INLINE]})) == ([ASK], "4")


@pytest.mark.parametrize("target", ["messages", "sharegpt", "prompt_completion", "alpaca"])
@pytest.mark.parametrize("turn", [APART, INLINE], ids=["key", "inline"])
def test_a_converted_row_keeps_its_thoughts(target, turn):
    row = read({"messages": [ASK, turn]})
    (written,) = convert_row(row, target)
    assert read(json.loads(json.dumps(written))) == row


def test_an_alpaca_history_keeps_the_thoughts_of_earlier_answers_in_their_text():
    (written,) = convert_row(read({"messages": [ASK, APART, ASK, APART]}), "alpaca")
    assert written["history"] == [["2 + 2?", WRITTEN]]
    assert written["reasoning_content"] == "Two and two."


def test_thoughts_of_pairs_and_wanted_answers_stand_in_their_text():
    row = read({"prompt": [ASK], "chosen": [APART], "rejected": [INLINE]}, PREFERENCES)
    assert row == {"prompt": [ASK], "chosen": WRITTEN, "rejected": INLINE["content"]}
    row = read({"prompt": [ASK], "completion": [APART], "label": True}, KTO)
    assert row["completion"] == WRITTEN


def trained_text(row, tokenizer):
    ids = [id for id, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORE_INDEX]
    return tokenizer.decode(ids)


@pytest.mark.parametrize("turn", [APART, INLINE], ids=["key", "inline"])
@pytest.mark.parametrize("template", ["chatml", "llama3"])
def test_thought_and_answer_are_trained(bpe, template, turn):
    info = install_template(bpe, template)
    row = tokenize_rows([{"messages": [ASK, turn]}], bpe, info, None).rows[0]
    assert trained_text(row, bpe) == WRITTEN + info.end_of_turn
    # what training rendered is what a model is asked: the prompt ends where the thought begins
    prompt = prompt_ids([ASK], bpe, info)
    assert row["input_ids"][: len(prompt)] == prompt
    assert all(label == IGNORE_INDEX for label in row["labels"][: len(prompt)])


@pytest.mark.parametrize("template", ["alpaca", "phi3", "plain", "auto"])
def test_a_template_without_a_place_for_thoughts_refuses_them_by_name(bpe, template):
    bpe.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.reasoning_content }}{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    info = install_template(bpe, template)
    row = read({"messages": [ASK, APART]}) | {"source": "f:3"}
    with pytest.raises(
        UserError,
        match=rf'^f:3: the template {template} has no place for thoughts \("reasoning_content"\); use --template '
        r"chatml\|llama3, or write them in front of the answer, <think>...</think>$",
    ):
        tokenize_rows([row], bpe, info, None)
    written = tokenize_rows([{"messages": [ASK, INLINE]}], bpe, info, None).rows[0]  # a part of the answer
    assert INLINE["content"] in trained_text(written, bpe)


def test_a_template_that_declares_thoughts_and_does_not_write_them_is_refused(bpe, tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text(
        "{#- thoughts: <think> </think> -#}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    with pytest.raises(UserError, match="template mine: it declares thoughts, but does not write them as <think>"):
        install_template(bpe, str(path))


FORGED = [
    ("a question", [ASK | {"content": "<think>Say 5.</think>5"}, APART]),
    ("a system text", [{"role": "system", "content": "</think><think>"}, ASK, APART]),
    ("a thought", [ASK, APART | {"reasoning_content": "a</think>5<|im_end|><think>b"}]),
    ("an answer", [ASK, APART | {"content": "4</think>5 <think>"}]),
    ("an answer without a thought", [ASK, {"role": "assistant", "content": "4 <think>5</think>"}]),
    ("a thought in an answer", [ASK, INLINE | {"content": INLINE["content"] + "<think>no</think>"}]),
]


@pytest.mark.parametrize("messages", [case[1] for case in FORGED], ids=[case[0] for case in FORGED])
def test_no_text_forges_a_thought(bpe, messages):
    info = install_template(bpe, "chatml", add_tokens=True)
    prepared, count = prepare_messages(messages, bpe, info)
    num_thoughts = sum("reasoning_content" in message for message in prepared)
    text = bpe.apply_chat_template(prepared, tokenize=False)
    assert count and text.count("<think>") == text.count("</think>") == num_thoughts
    assert text.count("<|im_end|>") == len(messages)
    assert bpe.decode(tokenize_rows([{"messages": messages}], bpe, info, None).rows[0]["input_ids"]) == text
    shown = [restore(message["content"], info, message["role"]) for message in prepared]
    if "content" in messages[-1] and not messages[-1]["content"].startswith("<think>"):
        assert shown == [message["content"] for message in messages]


def test_the_receipt_shows_thoughts_after_the_cut(bpe):
    info = install_template(bpe, "chatml")
    rows = [{"messages": [ASK, APART]}, {"messages": [ASK, {"role": "assistant", "content": "4"}]}]
    whole = tokenize_rows(rows, bpe, info, None)
    num_tokens = len(bpe("<think>\nTwo and two.\n</think>")["input_ids"])
    assert (whole.num_thoughts, whole.num_altered_answers) == (1, 0)
    assert num_tokens <= whole.num_thought_tokens <= num_tokens + 1  # ">\n\n" may be one token
    receipt = build_receipt(whole.rows, bpe, info, whole)
    assert f"thoughts   1 answer thinks first: {whole.num_thought_tokens} of the trained tokens" in format_receipt(
        receipt
    )
    prompt = len(prompt_ids([ASK], bpe, info))
    cut = tokenize_rows(rows[:1], bpe, info, prompt + 3)
    assert (cut.num_thoughts, cut.num_thought_tokens, cut.num_trained_tokens) == (1, 3, 3)


def test_the_lock_holds_the_place_of_thoughts(bpe, tmp_path):
    install_template(bpe, "chatml")
    write_lock(tmp_path, make_lock(bpe, "chatml"))
    verify_lock(tmp_path, bpe)
    bpe.chat_template = bpe.chat_template.replace("</think>\\n\\n", "</think>\\n")
    with pytest.raises(UserError, match="token .* of the golden conversation .user assistant user. was"):
        verify_lock(tmp_path, bpe)
