"""The book's GPT goes from its .pth to an Ollama folder in two commands, and llama.cpp says what its own code says."""

import json

import torch
from go_template import GoTemplate, read_modelfile
from llama_cpp import LlamaCpp

from ftkit.commands import export, import_
from ftkit.config.parser import run
from ftkit.data.templates.lock import read_lock
from ftkit.model.loading import load_tokenizer
from ftkit.model.weights.plain_forward import Sizes, book_logits


def test_the_books_weights_reach_ollama_with_equal_logits_and_the_locked_template(book_tensors, tmp_path):
    tensors, mine, out = book_tensors, tmp_path / "mine", tmp_path / "ollama"
    torch.save(tensors, tmp_path / "model.pth")
    flags = ["--from", "book", "--num_heads", "4", "--vocab", "gpt2", "--template", "alpaca", "--output_dir", str(mine)]
    assert run(import_.main, [str(tmp_path / "model.pth"), *flags]) == 0
    assert run(export.main, [str(mine), "--format", "ollama", "--quantization", "f32", "--output_dir", str(out)]) == 0

    engine, tokenizer = LlamaCpp(out / "model.gguf"), load_tokenizer(mine)
    text = "Every effort moves you, 2 + 2 = 4:\n\n\u00fcber \u9ce5"
    ids = tokenizer(text)["input_ids"]
    assert engine.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"] == ids
    answer = engine.ask("/completion", prompt=ids, n_predict=1, temperature=0, n_probs=20)
    with torch.inference_mode():
        logp_V = book_logits(tensors, Sizes(2, 4), ids)[-1].log_softmax(-1)
    for token in answer["completion_probabilities"][0]["top_logprobs"]:
        assert abs(token["logprob"] - logp_V[token["id"]]) <= 1e-3

    commands = read_modelfile((out / "Modelfile").read_text())
    template, cases = GoTemplate(commands["TEMPLATE"][0]), 0
    for case in read_lock(mine)["golden"]:
        messages = case.get("messages")
        if case.get("add_generation_prompt") and "### Input:" not in json.dumps(
            messages
        ):  # whose opening Go can't express
            assert tokenizer(template.render(messages), add_special_tokens=False)["input_ids"] == case["ids"]
            cases += 1
    assert cases and commands["PARAMETER stop"] == ["<|endoftext|>"]
