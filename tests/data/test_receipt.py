"""The receipt: counts worked out by hand on tiny sequences, and refusals."""

import json

import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing

from ftkit.config.errors import UserError
from ftkit.data.templates.templates import install_template
from ftkit.data.tokens.receipt import Allowed, build_receipt, check_rows
from ftkit.data.tokens.receipt_text import format_receipt, printable
from ftkit.data.tokens.tokenization import IGNORE_INDEX, tokenize_rows

ROWS = [
    {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}], "source": f"f:{line}"}
    for line, user, answer in ((1, "a\x1b", "bc"), (2, "defg", "h"), (3, "i", "é"))
]


@pytest.fixture
def info(bpe):
    return install_template(bpe, "plain")  # "a\x1b" + "\n" + "bc" + end token: one token a letter here


def test_tokens_are_counted_by_hand(bpe, info):
    tokenized = tokenize_rows(ROWS, bpe, info, 6)
    receipt = build_receipt(tokenized.rows, bpe, info, tokenized, 2, batch_size=2)
    assert build_receipt(Dataset.from_list(tokenized.rows), bpe, info, tokenized, 2, batch_size=2) == receipt
    assert tokenized.lengths == [6, 6, 5]  # the second loses its end token; é is two bytes
    assert json.loads(json.dumps(receipt)) == receipt
    expected = {
        "num_rows": 3, "num_sequences": 3, "num_tokens": 17, "num_trained_tokens": 3 + 1 + 3, "num_context_tokens": 10,
        "num_padding_tokens": 0, "num_truncated_rows": 1, "num_answers_cut": 0, "num_end_tokens_lost": 1,
        "num_end_tokens_trained": 2, "end_of_turn": "<|endoftext|>", "end_of_turn_id": 0, "packed": False, "dropped": {},
        "num_unknown_tokens": 0, "num_double_bos_rows": 0, "num_test_copies": None,
    }  # fmt: skip
    assert {key: receipt[key] for key in expected} == expected
    assert receipt["longest_rows"][0] == {"num_tokens": 7, "source": "f:2"}  # before it was cut
    assert [(row["num_tokens"], row["tokens"]) for row in receipt["typical_rows"]] == [
        (6, [["a", False], ["\x1b", False], ["\n", False], ["b", True], ["c", True], ["<|endoftext|>", True]]),
        (6, [["d", False], ["e", False], ["f", False], ["g", False], ["\n", False], ["h", True]]),
    ]


def test_the_rows_shown_are_typical_ones_with_their_lines(bpe, info):
    texts = [
        "long" * 9,
        "a",
        "medium",
        "tiny",
        "middle",
        "x" * 8,
        "large" * 4,
    ]  # 14.6 tokens on average, 3 of them not of the text
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "b"}], "source": f"f:{line}"}
        for line, text in enumerate(texts, 1)
    ]
    tokenized = tokenize_rows(rows, bpe, info, None)
    by_length = sorted(tokenized.rows, key=lambda row: -len(row["input_ids"]))
    packed = [{key: [x for row in by_length for x in row[key]] for key in by_length[0]}]
    packed[0]["seq_lengths"] = [len(row["input_ids"]) for row in by_length]  # as bfd packing has them: longest first
    origins = [(row["input_ids"], source["source"]) for row, source in zip(tokenized.rows, rows, strict=True)]
    receipt = build_receipt(packed, bpe, info, tokenized, 2, max_length=200, origins=origins)
    assert [row["source"] for row in receipt["typical_rows"]] == ["f:6", "f:3"]
    assert "row        f:6, 11 tokens; trained text stands in ⟦ ⟧\n  xxxxxxxx⏎⟦b" in format_receipt(receipt)


def test_a_pair_is_shown_with_both_answers(bpe, info):
    tokenized = tokenize_rows(ROWS * 2, bpe, info, None)
    receipt = build_receipt(tokenized.rows, bpe, info, tokenized, 1, sequences_per_row=2)
    assert len(receipt["typical_rows"]) == 2
    receipt |= {"num_chosen_longer": 1, "num_chosen_shorter": 0, "mean_chosen_tokens": 1.0, "mean_rejected_tokens": 1.0}
    assert format_receipt(receipt).count("\nrow        ") == 2


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
    assert build_receipt(Dataset.from_list(packed), bpe, info, tokenized, max_length=16) == receipt
    assert (receipt["packed"], receipt["num_rows"], receipt["num_sequences"]) == (True, 3, 2)
    assert receipt["packing_efficiency"] == 18 / 32
    shown = [row["tokens"] for row in receipt["typical_rows"]]
    assert shown[1][-2:] == [["h", True], ["<|endoftext|>", True]] and len(shown[1]) == 7
    assert "packing    2 sequences, of which 56.2 % is filled" in format_receipt(receipt)
    assert receipt["longest_rows"][0] == {"num_tokens": 7, "source": "f:2"}


def test_trained_tokens_are_marked_in_plain_text_and_in_colour(bpe, info):
    tokenized = tokenize_rows(ROWS, bpe, info, None)
    receipt = build_receipt(tokenized.rows, bpe, info, tokenized)
    plain, colored = format_receipt(receipt), format_receipt(receipt, color=True)
    assert "\n  a\\x1b⏎⟦bc<|endoftext|>⟧" in plain
    assert "\x1b" not in plain and "⟦" not in colored
    assert "⏎\x1b[1;32mbc<|endoftext|>\x1b[0m" in colored


def test_the_receipt_of_a_long_conversation_stays_within_fifteen_lines_of_a_screen(bpe, info):
    turns = [{"role": role, "content": f"{role} {'words ' * 200}"} for role in ("user", "assistant") * 4]
    tokenized = tokenize_rows([{"messages": turns, "source": "f:1"}], bpe, info, None)
    lines = format_receipt(build_receipt(tokenized.rows, bpe, info, tokenized)).split("\n")
    assert sum(-(-len(line) // 100) for line in lines) <= 15  # as a terminal of 100 columns breaks them
    assert lines[-1].count("⟦") == 1 and "│" not in lines[-1] and lines[-1].endswith("<|endoftext|>⟧")


def test_neutralised_and_control_text_rows_are_named(bpe, info):
    forged = [*ROWS[0]["messages"][:1], {"role": "assistant", "content": "<|endoftext|>"}]
    rows = [{"text": "a<|endoftext|>b"}, {"messages": forged}]
    tokenized = tokenize_rows(rows, bpe, info, None)
    text = format_receipt(build_receipt(tokenized.rows, bpe, info, tokenized))
    assert "1 row held control tokens or headings" in text
    assert "1 plain-text row with control tokens" in text


def test_a_long_row_loses_its_middle(bpe, info):
    tokenized = tokenize_rows([{"text": "ab" * 300}], bpe, None, None)
    (row,) = build_receipt(tokenized.rows, bpe, None, tokenized)["typical_rows"]
    spans = row["tokens"]
    assert [text for text, _ in spans] == [*"ab" * 75, " … 301 tokens … ", "b", *"ab" * 74, "<|endoftext|>"]
    assert [trained for _, trained in spans] == [True] * 150 + [False] + [True] * 150


def test_control_characters_are_printed_as_escapes():
    assert printable("a\tb\nc\r\x9b") == "a\tb\nc\\r\\x9b"


def test_unknown_tokens_and_a_second_bos_are_counted(bpe, info):
    bpe.add_special_tokens({"bos_token": "<s>", "unk_token": "<unk>"})
    bpe.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bpe.bos_token_id)]
    )
    tokenized = tokenize_rows([{"text": "<s>ab<unk>"}, {"text": "ab"}], bpe, None, None)
    receipt = build_receipt(tokenized.rows, bpe, None, tokenized)
    assert (receipt["num_double_bos_rows"], receipt["num_unknown_tokens"], receipt["num_tokens"]) == (1, 1, 10)
    text = format_receipt(receipt)
    assert "1 row with two beginning-of-sequence tokens" in text
    assert "unknown    1 token (10.00%)" in text
    bpe.unk_token = bpe.eos_token  # as in GPT-2, where it is no unknown token
    assert build_receipt(tokenized.rows, bpe, None, tokenized)["num_unknown_tokens"] == 0


def test_test_rows_among_the_training_rows_are_named(bpe, info):
    tokenized = tokenize_rows(ROWS, bpe, info, None)
    copies = [(f"train:{number}", f"test:{number}") for number in range(6)]
    receipt = build_receipt(tokenized.rows, bpe, info, tokenized, copies=copies)
    assert (receipt["num_test_copies"], len(receipt["test_copies"])) == (6, 5)
    assert "6 test rows are also training rows and measure nothing: test:0 is train:0, " in format_receipt(receipt)
    none = build_receipt(tokenized.rows, bpe, info, tokenized, copies=[])
    assert none["num_test_copies"] == 0 and "copies" not in format_receipt(none)


def test_rows_that_train_nothing_are_refused_dropped_or_kept(bpe, info):
    rows = [*ROWS, {"messages": ROWS[0]["messages"][:1], "source": "f:4"}]
    with pytest.raises(
        UserError, match="^f:4: the template marks no token of this row .*, or pass --untrained_rows drop$"
    ):
        tokenize_rows(rows, bpe, info, None)
    dropped = tokenize_rows(rows, bpe, info, 5, untrained_rows="drop")
    assert (dropped.kept, dropped.num_rows, len(dropped.rows)) == ([0, 2], 4, 2)
    expected = {
        "no answer token is left after --max_length 5": 1,
        "the template marks no token of this row as an answer": 1,
    }
    assert dropped.dropped == expected
    receipt = build_receipt(dropped.rows, bpe, info, dropped)
    assert (
        "4 read, 1 dropped (no answer token is left after --max_length 5), 1 dropped (the template"
        in format_receipt(receipt)
    )
    kept = tokenize_rows(rows, bpe, info, 5, untrained_rows="keep")
    assert (kept.num_rows, len(kept.rows), set(kept.rows[3]["labels"])) == (4, 4, {IGNORE_INDEX})


def test_a_run_that_trains_nothing_is_refused(bpe, info):
    with pytest.raises(
        UserError, match=r"no row is left to train on \(1 rows: no answer .*\); give more rows or a larger"
    ):
        check_rows(tokenize_rows(ROWS[1:2], bpe, info, 2, untrained_rows="drop"), info, Allowed())
    masked = tokenize_rows([{"messages": ROWS[0]["messages"][:1]}], bpe, info, None, untrained_rows="keep")
    with pytest.raises(UserError, match="no token of any row is trained; .* or pass --allow_empty_mask"):
        check_rows(masked, info, Allowed())
    check_rows(masked, info, Allowed(empty_mask=True))


def test_a_run_that_never_trains_the_end_of_turn_is_refused(bpe, info):
    tokenized = tokenize_rows(ROWS[1:2], bpe, info, 6)
    with pytest.raises(
        UserError, match=r'"<\|endoftext\|>" is never trained \(1 answers lost it .* --allow_untrained_end'
    ):
        check_rows(tokenized, info, Allowed(max_truncated_share=1))
    check_rows(tokenized, info, Allowed(max_truncated_share=1, untrained_end_of_turn=True))


def test_a_run_whose_rows_are_cut_is_refused_and_the_longest_named(bpe, info):
    tokenized = tokenize_rows(ROWS, bpe, info, 6)
    with pytest.raises(UserError) as error:
        check_rows(tokenized, info, Allowed())
    assert str(error.value) == (
        "f:2: --max_length cuts 1 of 3 sequences (33.3%), this one of 7 tokens the most; raise --max_length, shorten the "
        "rows, or allow it with --max_truncated_share 0.34"
    )
    check_rows(tokenized, info, Allowed(max_truncated_share=0.34))
    check_rows(tokenize_rows(ROWS, bpe, info, 7), info, Allowed(max_truncated_share=0))
