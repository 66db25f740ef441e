"""A model that is trained without dropout acts as it does in evaluation, wherever its family keeps the rate."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ftkit.model import FTGPTConfig, FTGPTForCausalLM
from ftkit.runs.lifecycle import decide_run
from ftkit.runs.opening import begin
from ftkit.runs.recipe import found
from ftkit.runs.recipes import load_recipe
from ftkit.training.dropout import remove_dropout

SIZES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 1}
FAMILIES = {  # rates of dropout: in the attention, in layers, as numbers
    "ftgpt": {"attention_dropout": 0.5, "residual_dropout": 0.5, "embedding_dropout": 0.5, "intermediate_size": 64},
    "llama": {"attention_dropout": 0.5, "intermediate_size": 64},
    "gpt2": {"attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5},
    "opt": {"dropout": 0.5, "attention_dropout": 0.5, "ffn_dim": 64, "word_embed_proj_dim": 32},
}


def model_of(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = SIZES | FAMILIES[family]
    if family == "ftgpt":
        return FTGPTForCausalLM(FTGPTConfig(**sizes))
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_no_rate_is_left_and_the_configuration_stays(family, attention):
    model = model_of(family)
    model.set_attn_implementation(attention)
    ids, before = torch.arange(2, 26)[None], model.config.to_dict()
    expected = model.eval()(input_ids=ids).logits
    assert not torch.equal(model.train()(input_ids=ids).logits, expected)
    remove_dropout(model)
    torch.testing.assert_close(model.train()(input_ids=ids).logits, expected, rtol=0, atol=1e-6)
    assert model.config.to_dict() == before


ROWS = {
    "grpo": {"prompt": "say"},
    "dpo": {"prompt": "say", "chosen": "one two", "rejected": "three"},
    "kto": {"prompt": "say", "completion": "one two", "label": True},
}


@pytest.mark.parametrize(("name", "more"), [
    ("grpo", ("--rewards", "json", "--start_anyway")), ("grpo", ("--rewards", "json", "--algorithm", "rloo")),
    ("dpo", ()), ("kto", ()),
], ids=["grpo", "rloo", "dpo", "kto"])  # fmt: skip
def test_a_trainer_without_dropout_has_none_in_the_attention(name, more, tiny_folder, tmp_path):
    model_of("ftgpt").save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / "model")
    rows = [ROWS[name] | {"prompt": f"say {number}"} for number in range(8)]
    if name == "kto":
        rows = [row | {"label": number % 2 == 0} for number, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = load_recipe(name)
    settings = recipe.parse([
        "--model_name_or_path", str(tmp_path / "model"), "--dataset_name", str(tmp_path / "rows.jsonl"), "--template",
        "plain", "--output_dir", str(tmp_path / "run"), "--bf16", "false", "--disable_tqdm", "--max_steps", "1",
        "--per_device_train_batch_size", "4", *more,
    ])  # fmt: skip
    method = found(recipe.method)
    data = method.prepare(settings)
    run = decide_run(name, method, settings, data, begin(name, settings, data))
    model, ids = method.build_trainer(run, method.load(run)).model, torch.arange(2, 26)[None]
    with torch.no_grad():
        trained = model.train()(input_ids=ids).logits
        torch.testing.assert_close(trained, model.eval()(input_ids=ids).logits, rtol=0, atol=1e-5)
