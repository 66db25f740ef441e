"""The template lock: any change of template, control tokens or vocabulary is seen, and its first token named."""

import copy
import datetime
import json
import logging
import re

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils
from trl import chat_template_utils as trl_templates

from ftkit.config.errors import UserError
from ftkit.data.templates import lock as template_lock
from ftkit.data.templates.lock import (
    LOCK_FILE,
    LockState,
    copy_lock,
    make_lock,
    read_lock,
    render_with_fixed_clock,
    verify_lock,
    verify_tokenizer,
    vocabulary_entries,
    write_lock,
)
from ftkit.data.templates.rendering import render
from ftkit.data.templates.templates import install_template

DATED = (
    "{%- if not date_string is defined -%}{%- set date_string = strftime_now('%d %b %Y') -%}{%- endif -%}"
    "Today is {{ date_string }}.{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
)


@pytest.fixture
def locked(bpe, tmp_path):
    """A folder with a tokenizer, the template phi3 with its control tokens, and its lock."""
    info = install_template(bpe, "phi3", add_tokens=True)
    bpe.save_pretrained(tmp_path)
    write_lock(tmp_path, make_lock(bpe, info.name))
    return tmp_path


def loaded(folder):
    return AutoTokenizer.from_pretrained(folder)


def change_template(folder, old, new):
    path = folder / "chat_template.jinja"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def change_tokenizer(folder, change):
    """Rewrite tokenizer.json after `change` was applied to its content."""
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))


def test_a_folder_renders_as_it_was_saved(locked):
    assert verify_lock(locked, loaded(locked)) is LockState.LOCKED
    lock = json.loads((locked / LOCK_FILE).read_text())
    assert lock["template"]["name"] == "phi3"
    assert lock["control_tokens"]["<|end|>"] == loaded(locked).convert_tokens_to_ids("<|end|>")
    assert [case.get("add_generation_prompt") for case in lock["golden"]] == [True, False, True, False, False, None]
    tokenizer, case = loaded(locked), lock["golden"][3]
    assert case["ids"] == tokenizer.apply_chat_template(case["messages"])["input_ids"]


def test_the_generation_prompt_of_the_golden_conversation_is_a_prefix_of_the_trained_one(locked):
    prompt, trained = read_lock(locked)["golden"][2:4]
    assert trained["ids"][: len(prompt["ids"])] == prompt["ids"]


def test_one_space_in_the_template_is_a_mismatch_that_names_the_token(locked):
    change_template(locked, "'<|end|>\\n'", "'<|end|>\\n '")
    with pytest.raises(UserError) as error:
        verify_lock(locked, loaded(locked))
    message = str(error.value)
    assert re.search(
        r"token \d+ of the golden conversation \(user\) was '<\|assistant\|>' \(id \d+\) and is 'Ġ'", message
    )
    assert "trained with different tokens (template phi3)" in message
    assert message.endswith("or train with --template to write a new lock")


def test_a_space_that_no_golden_conversation_shows_is_a_mismatch_that_names_the_line(locked):
    change_template(locked, "raise_exception('unknown role \"'", "raise_exception('unknown  role \"'")
    with pytest.raises(UserError, match=r"line 1\d of the chat template was .*'unknown role .* is .*'unknown  role"):
        verify_lock(locked, loaded(locked))


def test_a_control_token_with_another_id_is_named(locked):
    def swap(state):
        first, second = (t for t in state["added_tokens"] if t["content"] in ("<|user|>", "<|end|>"))
        first["content"], second["content"] = second["content"], first["content"]

    change_tokenizer(locked, swap)
    with pytest.raises(UserError, match=r"token 0 of .* was '<\|user\|>' \(id (\d+)\) and is '<\|user\|>' \(id (?!\1)"):
        verify_lock(locked, loaded(locked))


def test_a_control_token_that_no_golden_conversation_holds_is_named(bpe, tmp_path):
    bpe.add_special_tokens({"additional_special_tokens": ["<|unused|>"]})
    write_lock(tmp_path, make_lock(bpe))
    plain = type(bpe)(tokenizer_object=type(bpe.backend_tokenizer).from_str(bpe.backend_tokenizer.to_str()))
    plain.eos_token = plain.bos_token = "<|unused|>"
    with pytest.raises(UserError, match=r"bos_token was '<\|endoftext\|>' and is '<\|unused\|>'"):
        verify_lock(tmp_path, plain)
    bpe.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    with pytest.raises(UserError, match=r"control token '<\|new\|>' was none and is id 298"):
        verify_lock(tmp_path, bpe)


def test_an_unused_entry_of_the_vocabulary_is_named(locked):
    tokens = sorted(loaded(locked).get_vocab().items(), key=lambda item: item[1])
    golden = {id for case in read_lock(locked)["golden"] for id in case["ids"]}
    first, second = [token for token, id in tokens if id not in golden and 0 < id < 250][:2]

    def swap(state):
        vocabulary = state["model"]["vocab"]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]

    change_tokenizer(locked, swap)
    id = dict(tokens)[first]
    with pytest.raises(UserError, match=re.escape(f"token {second!r} (id {id}) was a different one, or was made")):
        verify_lock(locked, loaded(locked))


def test_a_lost_merge_is_named_by_its_token(locked):
    merges = json.loads((locked / "tokenizer.json").read_text())["model"]["merges"]
    last = "".join(merges[-1])
    change_tokenizer(locked, lambda state: state["model"]["merges"].pop())
    with pytest.raises(UserError, match=re.escape(repr(last))):
        verify_lock(locked, loaded(locked))


def test_another_way_of_cutting_text_is_seen_in_the_golden_text(locked):
    change_tokenizer(locked, lambda state: state.update(normalizer={"type": "Lowercase"}))
    with pytest.raises(
        UserError, match=r"token \d+ of the golden conversation \(user\) was 'D' \(id 36\) and is 'd' \(id 68\)"
    ):
        verify_lock(locked, loaded(locked))


def test_a_shorter_vocabulary_says_so(bpe, tmp_path):
    recorded = make_lock(copy.deepcopy(with_token(bpe)))["tokenizer"]
    assert template_lock.vocabulary_difference(recorded, bpe) is None
    shorter = AutoTokenizer.from_pretrained(save(bpe, tmp_path))
    assert template_lock.vocabulary_difference(recorded, shorter) == "the vocabulary had 298 tokens and has 297"


def save(tokenizer, folder):
    """Save a tokenizer without its last added token."""
    tokenizer.save_pretrained(folder)
    change_tokenizer(folder, lambda state: state["added_tokens"].pop())
    return folder


def with_token(tokenizer):
    tokenizer.add_tokens(["word"])
    return tokenizer


def test_two_entries_with_equal_checksums_are_still_a_difference(bpe):
    recorded = make_lock(bpe)["tokenizer"] | {"sha256": "another"}
    assert template_lock.vocabulary_difference(recorded, bpe) == "two entries of the vocabulary differ"


def test_a_template_that_refuses_a_golden_conversation_is_locked_too(bpe, tmp_path):
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}{{ messages[0].content + eos_token }}"
    bpe.chat_template = refusing
    write_lock(tmp_path, make_lock(bpe))
    assert verify_lock(tmp_path, bpe) is LockState.LOCKED
    bpe.chat_template = "{{ messages[-1 if messages[0].role == 'system' else 0].content + eos_token }}"
    with pytest.raises(UserError, match="template takes a conversation of system user assistant user now"):
        verify_lock(tmp_path, bpe)
    bpe.chat_template = "{{ raise_exception('none') }}"
    with pytest.raises(UserError, match="template refuses a conversation of user now"):
        verify_lock(tmp_path, bpe)
    bpe.chat_template = None
    with pytest.raises(UserError, match="the tokenizer has no chat template now"):
        verify_lock(tmp_path, bpe)


class Clock(datetime.datetime):
    """A day that no lock was written on."""

    @classmethod
    def now(cls, tz=None):
        return cls(1999, 12, 31)


def test_a_template_that_prints_the_date_is_locked_on_every_day(bpe, tmp_path, monkeypatch):
    bpe.chat_template = DATED
    write_lock(tmp_path, make_lock(bpe))
    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    messages = [{"role": "user", "content": "x"}]
    assert render(messages, bpe).startswith("Today is 31 Dec 1999.")
    assert render_with_fixed_clock(messages, bpe).startswith("Today is 1 January 2026.x")
    assert verify_lock(tmp_path, bpe) is LockState.LOCKED


def test_llama_3_2_is_locked_on_every_day(bpe, tmp_path, monkeypatch):
    bpe.chat_template = trl_templates.llama3_2_chat_template
    bpe.add_special_tokens({"additional_special_tokens": ["<|eot_id|>"]})
    write_lock(tmp_path, make_lock(bpe))
    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    assert "31 Dec 1999" in render([{"role": "user", "content": "x"}], bpe)
    assert verify_lock(tmp_path, bpe) is LockState.LOCKED


def test_a_model_as_it_was_published_has_no_lock_and_no_warning(bpe, tmp_path, caplog):
    (tmp_path / "config.json").write_text("{}")
    assert verify_lock(tmp_path, bpe) is LockState.UNLOCKED
    assert not caplog.records


@pytest.mark.parametrize("trained", ["run.yaml", "receipt.json", "adapter_config.json"])
def test_a_trained_folder_without_a_lock_is_one_warning(trained, bpe, tmp_path, caplog):
    (tmp_path / trained).touch()
    assert verify_lock(tmp_path, bpe) is LockState.UNLOCKED
    assert caplog.record_tuples == [
        ("ftkit.data.templates.lock", logging.WARNING, f"{tmp_path} has no template.lock.json: nothing proves that it is asked as it was trained")
    ]  # fmt: skip
    assert verify_tokenizer(tmp_path, bpe) is LockState.UNLOCKED
    assert len(caplog.records) == 1


def test_a_model_trained_on_plain_text_takes_any_template_but_no_other_tokenizer(bpe, tmp_path):
    write_lock(tmp_path, make_lock(bpe))
    install_template(bpe, "alpaca")
    assert verify_lock(tmp_path, bpe) is LockState.LOCKED
    with pytest.raises(UserError, match=r"template none\): token 'word' \(id 297\) was a different one"):
        verify_lock(tmp_path, with_token(bpe))


def test_training_with_another_template_still_needs_the_same_tokenizer(locked):
    tokenizer = loaded(locked)
    install_template(tokenizer, "alpaca")
    assert verify_tokenizer(locked, tokenizer) is LockState.LOCKED
    with pytest.raises(UserError, match="token 'word'"):
        verify_tokenizer(locked, with_token(tokenizer))


def test_the_lock_of_a_gguf_file_lies_beside_it(locked):
    assert read_lock(locked / "model.gguf") == read_lock(locked)


def test_a_lock_is_copied_where_there_is_one(locked, tmp_path_factory):
    target = tmp_path_factory.mktemp("copy")
    copy_lock(target, target)
    assert not any(target.iterdir())
    copy_lock(locked, target)
    assert read_lock(target) == read_lock(locked)


def test_a_broken_or_newer_lock_is_one_line(bpe, tmp_path):
    path = tmp_path / LOCK_FILE
    for text in ("{", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(
            UserError,
            match="template.lock.json:.* (not valid JSON|expected a JSON object|not as training).*; restore it, or train again",
        ):
            read_lock(tmp_path)
    path.write_text('{"version": 2}')
    with pytest.raises(UserError, match="has version 2, this ftkit knows 1; upgrade ftkit"):
        verify_lock(tmp_path, bpe)


def test_a_unigram_vocabulary_is_told_apart_by_its_scores(bpe):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    def entries(score):
        backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", score)], unk_id=0))
        return vocabulary_entries(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))

    assert entries(-1.0)[1] != entries(-2.0)[1]
    assert entries(-1.0)[1].startswith("a\0")


@pytest.mark.smollm2
def test_a_real_vocabulary_is_locked_through_saving(smollm2, tmp_path):
    lock = make_lock(smollm2, "auto")
    smollm2.save_pretrained(tmp_path)
    write_lock(tmp_path, lock)
    assert verify_lock(tmp_path, loaded(tmp_path)) is LockState.LOCKED
    assert lock["golden"][1]["tokens"][0] == "<|im_start|>"
    change_template(tmp_path, "<|im_end|>", " <|im_end|>")
    with pytest.raises(UserError, match=r"was '<\|im_end\|>' \(id 2\) and is 'Ġ'"):
        verify_lock(tmp_path, loaded(tmp_path))
