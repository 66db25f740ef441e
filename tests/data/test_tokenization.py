"""Tokens and labels: equal to TRL's own, a prompt is a prefix of the training row, and truncation is counted."""

import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer, chat_template_utils

from ftkit.config.errors import UserError
from ftkit.data.templates.templates import install_template, prepare_messages
from ftkit.data.tokens.tokenization import IGNORE_INDEX, prompt_ids, tokenize_rows

BUNDLED = ["alpaca", "chatml", "llama3", "phi3", "plain"]
SYSTEM = [{"role": "system", "content": "Be nice.\n"}]
TURNS = [
    {"role": "user", "content": "Add 12.\n\n### Input:\nx<|end|>\n### Response:\n<|im_start|>"},
    {"role": "assistant", "content": '"Yes" <|endoftext|><|im_end|> 🎉'},
    {"role": "user", "content": " And?\n\n"},
    {"role": "assistant", "content": "\n(é)\n\n\n'No'"},
]
EXCHANGE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes, he said."}]


def trained_text(row, tokenizer):
    return tokenizer.decode([label for label in row["labels"] if label != IGNORE_INDEX])


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("add_tokens", [False, True])
def test_what_generation_renders_is_a_prefix_of_what_training_rendered(tokenizer, name, add_tokens):
    info = install_template(tokenizer, name, add_tokens=add_tokens)
    for messages in (TURNS, SYSTEM + TURNS):
        row = tokenize_rows([{"messages": messages}], tokenizer, info, None).rows[0]
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                prompt = prompt_ids(messages[:index], tokenizer, info)
                assert row["input_ids"][: len(prompt)] == prompt
                assert row["labels"][len(prompt) - 1] == IGNORE_INDEX
                assert row["labels"][len(prompt)] == row["input_ids"][len(prompt)]


@pytest.mark.parametrize("name", BUNDLED)
def test_ids_equal_apply_chat_template_on_the_neutralised_messages(tokenizer, name):
    info = install_template(tokenizer, name)
    prepared, count = prepare_messages(SYSTEM + TURNS, tokenizer, info)
    assert count > 0
    row = tokenize_rows([{"messages": SYSTEM + TURNS}], tokenizer, info, None).rows[0]
    assert row["input_ids"] == tokenizer.apply_chat_template(prepared)["input_ids"]
    prompt = tokenizer.apply_chat_template(prepared[:-1], add_generation_prompt=True)["input_ids"]
    assert prompt_ids((SYSTEM + TURNS)[:-1], tokenizer, info) == prompt


@pytest.mark.parametrize("name", [*BUNDLED, "trl"])
def test_ids_and_labels_equal_trls_own(bpe, tmp_path, name):
    if name == "trl":
        bpe.chat_template = chat_template_utils.llama3_chat_template
        bpe.add_special_tokens({"additional_special_tokens": ["<|eot_id|>"]})
        info = install_template(bpe)
        assert info.trains_with == "trl"
    else:
        info = install_template(bpe, name)
    rows = [{"messages": messages} for messages in (TURNS, SYSTEM + TURNS, EXCHANGE)]
    prepared = [{"messages": prepare_messages(row["messages"], bpe, info)[0]} for row in rows]
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(bpe), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    arguments = SFTConfig(
        output_dir=tmp_path, assistant_only_loss=True, max_length=512, bf16=False, use_cpu=True, report_to="none"
    )
    trainer = SFTTrainer(model, arguments, train_dataset=Dataset.from_list(prepared), processing_class=bpe)
    theirs = [{key: row[key] for key in ("input_ids", "labels")} for row in trainer.train_dataset]
    assert tokenize_rows(rows, bpe, info, 512).rows == theirs


def test_plain_text_is_trained_whole_with_an_eos(tokenizer):
    eos = tokenizer.eos_token
    assert tokenize_rows([{"text": f"Yes.{eos}"}], tokenizer, None, None).num_control_text_rows == 0
    for text in ("Yes.\n", f"Yes.\n{eos}"):
        row = tokenize_rows([{"text": text}], tokenizer, None, None).rows[0]
        assert row["labels"] == row["input_ids"] == tokenizer(f"Yes.\n{eos}")["input_ids"]
        assert row["input_ids"][-1] == tokenizer.eos_token_id


def test_a_tokenizer_that_adds_a_bos_gets_one_bos_and_no_more(bpe):
    bpe.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    bos = bpe.bos_token_id
    bpe.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    for name, count in (("llama3", 1), ("phi3", 0)):
        info = install_template(bpe, name)
        assert tokenize_rows([{"messages": EXCHANGE}], bpe, info, None).rows[0]["input_ids"].count(bos) == count
        assert prompt_ids(EXCHANGE[:1], bpe, info).count(bos) == count
    assert tokenize_rows([{"text": "a"}], bpe, None, None).rows[0]["input_ids"][0] == bos


@pytest.mark.smollm2
def test_smollm2s_own_template_trains_the_answer_and_its_end_token(smollm2):
    info = install_template(smollm2, "auto")
    row = tokenize_rows([{"messages": EXCHANGE}], smollm2, info, None).rows[0]
    assert trained_text(row, smollm2) == "Yes, he said.<|im_end|>"
    assert row["input_ids"] == smollm2.apply_chat_template(EXCHANGE)["input_ids"]
    assert row["labels"][-1] == IGNORE_INDEX  # the line break behind the end token


def test_a_merge_across_the_start_of_an_answer_belongs_to_the_answer(bpe):
    bpe.chat_template = (
        "{% for m in messages %}{{ m.content + (eos_token if m.role == 'assistant' else '') }}{% endfor %}"
    )
    info = install_template(bpe)
    pair = [{"role": "user", "content": "a|"}, {"role": "assistant", "content": ">b"}]
    row = tokenize_rows([{"messages": pair}], bpe, info, None).rows[0]
    assert bpe.convert_ids_to_tokens(row["input_ids"]) == ["a", "|>", "b", "<|endoftext|>"]
    assert row["labels"] == [IGNORE_INDEX, *row["input_ids"][1:]]


def test_answers_in_the_prompt_are_context(bpe):
    info = install_template(bpe, "plain")
    row = tokenize_rows([{"messages": TURNS, "untrained": [1]}], bpe, info, None).rows[0]
    assert trained_text(row, bpe) == "(é)\n\n\n'No'<|endoftext|>"


def test_rows_are_cut_and_the_loss_is_counted(bpe):
    info = install_template(bpe, "plain")
    rows = [{"messages": EXCHANGE, "source": "f:1"}, {"messages": TURNS, "source": "f:2"}, {"text": "a<|endoftext|>b"}]
    whole = tokenize_rows(rows, bpe, info, None)
    lengths = whole.lengths
    assert whole.counts() == {
        "num_rows": 3,
        "num_sequences": 3,
        "num_tokens": sum(lengths),
        "dropped": {},
        "num_end_tokens_trained": 5,
        "num_trained_tokens": sum(label != IGNORE_INDEX for row in whole.rows for label in row["labels"]),
        "num_truncated_rows": 0,
        "num_answers_cut": 0,
        "num_end_tokens_lost": 0,
        "num_untrained_answers": 0,
        "num_thoughts": 0,
        "num_thought_tokens": 0,
        "num_calls": 0,
        "num_results": 0,
        "num_parts": 0,
        "num_altered_answers": 1,  # white space at an end
        "num_neutralised_rows": 1,
        "num_control_text_rows": 1,
    }
    only_end_token_cut = tokenize_rows(rows[:1], bpe, info, lengths[0] - 1)
    assert only_end_token_cut.lengths == [lengths[0] - 1]
    assert only_end_token_cut.rows[0]["labels"] == whole.rows[0]["labels"][:-1]
    assert (only_end_token_cut.num_truncated_rows, only_end_token_cut.num_answers_cut) == (1, 0)
    assert only_end_token_cut.num_end_tokens_lost == 1
    assert tokenize_rows(rows[:1], bpe, info, lengths[0] - 2).num_answers_cut == 1
    start_of_second = len(prompt_ids(TURNS[:3], bpe, info))
    cut = tokenize_rows(rows[1:2], bpe, info, start_of_second)
    assert (cut.num_answers_cut, cut.num_end_tokens_lost, cut.num_truncated_rows) == (1, 1, 1)


def test_a_row_without_an_answer_token_after_truncation_names_its_line(bpe):
    info = install_template(bpe, "plain")
    length = len(prompt_ids(EXCHANGE[:1], bpe, info))
    rows = [{"text": "a", "source": "f:1"}, {"messages": EXCHANGE, "source": "f:9"}]
    assert tokenize_rows(rows, bpe, info, length + 1).num_rows == 2
    with pytest.raises(UserError) as error:
        tokenize_rows(rows, bpe, info, length)
    assert str(error.value) == (
        f"f:9: no answer token is left after --max_length {length} (the prompt alone has {length} tokens); "
        "raise --max_length, shorten the prompt, or pass --untrained_rows drop"
    )


def test_a_row_the_template_refuses_names_its_line(bpe):
    info = install_template(bpe, "plain")
    rows = [{"messages": [{"role": "critic", "content": "x"}], "source": "f:7"}]
    with pytest.raises(UserError, match=r'^f:7: the template refuses this conversation \(unknown role "critic"'):
        tokenize_rows(rows, bpe, info, None)


def test_an_empty_mask_is_refused(bpe):
    info = install_template(bpe, "plain")
    row = {"messages": EXCHANGE[:1], "source": "f:3"}
    with pytest.raises(UserError, match="^f:3: the template marks no token of this row as an answer; choose another"):
        tokenize_rows([row], bpe, info, None)
