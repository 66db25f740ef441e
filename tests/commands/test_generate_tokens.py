"""`ftkit generate`: beams and further sampling as transformers has them, tokens with their log-probabilities, thoughts."""

import json
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from ftkit.commands import generate
from ftkit.inference.asking import ModelSettings, Sampling
from ftkit.inference.completion import AnswerToken, Reply
from ftkit.inference.engine import Engine
from ftkit.inference.shown import shown

QUESTIONS = ("Say it.", "Write the word in upper case: balbam.")


@pytest.fixture(scope="module")
def engine(tiny_folder) -> Engine:
    return Engine.load(ModelSettings(str(tiny_folder), template="alpaca", dtype="float32"))


@pytest.fixture(scope="module")
def plain(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder)


FURTHER = {
    "beams": {"num_beams": 4},
    "beams, short answers": {"num_beams": 3, "length_penalty": -2.0},
    "no repetition": {"no_repeat_ngram_size": 1},
    "beams without repetition": {"num_beams": 2, "no_repeat_ngram_size": 2},
    "drawn": {"temperature": 2.0, "min_p": 0.2},
}


@pytest.mark.parametrize("further", FURTHER.values(), ids=FURTHER)
def test_further_settings_are_those_of_transformers(engine, plain, further):
    prompts = [engine.prompt_ids([{"role": "user", "content": question}]) for question in QUESTIONS]
    found = engine.generate(prompts, Sampling(max_new_tokens=8, seed=1, **further), batch_size=1)
    for prompt, ids in zip(prompts, found, strict=True):
        if "temperature" in further:  # drawn, so it is the rule that is looked at: of each token, its share
            for place, token in enumerate(ids):
                logits = plain(torch.tensor([prompt + ids[:place]])).logits[0, -1] / further["temperature"]
                probs = logits.softmax(-1)
                assert probs[token] >= further["min_p"] * probs.max() - 1e-6
            continue
        output = plain.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, **further)
        assert ids == [token for token in output[0, len(prompt) :].tolist() if token not in (0, 1)]


def test_beams_in_a_batch_are_those_of_one_by_one(engine):
    prompts = [engine.prompt_ids([{"role": "user", "content": question}]) for question in QUESTIONS]
    beams = Sampling(max_new_tokens=8, num_beams=3)
    assert engine.generate(prompts, beams) == engine.generate(prompts, beams, batch_size=1)
    assert len(engine.generate([prompts[0]] * 2, beams, share_prefix=True)[1]) > 0


def test_a_models_own_settings_do_not_change_a_greedy_answer(engine, monkeypatch):
    prompt = engine.prompt_ids([{"role": "user", "content": QUESTIONS[0]}])
    before = engine.generate([prompt], Sampling(max_new_tokens=12))
    monkeypatch.setattr(engine.model.generation_config, "no_repeat_ngram_size", 1)
    assert engine.generate([prompt], Sampling(max_new_tokens=12)) == before


def test_each_token_has_its_log_probability_and_the_likeliest_beside_it(engine, plain, tiny_folder, tmp_path):
    path = tmp_path / "answers.jsonl"
    argv = [
        "--model_name_or_path",
        str(tiny_folder),
        "--template",
        "alpaca",
        "--dtype",
        "float32",
        "--prompt",
        "Say it.",
    ]
    argv += [
        "--max_new_tokens",
        "5",
        "--temperature",
        "3",
        "--num_samples",
        "2",
        "--show_tokens",
        "--top_logprobs",
        "2",
    ]
    generate.main([*argv, "--output_file", str(path)])
    record = json.loads(path.read_text())
    tokenizer = engine.voice().tokenizer
    for answer, tokens in zip(record["answers"], record["tokens"], strict=True):
        assert "".join(one["token"] for one in tokens).strip() == answer or "\ufffd" in answer
        ids = engine.prompt_ids([{"role": "user", "content": "Say it."}])
        for one in tokens:
            log_probs = plain(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            named = [token for token in range(len(log_probs)) if tokenizer.decode([token]) == one["token"]]
            token = min(named, key=lambda token: abs(log_probs[token].item() - one["logprob"]))
            assert one["logprob"] == pytest.approx(log_probs[token].item(), abs=1e-4)
            values = [other["logprob"] for other in one["top_logprobs"]]
            assert values == pytest.approx(log_probs.topk(2).values.tolist(), abs=1e-4)
            ids = [*ids, token]


THINKS = Reply(
    "<think>\nTwo and\ntwo.\n</think>\n\n4", tokens=[AnswerToken("4", -0.6931471805599453, [("4", -0.6931)])]
)
SHOWN = {
    "whole": ({}, "<think>\nTwo and\ntwo.\n</think>\n\n4"),
    "folded": ({"fold": True}, "[thought: 3 words]\n4"),
    "in colour": ({"fold": True, "color": True}, "\x1b[2m[thought: 3 words]\x1b[0m\n4"),
    "with tokens": (
        {"fold": True, "with_tokens": True},
        '[thought: 3 words]\n4\n    -0.6931   50.0 %  "4"                 "4" 50.0 %',
    ),
}


@pytest.mark.parametrize(("how", "text"), SHOWN.values(), ids=SHOWN)
def test_a_reply_as_a_person_reads_it(how, text):
    assert shown(THINKS, **how) == text


def test_a_thought_that_was_cut_off_has_no_answer():
    assert shown(Reply("<think>\nTwo"), fold=True) == "[thought: 1 word]\n(empty answer)"


def test_thoughts_are_folded_at_a_terminal_alone(monkeypatch):
    args = generate.parse(["--model_name_or_path", "base", "--prompt", "x"])
    assert generate.looks(args) == {"fold": False, "color": False, "with_tokens": False}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert generate.looks(args)["fold"]
    args.show_thoughts = True
    assert not generate.looks(args)["fold"]
