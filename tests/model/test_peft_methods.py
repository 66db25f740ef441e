"""Every PEFT method on FTGPT: one optimiser step lowers the loss, and the saved adapter gives the same logits again."""

import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)

from ftkit.model import FTGPTForSequenceClassification

CAUSAL = {"task_type": "CAUSAL_LM"}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **CAUSAL}
METHODS = {
    "lora": (LoraConfig(**LORA), 1e-2),
    "dora": (LoraConfig(**LORA, use_dora=True), 1e-2),
    "rslora": (LoraConfig(**LORA, use_rslora=True), 1e-2),
    "ia3": (
        IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], **CAUSAL),
        1e-2,
    ),
    "prompt-tuning": (PromptTuningConfig(num_virtual_tokens=4, **CAUSAL), 1e-2),
    "p-tuning": (PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=16, **CAUSAL), 1e-2),
    "prefix-tuning": (PrefixTuningConfig(num_virtual_tokens=4, **CAUSAL), 1e-2),
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def test_one_step_lowers_the_loss_and_the_adapter_reloads(method, preset, tiny_model, token_ids, tmp_path):
    config, learning_rate = method
    ids, mask = token_ids(4, 10), torch.ones(4, 10, dtype=torch.long)
    ids[0, :3], mask[0, :3] = 0, 0
    labels = ids.masked_fill(mask == 0, -100)
    torch.manual_seed(2)
    model = get_peft_model(tiny_model(preset, pad_token_id=0), config)
    before = model(ids, attention_mask=mask, labels=labels).loss
    before.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained and all(parameter.grad is not None for parameter in trained)
    torch.optim.SGD(trained, lr=learning_rate).step()
    after = model(ids, attention_mask=mask, labels=labels)
    assert after.loss.item() < before.item() - 1e-5

    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_model(preset, pad_token_id=0), tmp_path)
    again.eval(), model.eval()
    inputs = {"input_ids": ids, "attention_mask": mask}
    assert (again(**inputs).logits - model(**inputs).logits).abs().max() <= 1e-6
    base_logits = tiny_model(preset)(**inputs).logits
    assert (again(**inputs).logits[:, -10:] - base_logits).abs().max() > 1e-4  # soft prompts come before the tokens
    assert again.generate(**inputs, max_new_tokens=3, do_sample=False).shape == (4, 13)


def test_all_linear_adapts_attention_and_mlp_but_neither_head_nor_embeddings(preset, tiny_model):
    model = get_peft_model(tiny_model(preset), LoraConfig(**LORA))
    adapted = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "lora_A")}
    gate = {"gate_proj"} if preset == "llama" else set()
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"} | gate


def test_merged_lora_gives_the_adapters_logits(preset, tiny_model, token_ids):
    torch.manual_seed(2)
    config = LoraConfig(**{**LORA, "init_lora_weights": False})
    model, ids = get_peft_model(tiny_model(preset), config).eval(), token_ids(2, 9)
    expected = model(ids).logits
    with model.disable_adapter():
        assert (model(ids).logits - expected).abs().max() > 0.1
    assert (model.merge_and_unload()(ids).logits - expected).abs().max() <= 1e-4


def test_lora_on_a_classifier_trains_and_saves_its_score(preset, tiny_model, token_ids, tmp_path):
    make = {"model_class": FTGPTForSequenceClassification, "num_labels": 3, "pad_token_id": 0}
    ids, labels = token_ids(3, 8), torch.tensor([0, 1, 2])
    torch.manual_seed(2)
    model = get_peft_model(tiny_model(preset, **make), LoraConfig(**{**LORA, "task_type": "SEQ_CLS"}))
    model.eval()
    before = model(ids, labels=labels).loss
    before.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    torch.optim.SGD(trained, lr=1e-2).step()
    after = model(ids, labels=labels)
    assert after.loss < before
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_model(preset, **make), tmp_path).eval()
    assert (again(ids).logits - after.logits).abs().max() <= 1e-6
