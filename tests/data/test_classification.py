"""Labelled rows: which labels are classes, which are mistakes, how held-out rows are drawn, and the receipt's counts."""

import json
from collections import Counter

import pytest

from ftkit.config.errors import UserError
from ftkit.data.tokens.labelled import (
    classification_receipt,
    hold_out_by_class,
    load_labelled_rows,
    loss_weights,
    tokenize_labelled,
)
from ftkit.data.tokens.receipt_text import format_receipt


@pytest.fixture
def write(tmp_path):
    def save(name, rows):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return save


def labelled(*labels):
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


def test_names_are_numbered_in_alphabetical_order_and_numbers_stand_for_themselves(write):
    rows = load_labelled_rows(write("a.jsonl", labelled("spam", "ham", " spam ")))
    assert rows.labels == ["ham", "spam"] and [row["label"] for row in rows.train] == [1, 0, 1]
    rows = load_labelled_rows(write("b.jsonl", labelled(2, 0, 1)))
    assert rows.labels == ["0", "1", "2"] and [row["label"] for row in rows.train] == [2, 0, 1]


def test_class_names_give_the_order_and_name_the_numbers(write):
    rows = load_labelled_rows(write("a.jsonl", labelled("spam", "ham")), class_names=["spam", "ham"])
    assert [row["label"] for row in rows.train] == [0, 1]
    rows = load_labelled_rows(write("b.jsonl", labelled(1, 0)), class_names=["ham", "spam"])
    assert rows.labels == ["ham", "spam"] and [row["label"] for row in rows.train] == [1, 0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, two",1\nNA,0\n'),
        ("a.tsv", "text\tlabel\none, two\t1\nNA\t0\n"),
        ("a.json", '[{"text": "one, two", "label": 1}, {"text": "NA", "label": 0}]'),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(write, name, content):
    rows = load_labelled_rows(write(name, content))
    assert [(row["text"], row["label"]) for row in rows.train] == [("one, two", 1), ("NA", 0)]


MISTAKES = {
    "no label": ([{"text": "a"}], [], r'a\.jsonl:1: the columns text fit no format; rename them to one of: text\+label'),
    "misspelt": ([{"text": "a", "lable": "x"}], [], r'a\.jsonl:1: unknown key "lable"; did you mean "label"\?'),
    "empty text": (labelled("x", "y") + [{"text": " ", "label": "x"}], [], r'a\.jsonl:3: "text" is empty'),
    "null label": (labelled("x", None), [], r'a\.jsonl:2: "label" is null'),
    "empty label": (labelled("x", " "), [], r'a\.jsonl:2: "label" is empty'),
    "true": (labelled("x", True), [], r'a\.jsonl:2: "label" must be a name or a class number, got true'),
    "fraction": (labelled(0, 1.5), [], r'a\.jsonl:2: "label" must be a name or a class number, got float 1\.5'),
    "one row": (labelled("x"), [], r"a\.jsonl:1: this is the only row; a classifier needs rows of at least two"),
    "one class": (labelled("x", "x"), [], r'a\.jsonl:1: all 2 rows have the label "x"'),
    "mixed": (labelled(0, 1, "spam"), [], r'a\.jsonl:3: label "spam" is a name, but line 1 has the class number 0'),
    "below 0": (labelled(0, 1, -100), [], r"a\.jsonl:3: label -100 is out of range: 3 classes are numbered 0 to 2"),
    "from 1": (labelled(1, 2), [], r"a\.jsonl:2: label 2 is out of range: 2 classes are numbered 0 to 1; number them from 0"),
    "gap": (labelled(0, 7), [], r"a\.jsonl:2: label 7 is out of range"),
    "above the names": (labelled(0, 2), ["ham", "spam"], r"a\.jsonl:2: label 2 is out of range: 2 classes \(ham, spam\)"),
    "not a name": (labelled("ham", "spm"), ["ham", "spam"], r'a\.jsonl:2: label "spm" is not in --class_names; did you mean "spam"'),
    "a name too many": (labelled("a", "b"), ["a", "b", "c"], r"--class_names: no training row has the class c"),
    "a number too few": (labelled(0, 1), ["a", "b", "c"], r"--class_names: no training row has the class c"),
    "case": (labelled("Ham", "ham", "spam"), [], r'a\.jsonl:2: label "ham" differs from "Ham" only in case'),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "names", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_file_and_line(write, rows, names, message):
    with pytest.raises(UserError, match=message):
        load_labelled_rows(write("a.jsonl", rows), class_names=names or None)


def test_a_label_that_only_the_test_rows_have_is_refused(write, tmp_path):
    write("data/train.jsonl", labelled("ham", "spam"))
    write("data/test.jsonl", labelled("ham", "spma"))
    with pytest.raises(UserError, match=r'test\.jsonl:2: no training row has the label "spma"; did you mean "spam"'):
        load_labelled_rows(str(tmp_path / "data"))


def test_test_rows_of_one_class_are_refused_and_missing_classes_are_told(write, tmp_path, caplog):
    write("data/train.jsonl", labelled("a", "b", "c"))
    write("data/test.jsonl", labelled("a", "a"))
    with pytest.raises(UserError, match=r"test\.jsonl:1: all 2 test rows are a, so nothing can be measured"):
        load_labelled_rows(str(tmp_path / "data"))
    write("data/test.jsonl", labelled("a", "b"))
    load_labelled_rows(str(tmp_path / "data"))
    assert "no test row has the label c" in caplog.text


def test_validation_rows_come_from_their_split_or_from_the_training_rows(write, tmp_path, caplog):
    path = write("data/train.jsonl", [{"text": f"t{n}", "label": n % 2} for n in range(40)])
    rows = load_labelled_rows(path, validation_size=0.25)
    assert (len(rows.train), len(rows.validation), rows.test) == (30, 10, None)
    assert Counter(row["label"] for row in rows.validation) == {0: 5, 1: 5} and rows.observed is rows.validation
    write("data/validation.jsonl", [{"text": f"v{n}", "label": n % 2} for n in range(4)])
    rows = load_labelled_rows(str(tmp_path / "data"), validation_size=0.25)
    assert (len(rows.train), len(rows.validation)) == (40, 4)
    assert f"validation_size=0.25 has no effect: {tmp_path}/data has a validation split" in caplog.text


def test_a_class_too_small_to_hold_out_is_named():
    rows = [{"text": str(n), "label": n == 0, "source": f"a:{n}"} for n in range(10)]
    with pytest.raises(UserError, match="a:0: its class has 1 rows, too few to hold out 1"):
        hold_out_by_class(rows, 0.2, 0)


def test_copies_of_held_out_rows_are_counted(write, tmp_path, caplog):
    write("data/train.jsonl", [*labelled("a", "b"), {"text": "same  text", "label": "a"}])
    write("data/test.jsonl", [*[{"text": "new", "label": "b"}], {"text": "same text", "label": "a"}])
    assert load_labelled_rows(str(tmp_path / "data")).num_copies == 1
    assert "1 of 2 held-out rows are training rows too" in caplog.text


def test_loss_weights_are_scaled_to_a_mean_of_1_over_the_rows():
    rows = [{"label": 0}] * 3 + [{"label": 1}]
    assert loss_weights(["none"], ["a", "b"], rows) is None
    # 4 / (2 * 3) and 4 / (2 * 1), as scikit-learn's "balanced"
    assert loss_weights(["balanced"], ["a", "b"], rows) == pytest.approx([2 / 3, 2])
    # 1 and 5: their mean over the rows is 2
    assert loss_weights(["b=5"], ["a", "b"], rows) == pytest.approx([0.5, 2.5])


def test_balanced_weights_equal_those_of_scikit_learn():
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 7 + [1] * 2 + [2] * 5
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert loss_weights(["balanced"], ["a", "b", "c"], [{"label": n} for n in labels]) == pytest.approx(list(expected))


@pytest.mark.parametrize("spec", ["c=2", "balancd", "a=x", "a=0", "a=-1", "a=inf"])
def test_a_wrong_weight_is_refused(spec):
    with pytest.raises(UserError, match=f"--class_weights {spec}: "):
        loss_weights([spec], ["a", "b"], [{"label": 0}, {"label": 1}])


@pytest.fixture
def tokenizer(tiny_folder):
    from ftkit.model.loading import load_tokenizer

    return load_tokenizer(tiny_folder)


def test_the_receipt_counts_lengths_cuts_and_copies(write, tokenizer):
    texts = ["abc", "abcdef", "abc", "x" * 50]
    path = write("a.jsonl", [{"text": text, "label": label} for text, label in zip(texts, "aabb", strict=True)])
    rows = load_labelled_rows(path)
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    tokens = tokenize_labelled(rows.train, tokenizer, 8)
    receipt = classification_receipt(tokens, rows, tokenizer, [1.5, 0.5])
    cut = [min(8, length) for length in lengths]
    assert receipt["num_tokens"] == sum(cut) and receipt["num_tokens_cut"] == sum(lengths) - sum(cut) > 0
    assert receipt["num_truncated_rows"] == sum(length > 8 for length in lengths)
    assert (receipt["num_copied_texts"], receipt["num_conflicting_texts"]) == (1, 1)
    assert receipt["tokens_a_text"]["most"] == max(lengths)
    assert receipt["classes"]["b"] == {
        "num_rows": 2, "share": 0.5, "median_tokens": (lengths[2] + lengths[3]) / 2, "num_truncated_rows": 1, "weight": 0.5,
    }  # fmt: skip
    assert receipt["longest_rows"][0] == {"num_tokens": lengths[3], "source": f"{path}:4"}
    text = format_receipt(receipt)
    assert "classes    a 2 (50.0 %, weight 1.5), b 2 (50.0 %, weight 0.5)" in text and text.endswith("abcdef⟦ → a⟧")
    assert json.loads(json.dumps(receipt)) == receipt


def test_texts_are_cut_as_the_tokenizer_cuts_them_with_its_special_tokens(tokenizer):
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A <eos>", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    row = {"text": "x" * 50, "label": 0, "source": "a:1"}
    (cut,) = tokenize_labelled([row], tokenizer, 6).rows
    assert len(cut["input_ids"]) == 6 and cut["input_ids"][-1] == tokenizer.eos_token_id


def test_a_text_without_tokens_is_refused(tokenizer):
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    with pytest.raises(UserError, match="a:1: the tokenizer makes no token of"):
        tokenize_labelled([{"text": "\u200b", "label": 0, "source": "a:1"}], tokenizer, 6)
