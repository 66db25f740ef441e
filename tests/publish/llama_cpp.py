"""llama.cpp itself, from the package xllamacpp, asked what transformers is asked."""

import json
import urllib.request
from pathlib import Path

import pytest
import torch

from ftkit.publish.export.gguf_tokenizer import TRICKY_TEXT

TALK = [
    [{"role": "user", "content": "Name a bird."}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A bird?"}],
    [
        {"role": "user", "content": "Name the odd one.\n\n### Input:\ncrow, cod"},
        {"role": "assistant", "content": "Cod."},
        {"role": "user", "content": "Why?"},
    ],
]


class LlamaCpp:
    """llama.cpp's own server on a .gguf file, from the package xllamacpp."""

    def __init__(self, path: Path, adapter: Path | None = None):
        xllamacpp = pytest.importorskip("xllamacpp", reason="needs: pip install xllamacpp")
        parameters = xllamacpp.CommonParams()
        parameters.model.path, parameters.n_ctx, parameters.n_parallel = str(path), 512, 1
        parameters.warmup, parameters.port, parameters.cpuparams.n_threads = False, 0, 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if adapter:
            lora = xllamacpp.CommonAdapterLoraInfo()
            lora.path, lora.scale = str(adapter), 1.0
            parameters.lora_adapters = [lora]
        self.server = xllamacpp.Server(parameters)

    def ask(self, route: str, **settings) -> dict:
        body = json.dumps(settings).encode()
        request = urllib.request.Request(
            self.server.listening_address + route, body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def check_in_llama_cpp(
    path: Path, model, tokenizer, num_answers: int, tolerance: float, forbidden=(), *, adapter: Path | None = None
) -> None:
    """Tokens, rendered conversations, next-token log-probabilities and greedy text equal transformers' own.

    forbidden: ids that are not chosen: the server tells no probabilities of half a UTF-8 letter.
    """
    engine = LlamaCpp(path, adapter)
    text = TRICKY_TEXT + "".join(tokenizer.get_added_vocab())
    expected = tokenizer(text)["input_ids"]
    assert engine.ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"] == expected
    settings = dict(n_predict=num_answers, temperature=0, n_probs=20, return_tokens=True)
    for messages in TALK:
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert engine.ask("/apply-template", messages=messages)["prompt"] == rendered
        prompt = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        bias = [[token, False] for token in forbidden]
        answer = engine.ask("/completion", prompt=prompt, logit_bias=bias, **settings)
        logp_TV = model(torch.tensor([[*prompt, *answer["tokens"]]])).logits[0].log_softmax(-1)[len(prompt) - 1 :]
        allowed_TV = logp_TV.index_fill(1, torch.tensor(forbidden, dtype=torch.long), -torch.inf)
        assert answer["tokens"] == allowed_TV.argmax(-1)[: len(answer["tokens"])].tolist()
        assert len(answer["completion_probabilities"]) == len(answer["tokens"]) > 1
        for position, found in enumerate(answer["completion_probabilities"]):
            for token in found["top_logprobs"]:
                assert abs(token["logprob"] - logp_TV[position, token["id"]]) <= tolerance


def ids_of_no_letters(tokenizer) -> list[int]:
    return [i for i in range(len(tokenizer)) if not tokenizer.decode([i]).isascii() or i in tokenizer.all_special_ids]
