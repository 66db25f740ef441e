"""What TRL and datasets do in silence with bad rows, and what ftkit does: each test fails if either changes.

The first half of a test documents TRL (or datasets, or transformers), the second half is ftkit on the same rows.
"""

import copy
import json
import logging

import pytest
import torch
from datasets import Dataset, load_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from ftkit.config.errors import UserError
from ftkit.data.reading.loading import load_rows
from ftkit.data.rows.kinds import PREFERENCES
from ftkit.data.templates.templates import install_template
from ftkit.data.tokens.labelled import load_labelled_rows
from ftkit.data.tokens.preferences import tokenize_pairs
from ftkit.data.tokens.receipt import Allowed, check_rows
from ftkit.data.tokens.tokenization import IGNORE_INDEX, tokenize_rows

QUIET = {"bf16": False, "use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 1}
GOOD = {"prompt": "a", "completion": "b"}
LONG_PROMPT = {"prompt": "a" * 50, "completion": "b"}
LONG_ANSWER = {"prompt": "a", "completion": "b" * 50}
LN_2 = 0.6931
LAX_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}{% endfor %}"  # as many are
)


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte; <eos> is 0."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        ["abc"], trainers.BpeTrainer(vocab_size=258, special_tokens=["<eos>", "<pad>"], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture(scope="module")
def model(tokenizer):
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))


@pytest.fixture
def trl_sft(model, tokenizer, tmp_path):
    """TRL's trainer on rows, with a template for conversations and further settings."""

    def make(rows, chat_template=None, **changes):
        own = copy.deepcopy(tokenizer)
        install_template(own, "chatml")
        own.chat_template = chat_template or own.chat_template
        arguments = SFTConfig(output_dir=tmp_path / "trl", **{"max_length": 16, **QUIET, **changes})
        return SFTTrainer(copy.deepcopy(model), arguments, train_dataset=Dataset.from_list(rows), processing_class=own)

    return make


@pytest.fixture
def ours(tokenizer, tmp_path):
    """Rows as ftkit reads, renders and tokenizes them from a file; UserError for what it refuses."""

    def prepare(rows, max_length=64, template="plain"):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        own = copy.deepcopy(tokenizer)
        info = install_template(own, template)
        tokenized = tokenize_rows(load_rows(str(path)).train, own, info, max_length)
        check_rows(tokenized, info, Allowed())
        return tokenized

    return prepare


def losses(trainer):
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def chat(*turns):
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_a_prompt_that_fills_the_length_is_refused_and_not_dropped_in_silence(trl_sft, ours):
    assert len(trl_sft([LONG_PROMPT, GOOD]).train_dataset) == 1
    with pytest.raises(UserError, match="rows.jsonl:1: no answer token is left after --max_length 16"):
        ours([LONG_PROMPT, GOOD], 16)


def test_a_packed_prompt_without_an_answer_is_refused_and_not_trained_with_loss_zero(trl_sft, ours):
    assert losses(trl_sft([LONG_PROMPT] * 2, packing=True, max_steps=1)) == [0.0]
    with pytest.raises(UserError, match="rows.jsonl:1: no answer token is left"):
        ours([LONG_PROMPT] * 2, 16)


def test_an_answer_that_loses_its_end_token_is_refused(trl_sft, ours, tokenizer):
    (row,) = trl_sft([LONG_ANSWER]).train_dataset
    assert tokenizer.eos_token_id not in row["input_ids"]
    with pytest.raises(UserError, match='end-of-turn token "<eos>" is never trained .1 answers lost it'):
        ours([LONG_ANSWER], 16)
    with pytest.raises(UserError, match=r"rows.jsonl:2: --max_length cuts 1 of 2 sequences \(50.0%\)"):
        ours([GOOD, LONG_ANSWER], 16)


def test_an_empty_answer_is_refused_and_not_trained_as_an_end_token(trl_sft, ours, tokenizer):
    (row,) = trl_sft([{"prompt": "a", "completion": ""}]).train_dataset
    assert row["input_ids"][-1] == tokenizer.eos_token_id
    with pytest.raises(UserError, match='rows.jsonl:1: "completion" is empty'):
        ours([{"prompt": "a", "completion": ""}])


def test_an_unknown_role_is_refused(trl_sft, ours):
    trainer = trl_sft([chat(("user", "a"), ("assistnat", "b"))], max_length=64, chat_template=LAX_TEMPLATE)
    assert len(trainer.train_dataset) == 1
    with pytest.raises(UserError, match='rows.jsonl:1: turn 2: .*"assistnat"; did you mean "assistant"'):
        ours([chat(("user", "a"), ("assistnat", "b"))])


def test_a_conversation_without_an_answer_is_refused(trl_sft, ours):
    assert len(trl_sft([chat(("user", "a"))], max_length=64).train_dataset) == 1
    with pytest.raises(UserError, match="rows.jsonl:1: .*assistant"):
        ours([chat(("user", "a"))])


def test_na_in_a_table_stays_text(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\na,NA\nb,null\nc,nan\n")
    loaded = load_dataset("csv", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["completion"][:] == [None, None, None]
    answers = [row["messages"][-1]["content"] for row in load_rows(str(path)).train]
    assert answers == ["NA", "null", "nan"]


def test_a_misspelt_key_is_refused_and_does_not_become_null(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps({"prompt": "a", "complet1on": "b"}) + "\n")
    loaded = load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["completion"][:] == ["b", None]
    with pytest.raises(UserError, match='rows.jsonl:2: unknown key "complet1on"; did you mean "completion"'):
        load_rows(str(path))


def test_equal_answers_are_left_out_and_not_trained_at_ln_2_for_ever(model, tokenizer, tmp_path, caplog):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 2
    model.save_pretrained(tmp_path / "model")
    trainer = DPOTrainer(
        LlamaForCausalLM.from_pretrained(tmp_path / "model"),
        args=DPOConfig(output_dir=tmp_path / "dpo", max_steps=3, learning_rate=1e-2, **QUIET),
        train_dataset=Dataset.from_list(rows),
        processing_class=copy.deepcopy(tokenizer),
    )
    assert losses(trainer) == pytest.approx([LN_2] * 3, abs=1e-4)
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:1], {**rows[0], "rejected": "c"}]))
    own = copy.deepcopy(tokenizer)
    info = install_template(own, "plain")
    with caplog.at_level(logging.WARNING):
        pairs = tokenize_pairs(load_rows(str(path), kind=PREFERENCES).train, own, info, 64)
    assert len(pairs.rows) == 1
    assert f"1 pairs with equal answers are left out: {path}:1" in caplog.text


def test_an_empty_file_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("")
    with pytest.raises(Exception) as error:
        load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "cache"))
    assert not isinstance(error.value, UserError)
    with pytest.raises(UserError, match="rows.jsonl.*add at least one"):
        load_rows(str(path))


def test_broken_json_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + '\n{"prompt": "a", "comple\n' + json.dumps(GOOD) + "\n")
    with pytest.raises(Exception) as error:
        load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "cache"))
    assert "rows.jsonl:2" not in str(error.value)
    with pytest.raises(UserError, match="rows.jsonl:2: "):
        load_rows(str(path))


def test_a_null_answer_is_named_by_file_and_line(trl_sft, ours):
    rows = [GOOD, {"prompt": "a", "completion": None}]
    with pytest.raises((AttributeError, TypeError)) as error:
        trl_sft(rows)
    assert "2" not in str(error.value)
    with pytest.raises(UserError, match='rows.jsonl:2: "completion" is null'):
        ours(rows)


def test_a_users_text_forges_no_end_of_turn(trl_sft, ours, tokenizer):
    rows = [chat(("user", "a<eos>"), ("assistant", "b"))]
    (row,) = trl_sft(rows, max_length=64).train_dataset
    template_only = trl_sft([chat(("user", "a"), ("assistant", "b"))], max_length=64).train_dataset[0]
    assert row["input_ids"].count(0) == template_only["input_ids"].count(0) + 1
    assert ours(rows, template="chatml").rows[0]["input_ids"].count(0) == 1


def test_a_users_text_forges_no_heading(tokenizer):
    own = copy.deepcopy(tokenizer)
    info = install_template(own, "alpaca")
    forged = chat(("user", "a\n\n### Response:\nb"), ("assistant", "c"))["messages"]
    heading = "\n### Response:"
    assert own.apply_chat_template(forged, tokenize=False).count(heading) == 2
    row = tokenize_rows([{"messages": forged}], own, info, None).rows[0]
    assert own.decode(row["input_ids"]).count(heading) == 1
    assert own.decode([label for label in row["labels"] if label != IGNORE_INDEX]) == "c<eos>"


def test_a_class_that_is_skipped_or_out_of_range_is_named_by_file_and_line(model, tmp_path):
    classifier = LlamaForSequenceClassification(LlamaConfig(**{**model.config.to_dict(), "pad_token_id": 1}))
    ids = torch.tensor([[2, 3], [4, 5]])
    skipped = classifier(input_ids=ids, labels=torch.tensor([0, -100])).loss
    torch.testing.assert_close(skipped, classifier(input_ids=ids[:1], labels=torch.tensor([0])).loss)
    with pytest.raises(IndexError, match="Target 7 is out of bounds"):
        classifier(input_ids=ids, labels=torch.tensor([0, 7]))
    path = tmp_path / "rows.jsonl"
    for label in (-100, 7):
        rows = [{"text": "a", "label": 0}, {"text": "b", "label": label}, {"text": "c", "label": 1}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(UserError, match=f"rows.jsonl:2: label {label} is out of range"):
            load_labelled_rows(str(path))
