"""What is trained is what was asked for, and an evaluation in between does not change the gradients."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from ftkit.config.errors import UserError
from ftkit.model.adapters import methods as adapters


def model_args(**changes):
    settings = {
        "use_peft": True, "peft_method": "lora", "num_virtual_tokens": 4, "lora_target_modules": "all-linear", "lora_r": 4,
        "lora_alpha": 8, "lora_dropout": 0.0, "lora_target_parameters": None, "lora_modules_to_save": None,
        "use_rslora": False, "use_dora": False, "adapter": None,
    }  # fmt: skip
    return SimpleNamespace(**{**settings, **changes})


@pytest.fixture
def model(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder)


def four_bit(tiny_folder):
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, quantization_config=adapters.four_bit_config("float32"))
    return get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))


def gradients(model) -> dict[str, torch.Tensor]:
    model.train()
    ids = torch.arange(20).reshape(2, 10)
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_an_evaluation_between_steps_leaves_the_gradients_of_qlora(tiny_folder):
    model = four_bit(tiny_folder)
    adapters.keep_four_bit_gradients(model)
    before = gradients(model)
    with torch.no_grad():
        model.eval()(input_ids=torch.arange(8)[None])
    after = gradients(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(value.abs().max() > 0 for value in after.values())


def test_four_bit_is_nf4_with_double_quantisation_unless_told():
    config = adapters.four_bit_config("bfloat16")
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


def test_a_full_fine_tune_has_no_peft_configuration(model):
    assert adapters.peft_config(model_args(use_peft=False), model, []) is None


def test_prompt_tuning_has_its_length_and_takes_no_added_tokens(model):
    config = adapters.peft_config(model_args(peft_method="prompt_tuning"), model, [])
    assert isinstance(config, PromptTuningConfig) and config.num_virtual_tokens == 4
    with pytest.raises(UserError, match="--add_template_tokens needs trained rows"):
        adapters.peft_config(model_args(peft_method="prompt_tuning"), model, [300])


def test_freezing_leaves_the_last_layers_and_refuses_all(model):
    adapters.freeze_layers(model, 1)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen and all("layers.0." in name or "embed_tokens" in name for name in frozen)
    with pytest.raises(UserError, match="leaves nothing to train: the model has 2 layers"):
        adapters.freeze_layers(model, 2)


def test_parameters_are_counted_as_torch_does_and_four_bit_ones_by_element(model, tiny_folder):
    total = sum(parameter.numel() for parameter in model.parameters())
    assert adapters.count_parameters(model) == (total, total)
    lora = four_bit(tiny_folder)
    trained = sum(parameter.numel() for parameter in lora.parameters() if parameter.requires_grad)
    assert adapters.count_parameters(lora) == (trained, total + trained)


@pytest.mark.parametrize(
    ("targets", "name"),
    [
        (["q_proj", "embed_tokens"], "model.embed_tokens"),
        (["q_proj", "lm_head"], "lm_head"),
        ("lm_head", "lm_head"),
        (".*(q_proj|embed_tokens)", "model.embed_tokens"),
    ],
)
def test_lora_on_tied_embeddings_is_refused_with_a_way_out(targets, name, model):
    with pytest.raises(
        UserError, match=f"takes in {name}: embedding and head are one tensor .*--add_template_tokens"
    ) as caught:
        adapters.peft_config(model_args(lora_target_modules=targets), model, [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("targets", ["all-linear", ["all-linear"], None, ["q_proj", "v_proj"], ".*mlp.*"])
def test_lora_elsewhere_or_on_untied_embeddings_is_not(targets, model):
    assert isinstance(adapters.peft_config(model_args(lora_target_modules=targets), model, []), LoraConfig)
    model.config.tie_word_embeddings = False
    assert adapters.peft_config(model_args(lora_target_modules=["embed_tokens"]), model, []).target_modules == {
        "embed_tokens"
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["embed_token"], 'embed_token: no module of the model has that name; did you mean "embed_tokens"'),
        (["q_proj"], "q_proj: LoRA adapts model.layers.0.self_attn.q_proj already; take it out of one of the two"),
        (["layers"], "layers: is a list of modules; name those in it, such as model.layers.0"),
    ],
)
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj"]])
def test_modules_that_can_not_be_trained_as_a_whole_are_refused(names, message, targets, model):
    with pytest.raises(UserError, match=f"--lora_modules_to_save {message}"):
        adapters.peft_config(model_args(lora_modules_to_save=names, lora_target_modules=targets), model, [])


@pytest.mark.parametrize("whole", [["lm_head"], ["embed_tokens", "lm_head"], ["norm"]])
@pytest.mark.parametrize("is_tied", [True, False])
def test_added_tokens_go_with_a_module_that_is_trained_as_a_whole(whole, is_tied, model):
    if not adapters.can_train_added_tokens():
        pytest.skip("needs TRL 1.16")
    model.config.tie_word_embeddings = is_tied
    config = adapters.peft_config(model_args(lora_modules_to_save=whole), model, [298, 299])
    ends = {"model.embed_tokens"} if is_tied else {"model.embed_tokens", "lm_head"}
    assert set(config.trainable_token_indices or ()) == {name for name in ends if name.split(".")[-1] not in whole}
    assert get_peft_model(model, config)
