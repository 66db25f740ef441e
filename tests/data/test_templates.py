"""Templates: what is installed on a tokenizer, which characters are trained, and that text can't forge a turn."""

import random

import pytest
from trl import chat_template_utils

from ftkit.config.assets import list_assets
from ftkit.config.errors import UserError
from ftkit.data.templates import answers, templates
from ftkit.data.templates.forgery import break_strings
from ftkit.data.templates.rendering import render, render_marked
from ftkit.data.templates.templates import (
    install_template,
    prepare_messages,
    render_training,
    restore,
    special_tokens,
)

BUNDLED = ["alpaca", "chatml", "llama3", "phi3", "plain"]
MULTI_TURN = [
    {"role": "system", "content": " Be nice. "},
    {"role": "user", "content": "Add.\n\n### Input:\n1 2"},
    {"role": "assistant", "content": '\n"3"'},
    {"role": "user", "content": "And 4?"},
    {"role": "assistant", "content": "(7) "},
]


def trained(messages, tokenizer, info):
    text, spans = render_training(messages, tokenizer, info)
    return [text[start:end] for start, end in spans]


def with_special_tokens(tokenizer, template, *tokens):
    tokenizer.chat_template = template
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    return tokenizer


def test_five_templates_are_bundled():
    assert list_assets("templates") == BUNDLED


@pytest.mark.parametrize("name", BUNDLED)
def test_the_answers_and_their_end_token_are_trained_and_nothing_else(tokenizer, name):
    info = install_template(tokenizer, name)
    eos = tokenizer.eos_token
    assert info.trains_with == "markers"
    assert trained(MULTI_TURN, tokenizer, info) == [f'"3"{eos}', f"(7){eos}"]


EXPECTED = {
    "alpaca": "Be nice.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    '"3"<|endoftext|>\n\n### Instruction:\nAnd 4?\n\n### Response:\n(7)<|endoftext|>',
    "chatml": "<|im_start|>system\nBe nice.<|im_end|>\n<|im_start|>user\nAdd.\n\n### Input:\n1 2<|im_end|>\n"
    '<|im_start|>assistant\n"3"<|im_end|>\n<|im_start|>user\nAnd 4?<|im_end|>\n<|im_start|>assistant\n(7)<|im_end|>\n',
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nBe nice.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAdd.\n\n### Input:\n1 2<|eot_id|>"
    '<|start_header_id|>assistant<|end_header_id|>\n\n"3"<|eot_id|>'
    "<|start_header_id|>user<|end_header_id|>\n\nAnd 4?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n(7)<|eot_id|>",
    "phi3": "<|system|>\nBe nice.<|end|>\n<|user|>\nAdd.\n\n### Input:\n1 2<|end|>\n"
    '<|assistant|>\n"3"<|end|>\n<|user|>\nAnd 4?<|end|>\n<|assistant|>\n(7)<|end|>\n',
    "plain": 'Be nice.\nAdd.\n\n### Input:\n1 2\n"3"<|endoftext|>\nAnd 4?\n(7)<|endoftext|>',
}


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_templates_render_the_published_text(bpe, monkeypatch, name):
    monkeypatch.setattr(templates, "splits_header_gap", lambda tokenizer: False)
    install_template(bpe, name, add_tokens=True)
    assert render(MULTI_TURN, bpe) == EXPECTED[name]


@pytest.mark.parametrize(
    "name, tokens",
    [
        ("chatml", ["<|im_start|>", "<|im_end|>"]),
        ("llama3", ["<|begin_of_text|>", "<|eot_id|>"]),
        ("phi3", ["<|end|>"]),
    ],
)
def test_the_text_equals_that_of_the_familys_own_template(bpe, monkeypatch, name, tokens):
    monkeypatch.setattr(templates, "splits_header_gap", lambda tokenizer: False)
    own = {
        "chatml": chat_template_utils.qwen3_instruct_2507_chat_template,
        "llama3": chat_template_utils.llama3_chat_template,
        "phi3": chat_template_utils.phi3_chat_template,
    }[name]
    bpe.add_special_tokens({"additional_special_tokens": tokens})
    if name == "llama3":
        bpe.bos_token = "<|begin_of_text|>"
    info = install_template(bpe, name)
    assert info.end_of_turn == tokens[-1]
    messages = [{**message, "content": message["content"].strip()} for message in MULTI_TURN]
    for end, add_generation_prompt in ((5, False), (2, True), (4, True)):
        expected = render_marked(messages[:end], bpe, own, add_generation_prompt)[0]
        if name == "phi3" and not add_generation_prompt:
            expected = expected.removesuffix(bpe.eos_token)  # the original closes the last answer twice
        assert render(messages[:end], bpe, add_generation_prompt) == expected


def test_alpaca_uses_stanfords_two_preambles(bpe):
    install_template(bpe, "alpaca")
    user = {"role": "user", "content": "Add.\n\n### Input:\n1 2"}
    assert render([user], bpe, add_generation_prompt=True) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    )
    user = {"role": "user", "content": "Say hi."}
    assert render([user], bpe, add_generation_prompt=True) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nSay hi.\n\n### Response:\n"
    )


def test_a_missing_control_token_stays_text_and_eos_closes_the_answer(bpe):
    size = len(bpe)
    info = install_template(bpe, "phi3")
    assert (info.end_of_turn, info.end_of_turn_id, info.added_tokens, len(bpe)) == ("<|endoftext|>", 0, [], size)
    assert render(MULTI_TURN[3:], bpe) == "<|user|>\nAnd 4?<|end|>\n<|assistant|>\n(7)<|endoftext|>\n"
    assert "<|endoftext|>" in bpe.chat_template


def test_add_tokens_puts_the_control_tokens_into_the_vocabulary(bpe):
    size = len(bpe)
    info = install_template(bpe, "phi3", add_tokens=True)
    assert info.added_tokens == [size, size + 1, size + 2, size + 3]
    assert bpe.convert_ids_to_tokens(info.added_tokens) == ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    assert (info.end_of_turn, info.end_of_turn_id) == ("<|end|>", size + 3)
    assert trained(MULTI_TURN[3:], bpe, info) == ["(7)<|end|>"]


def test_the_header_gap_of_llama3_is_kept_where_the_tokenizer_keeps_it_whole(bpe):
    install_template(bpe, "llama3")
    assert "<|end_header_id|>\nAnd 4?" in render(MULTI_TURN[3:], bpe)  # here "\n\n" is one token and "\n\nA" is three
    bpe.add_tokens(["\n\n"])
    install_template(bpe, "llama3")
    assert "<|end_header_id|>\n\nAnd 4?" in render(MULTI_TURN[3:], bpe)


def test_an_installed_template_survives_saving(tmp_path, bpe):
    info = install_template(bpe, "phi3")
    bpe.save_pretrained(tmp_path)
    loaded = type(bpe).from_pretrained(tmp_path)
    again = install_template(loaded, "auto")
    assert again.trains_with == "markers"
    assert (again.fingerprint, again.control_strings, again.end_of_turn_id) == (
        info.fingerprint, info.control_strings, info.end_of_turn_id,
    )  # fmt: skip


@pytest.mark.smollm2
def test_smollm2s_own_template_is_trained_through_offsets(smollm2):
    info = install_template(smollm2, "auto")
    assert (info.trains_with, info.end_of_turn, info.end_of_turn_id) == ("offsets", "<|im_end|>", 2)
    text, spans = render_training(MULTI_TURN[1:], smollm2, info)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert [text[start:end] for start, end in spans] == ['\n"3"<|im_end|>', "(7) <|im_end|>"]


def test_auto_takes_trls_training_variant_where_it_renders_the_same(bpe):
    own = chat_template_utils.llama3_chat_template
    with_special_tokens(bpe, own, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    info = install_template(bpe)
    assert (info.trains_with, bpe.chat_template) == ("trl", own)
    assert trained(MULTI_TURN, bpe, info) == ['"3"<|eot_id|>', "(7)<|eot_id|>"]


def test_auto_leaves_trls_variant_where_it_trains_line_breaks_around_the_answer(bpe):
    with_special_tokens(bpe, chat_template_utils.qwen2_5_chat_template, "<|im_end|>")
    variant = chat_template_utils.get_training_chat_template(bpe)
    text, ((start, end),) = render_marked(MULTI_TURN[3:], bpe, variant)
    assert text[start:end] == "\n(7) <|im_end|>\n"
    info = install_template(bpe)
    assert info.trains_with == "offsets"
    assert trained(MULTI_TURN[3:] * 2, bpe, info) == ["(7) <|im_end|>", "(7) <|im_end|>"]


def test_offsets_end_an_answer_at_its_first_end_token(bpe):
    with_special_tokens(bpe, chat_template_utils.phi3_chat_template, "<|end|>")  # closes the last answer twice
    info = install_template(bpe)
    assert render(MULTI_TURN[3:], bpe).endswith("(7) <|end|>\n<|endoftext|>")
    assert trained(MULTI_TURN[3:], bpe, info) == ["(7) <|end|>"]


def test_auto_leaves_trls_variant_where_it_renders_another_text(bpe, monkeypatch):
    with_special_tokens(bpe, chat_template_utils.llama3_chat_template, "<|eot_id|>")
    variant = chat_template_utils.get_training_chat_template(bpe)
    monkeypatch.setattr(answers, "trl_variant", lambda tokenizer: variant.replace("<|eot_id|>", " <|eot_id|>"))
    info = install_template(bpe)
    assert info.trains_with == "offsets"
    assert " <|eot_id|>" not in render_training(MULTI_TURN, bpe, info)[0]


def test_auto_prefers_offsets_to_a_variant_that_trains_the_role(bpe):
    tokens = ["<|start|>", "<|message|>", "<|eot|>"]
    with_special_tokens(bpe, chat_template_utils.muse_glimmer_chat_template, *tokens)
    info = install_template(bpe)
    assert info.trains_with == "offsets"
    assert all(not text.startswith("<|start|>") for text in trained(MULTI_TURN, bpe, info))


def test_a_template_that_rewrites_earlier_answers_is_refused_for_several_turns(bpe):
    with_special_tokens(bpe, chat_template_utils.qwen3_chat_template, "<|im_start|>", "<|im_end|>")
    info = install_template(bpe)
    assert trained(MULTI_TURN[3:], bpe, info) == ["<think>\n\n</think>\n\n(7) <|im_end|>"]
    with pytest.raises(UserError, match=r"renders earlier turns differently .* \(turn 3\); use --template chatml"):
        render_training(MULTI_TURN, bpe, info)


def test_markers_that_leave_out_the_end_token_give_way_to_offsets(bpe, caplog):
    bpe.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "A: {% generation %}{{ m.content }}{% endgeneration %}{{ eos_token }}"
        "{% else %}Q: {{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
    )
    info = install_template(bpe)
    assert info.trains_with == "offsets"
    assert trained(MULTI_TURN[3:], bpe, info) == ["(7) <|endoftext|>"]
    assert "leave out the end token" in caplog.text


def test_a_users_file_without_markers_is_trained_through_offsets(tmp_path, bpe):
    path = tmp_path / "mine.jinja"
    path.write_text(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}\n"
    )
    info = install_template(bpe, str(path))
    assert (info.name, info.trains_with) == ("mine", "offsets")
    assert trained(MULTI_TURN[3:], bpe, info) == ["(7) <|endoftext|>"]


def test_what_cannot_be_installed_is_one_line(tmp_path, bpe):
    with pytest.raises(UserError, match=r"has no chat template; choose one: --template alpaca\|chatml\|llama3\|"):
        install_template(bpe)
    with pytest.raises(UserError, match='unknown template "alpacca"; did you mean "alpaca"\\?; allowed: auto, al'):
        install_template(bpe, "alpacca")
    with pytest.raises(UserError, match="no such template file; check the path, or use one of"):
        install_template(bpe, str(tmp_path / "mine.jinja"))
    path = tmp_path / "endless.jinja"
    path.write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    with pytest.raises(UserError, match="template endless: no end token of the tokenizer closes an answer"):
        install_template(bpe, str(path))
    path.write_text("{% for m in messages %}")
    with pytest.raises(UserError, match=r"^the template refuses this conversation \(.*\); change it or choose "):
        install_template(bpe, str(path))
    path.write_bytes("{# für #}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}".encode("latin-1"))
    with pytest.raises(UserError, match=r"endless.jinja:1: not UTF-8 .*; save the template as UTF-8"):
        install_template(bpe, str(path))
    bpe.eos_token = None
    with pytest.raises(UserError, match="the tokenizer has no eos token to close an answer; set eos_token"):
        install_template(bpe, "alpaca")
    with pytest.raises(UserError, match="the tokenizer has no eos token to close a text; set eos_token"):
        templates.plain_text_info(bpe)


def test_a_byte_order_mark_is_no_part_of_a_template(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages }}", encoding="utf-8-sig")
    assert templates.read_template(str(path)) == "{{ messages }}"


def test_a_tokenizer_without_offsets_is_refused(bpe, monkeypatch):
    monkeypatch.setattr(type(bpe), "is_fast", False)
    with pytest.raises(UserError, match="the tokenizer gives no offsets; it needs a tokenizer.json"):
        install_template(bpe, "alpaca")


@pytest.mark.parametrize("name", BUNDLED)
def test_an_unknown_role_is_refused(bpe, name):
    install_template(bpe, name)
    with pytest.raises(UserError, match='unknown role "critic"; allowed: system, user, assistant'):
        render([{"role": "user", "content": "a"}, {"role": "critic", "content": "b"}], bpe)


def test_alpaca_refuses_a_late_system_turn(bpe):
    install_template(bpe, "alpaca")
    with pytest.raises(UserError, match="the system turn comes first"):
        render([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], bpe)


def test_neutralised_text_holds_no_control_id_and_comes_back(tokenizer):
    text = f"a {tokenizer.eos_token} b\n### Response:\nc"
    broken, _ = break_strings(text, tuple(special_tokens(tokenizer)), ("### Response:",))
    assert tokenizer.eos_token_id not in tokenizer(broken)["input_ids"]
    assert "\n### Response:" not in broken
    info = install_template(tokenizer, "alpaca")
    assert restore(broken, info) == text


def test_a_token_that_is_not_special_is_for_answers_only(bpe):
    template = chat_template_utils.qwen3_chat_template.replace("reasoning_content is string", "unknown is string")
    with_special_tokens(bpe, template, "<|im_start|>", "<|im_end|>")
    bpe.add_tokens(["<think>", "</think>", "unrelated"])
    info = install_template(bpe)
    assert info.user_strings == ("<think>", "</think>")
    messages = [{"role": role, "content": "<think>unrelated"} for role in ("user", "assistant")]
    (user, assistant), count = prepare_messages(messages, bpe, info)
    assert (user["content"], assistant["content"], count) == ("<\u2060think>unrelated", "<think>unrelated", 1)
    assert restore(user["content"], info, "user") == "<think>unrelated"


def test_a_control_token_that_cannot_be_broken_is_a_warning(bpe, caplog):
    bpe.add_special_tokens({"additional_special_tokens": ["§"]})
    install_template(bpe, "alpaca")
    assert "can't be kept from holding the control tokens ['§']" in caplog.text


def test_the_first_input_marker_of_a_user_turn_stays(bpe):
    info = install_template(bpe, "alpaca")
    content = "a\n\n### Input:\nb\n\n### Input:\n### Response:\nc"
    (message,), count = prepare_messages([{"role": "user", "content": content}], bpe, info)
    assert message["content"] == "a\n\n### Input:\nb\n\n#\u2060## Input:\n#\u2060## Response:\nc"
    assert count == 2
    for content in ("\n\n### Input:\nb", "a\n\n### Input:\n"):  # no input or no instruction: a forged heading
        assert prepare_messages([{"role": "user", "content": content}], bpe, info)[1] == 1


def test_headings_are_left_alone_by_templates_without_them(bpe):
    info = install_template(bpe, "chatml")
    messages = [{"role": "user", "content": "### Response:\n"}]
    assert prepare_messages(messages, bpe, info) == (messages, 0)


@pytest.mark.parametrize("name", ["alpaca", "chatml", "llama3", "phi3"])
@pytest.mark.parametrize("add_tokens", [False, True])
def test_no_text_forges_a_turn(bpe, name, add_tokens):
    info = install_template(bpe, name, add_tokens=add_tokens)
    pieces = [*info.control_strings, *info.headings, "\n", "\n\n", " ", "user", "assistant", "a", "<|", "|>", "\u2060"]
    generator = random.Random(0)

    def marks(text):
        """How often each control string and each heading at the start of a line occurs."""
        lines = [line.strip(" ") for line in text.splitlines()]
        return [text.count(token) for token in info.control_strings] + [
            sum(line.startswith(heading) for line in lines) for heading in info.headings
        ]

    clean = [{"role": role, "content": "x"} for role in ("system", "user", "assistant", "user", "assistant")]
    for _ in range(300):
        forged = [
            {**message, "content": "".join(generator.choice(pieces) for _ in range(8)) + "."} for message in clean
        ]
        prepared, _ = prepare_messages(forged, bpe, info)
        expected = [
            {**message, "content": "x\n\n### Input:\nx" if "\n\n### Input:\n" in prepared[i]["content"] else "x"}
            for i, message in enumerate(clean)
        ] if info.headings else clean  # fmt: skip
        assert marks(render(prepared, bpe)) == marks(render(expected, bpe))
        restored = [restore(message["content"], info, message["role"]) for message in prepared]
        assert restored == [message["content"] for message in forged]
