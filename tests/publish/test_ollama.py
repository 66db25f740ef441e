"""The Modelfile's TEMPLATE, run as Ollama runs it, renders what the chat template renders; stop strings end turns."""

import json
import os
import shutil
import subprocess

import pytest
from go_template import GoTemplate, read_modelfile
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ftkit.config.errors import UserError
from ftkit.data.templates.templates import install_template
from ftkit.model.loading import load_tokenizer
from ftkit.publish.export.ollama import go_literal, modelfile, probe_template, stop_strings

BUNDLED = ("alpaca", "chatml", "llama3", "phi3", "plain")
# As SmolLM2 has it: a system turn of its own where the conversation has none.
WITH_DEFAULT = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a crow.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Llama 2 has it: the system text stands inside the first question.
SYSTEM_IN_QUESTION = (
    "{% set turns = messages[1:] if messages[0]['role'] == 'system' else messages %}{% for m in turns %}"
    "{% if m['role'] == 'user' %}[INST] {% if loop.first and messages[0]['role'] == 'system' %}"
    "<<SYS>>{{ messages[0]['content'] }}<</SYS>> {% endif %}{{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
COUNTED = (
    "{% for m in messages %}{{ loop.index }}:{{ m['role'] }}:{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ messages|length + 1 }}:assistant:{% endif %}"
)
CONTENTS = (
    "Name a bird.",
    "Crow, and { braces }.",
    "Why?\n\nTell me  all.",
    'It "caws". 鳥',
    "And {{ this }}?",
    "Yes.",
    "So?",
)


def make_tokenizer(template: str, *, controls: tuple[str, ...] = (), bos: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer; `controls` are tokens it knows. template: a bundled name, or Jinja."""
    alphabet = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token=bos)
    tokenizer.add_special_tokens({"additional_special_tokens": list(controls)})
    if template in BUNDLED:
        install_template(tokenizer, template)
    else:
        tokenizer.chat_template = template
    return tokenizer


def talk(roles: str) -> list[dict]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[role], "content": text} for role, text in zip(roles, CONTENTS, strict=False)]


# Go's own engine, with what ollama's template.go hands to a template.
GO_PROGRAM = """package main

import ("encoding/json"; "os"; "text/template")

type Message struct { Role, Content string }

func main() {
	var cases []struct { Template string; Messages []*Message }
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil { panic(err) }
	texts := []string{}
	for _, c := range cases {
		t := template.Must(template.New("").Option("missingkey=zero").Parse(c.Template))
		var b bytesBuffer
		values := map[string]any{"Messages": c.Messages, "System": "", "Response": ""}
		if err := t.Execute(&b, values); err != nil { panic(err) }
		texts = append(texts, string(b))
	}
	json.NewEncoder(os.Stdout).Encode(texts)
}

type bytesBuffer []byte

func (b *bytesBuffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }
"""


def make_modelfile(tokenizer, begin: str | None = None, own=None) -> dict[str, list[str]]:
    pieces = probe_template(tokenizer)
    begin = pieces.bos if begin is None else begin
    return read_modelfile(modelfile(pieces, stop_strings(tokenizer, pieces, own), begin=begin))


def as_ollama_sends(commands: dict[str, list[str]], messages: list[dict]) -> list[dict]:
    """The server puts SYSTEM in front of a conversation that begins with another turn (server/routes.go)."""
    if "SYSTEM" in commands and messages[0]["role"] != "system":
        return [{"role": "system", "content": commands["SYSTEM"][0]}, *messages]
    return messages


def tokenizers():
    for name in BUNDLED:
        yield name, make_tokenizer(name)
    yield "chatml, own tokens", make_tokenizer("chatml", controls=("<|im_start|>", "<|im_end|>"))
    llama3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    yield "llama3, own tokens", make_tokenizer("llama3", controls=llama3, bos="<|begin_of_text|>")
    yield "default system", make_tokenizer(WITH_DEFAULT, controls=("<|im_start|>", "<|im_end|>"), bos="<|im_start|>")


def cases():
    """(name, tokenizer, commands, conversation) for every template and conversation that it takes."""
    for name, tokenizer in tokenizers():
        commands = make_modelfile(tokenizer)
        for roles in ("u", "su", "uau", "suau", "uauau", "suauau", "uauauau"):
            yield name, tokenizer, commands, talk(roles)


def test_the_template_renders_what_the_chat_template_renders():
    for name, tokenizer, commands, messages in cases():
        expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        template = GoTemplate(commands["TEMPLATE"][0])
        assert template.render(as_ollama_sends(commands, messages)) == expected, name


@pytest.mark.skipif(shutil.which("go") is None, reason="needs go")
def test_gos_own_engine_renders_the_same(tmp_path):
    (tmp_path / "main.go").write_text(GO_PROGRAM)
    requests, expected = [], []
    for _, tokenizer, commands, messages in cases():
        sent = as_ollama_sends(commands, messages)
        sent = [{"Role": message["role"], "Content": message["content"]} for message in sent]
        requests.append({"Template": commands["TEMPLATE"][0], "Messages": sent})
        expected.append(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    odd = 'a {{ b }} """ \u2060c\u00a0\x1c {'
    requests.append({"Template": go_literal(odd), "Messages": []})
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off", "GOFLAGS": ""}
    done = subprocess.run(
        ["go", "run", "main.go"],
        input=json.dumps(requests),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [*expected, odd]


def test_an_answer_that_was_begun_is_left_open():
    commands = make_modelfile(make_tokenizer("chatml"))
    text = GoTemplate(commands["TEMPLATE"][0]).render(talk("ua"))
    assert text == ("<|im_start|>user\nName a bird.<|im_end|>\n<|im_start|>assistant\nCrow, and { braces }.")


def test_a_default_system_text_becomes_system_and_else_there_is_none():
    own = ("<|im_start|>", "<|im_end|>")
    assert make_modelfile(make_tokenizer(WITH_DEFAULT, controls=own))["SYSTEM"] == ["You are a crow."]
    for name in BUNDLED:
        assert "SYSTEM" not in make_modelfile(make_tokenizer(name)), name


STOPS = {
    "alpaca": ["<|endoftext|>"],
    "plain": ["<|endoftext|>"],
    "phi3": ["<|endoftext|>", "<|end|>"],  # closes user turns as text: a model may write it
    "chatml": ["<|endoftext|>", "<|im_end|>"],
    "llama3": ["<|endoftext|>", "<|eot_id|>"],
}


@pytest.mark.parametrize("name", BUNDLED)
def test_stop_strings_are_the_end_tokens_and_end_markers_that_are_text(name):
    assert make_modelfile(make_tokenizer(name))["PARAMETER stop"] == STOPS[name]


def test_a_templates_own_end_token_comes_before_eos():
    tokenizer = make_tokenizer("chatml", controls=("<|im_start|>", "<|im_end|>"))
    assert make_modelfile(tokenizer)["PARAMETER stop"] == ["<|im_end|>", "<|endoftext|>"]


def test_the_models_own_end_tokens_stop_too_and_those_that_no_tokenizer_knows_do_not():
    tokenizer = make_tokenizer("chatml", controls=("<|im_start|>", "<|im_end|>", "<|eom|>"))
    own = [tokenizer.convert_tokens_to_ids("<|eom|>"), tokenizer.eos_token_id, 10**6]
    assert make_modelfile(tokenizer, own=own)["PARAMETER stop"] == ["<|im_end|>", "<|endoftext|>", "<|eom|>"]


def test_bos_is_left_to_the_engine_where_it_puts_one():
    llama3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer = make_tokenizer("llama3", controls=llama3, bos="<|begin_of_text|>")
    assert make_modelfile(tokenizer)["TEMPLATE"][0].startswith("<|begin_of_text|>{{")
    assert "<|begin_of_text|>" not in make_modelfile(tokenizer, begin="")["TEMPLATE"][0]


def test_what_go_or_the_modelfile_would_misread_is_escaped():
    odd = 'a {{ b }} """ \u2060c\u00a0\x1c {'
    literal = go_literal(odd)
    assert '"""' not in literal and "\u2060" not in literal and "\u00a0" not in literal
    assert GoTemplate(literal + "{{ .Content }}").parts[-2] == ".Content"
    assert go_literal('plain <|user|>\n"text"?') == 'plain <|user|>\n"text"?'


def test_the_alpaca_opening_with_an_input_is_named_as_lost():
    tokenizer = make_tokenizer("alpaca")
    pieces = probe_template(tokenizer)
    assert pieces.ignores_input
    assert '"### Input:" part had another opening' in modelfile(pieces, ["x"], begin="")
    assert not probe_template(make_tokenizer("chatml")).ignores_input


REFUSED = {
    "the system text inside the first question": (SYSTEM_IN_QUESTION, "can't be written for Ollama: with turns"),
    "turns that are numbered": (COUNTED, "can't be written for Ollama: with turns"),
    "today's date": (
        "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}",
        "prints today's date",
    ),
    "a repeated turn": (
        "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{{ eos_token }}{% endfor %}",
        "leaves out or repeats a turn",
    ),
}


@pytest.mark.parametrize(("template", "message"), REFUSED.values(), ids=REFUSED)
def test_a_template_that_fixed_pieces_cannot_express_is_refused(template, message):
    with pytest.raises(UserError, match=message):
        probe_template(make_tokenizer(template))


@pytest.mark.smollm2
def test_smollm2s_own_template_comes_out_with_its_default_system_text(smollm2_gguf):
    tokenizer = load_tokenizer(smollm2_gguf)
    commands = make_modelfile(tokenizer)
    assert commands["SYSTEM"] == ["You are a helpful AI assistant named SmolLM, trained by Hugging Face"]
    for roles in ("u", "su", "uau"):
        messages = talk(roles)
        expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert GoTemplate(commands["TEMPLATE"][0]).render(as_ollama_sends(commands, messages)) == expected
