"""The receipt: counts worked out by hand on tiny sequences, and refusals."""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.data.receipt import build_receipt, format_receipt, printable
from ftkit.data.templates import install_template
from ftkit.data.tokenization import IGNORE_INDEX, TokenizedRows, tokenize_rows

ROWS = [
    {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}], "source": "f:1"}
    for user, answer in (("a\x1b", "bc"), ("defg", "h"), ("i", "é"))
]


@pytest.fixture
def info(bpe):
    return install_template(bpe, "plain")  # "a\x1b" + "\n" + "bc" + end token: one token a letter here


def test_tokens_are_counted_by_hand(bpe, info):
    tokenized = tokenize_rows(ROWS, bpe, info, 6)
    receipt = build_receipt(tokenized.rows, bpe, info, tokenized, 2, batch_size=2)
    assert tokenized.lengths == [6, 6, 5]  # the second loses its end token; é is two bytes
    assert json.loads(json.dumps(receipt)) == receipt
    expected = {
        "num_rows": 3, "num_sequences": 3, "num_tokens": 17, "num_trained_tokens": 3 + 1 + 3, "num_context_tokens": 10,
        "num_padding_tokens": 0, "num_truncated_rows": 1, "num_answers_cut": 0, "num_end_tokens_lost": 1,
        "num_end_tokens_trained": 2, "end_of_turn": "<|endoftext|>", "end_of_turn_id": 0, "packed": False,
    }  # fmt: skip
    assert {key: receipt[key] for key in expected} == expected
    assert receipt["longest_rows"][0] == {"num_tokens": 6, "sequence": 1}
    assert receipt["first_rows"] == [
        [["a\x1b\n", False], ["bc<|endoftext|>", True]],
        [["defg\n", False], ["h", True]],
    ]


def test_padding_is_counted_by_batch(bpe, info):
    tokenized = tokenize_rows(ROWS, bpe, info, None)  # 6, 7 and 5 tokens
    for batch_size, padding in ((1, 0), (2, 1), (3, 3)):
        receipt = build_receipt(tokenized.rows, bpe, info, tokenized, batch_size=batch_size)
        assert receipt["num_padding_tokens"] == padding
    receipt = build_receipt(tokenized.rows, bpe, info, tokenized, batch_size=3, padding_free=True)
    assert receipt["num_padding_tokens"] == 0


def test_packed_sequences_are_shown_row_by_row(bpe, info):
    tokenized = tokenize_rows(ROWS, bpe, info, None)
    first, second, third = tokenized.rows
    packed = [
        {key: first[key] + second[key] for key in first} | {"seq_lengths": [6, 7]},
        {key: third[key] for key in third} | {"seq_lengths": [5]},
    ]
    receipt = build_receipt(packed, bpe, info, tokenized, max_length=16)
    assert (receipt["packed"], receipt["num_rows"], receipt["num_sequences"]) == (True, 3, 2)
    assert receipt["packing_efficiency"] == 18 / 32
    assert receipt["first_rows"][1] == [["defg\n", False], ["h<|endoftext|>", True]]
    assert "56.2% of the sequences is filled" in format_receipt(receipt)
    assert receipt["longest_rows"][0] == {"num_tokens": 7, "sequence": 0}


def test_trained_tokens_are_marked_in_plain_text_and_in_colour(bpe, info):
    tokenized = tokenize_rows(ROWS, bpe, info, None)
    receipt = build_receipt(tokenized.rows, bpe, info, tokenized)
    plain, colored = format_receipt(receipt), format_receipt(receipt, color=True)
    assert "a\\x1b\n⟦bc<|endoftext|>⟧" in plain
    assert "i\n⟦é<|endoftext|>⟧" in plain
    assert "\x1b" not in plain
    assert "a\\x1b\n\x1b[1;32mbc<|endoftext|>\x1b[0m" in colored


def test_neutralised_and_control_text_rows_are_named(bpe, info):
    forged = [*ROWS[0]["messages"][:1], {"role": "assistant", "content": "<|endoftext|>"}]
    rows = [{"text": "a<|endoftext|>b"}, {"messages": forged}]
    tokenized = tokenize_rows(rows, bpe, info, None)
    text = format_receipt(build_receipt(tokenized.rows, bpe, info, tokenized))
    assert "1 rows held control tokens or headings" in text
    assert "1 plain-text rows hold and train some" in text


def test_a_long_row_loses_its_middle(bpe, info):
    tokenized = tokenize_rows([{"text": "ab" * 300}], bpe, None, None)
    (spans,) = build_receipt(tokenized.rows, bpe, None, tokenized)["first_rows"]
    assert spans == [["ab" * 75, True], [" … 301 tokens … ", False], ["b" + "ab" * 74 + "<|endoftext|>", True]]


def test_control_characters_are_printed_as_escapes():
    assert printable("a\tb\nc\r\x9b") == "a\tb\nc\\r\\x9b"


def test_a_run_that_trains_nothing_is_refused(bpe, info):
    with pytest.raises(UserError, match="no row is left to train on; give more rows or a larger --max_length"):
        build_receipt([], bpe, info, TokenizedRows())
    masked = [{"input_ids": [1, 2], "labels": [IGNORE_INDEX] * 2}]
    with pytest.raises(UserError, match=r"none of the 2 tokens is trained \(template plain\); choose another"):
        build_receipt(masked, bpe, info, TokenizedRows())


def test_a_run_that_never_trains_the_end_of_turn_is_refused(bpe, info):
    tokenized = tokenize_rows(ROWS[1:2], bpe, info, 6)
    with pytest.raises(UserError, match=r'"<\|endoftext\|>" is never trained \(1 answers lost it to truncation\)'):
        build_receipt(tokenized.rows, bpe, info, tokenized)
