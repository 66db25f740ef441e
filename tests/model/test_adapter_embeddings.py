"""Adapters that carry embeddings, heads and padded vocabularies load on the plain base, merge, and share it or say so."""

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.config.errors import UserError
from ftkit.model.adapters.embeddings import stored_vocabulary
from ftkit.model.adapters.files import WEIGHTS_FILE, record_base
from ftkit.model.adapters.loading import check_adapter_folder, put_adapter
from ftkit.model.adapters.merging import merge_adapter

IDS = torch.arange(2, 50).reshape(4, 12)
PADDED = 320
CASES = {
    "embedding adapted": {"target_modules": ["q_proj", "embed_tokens"]},
    "head adapted": {"target_modules": ["q_proj", "lm_head"]},
    "both adapted": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "both whole": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    "embedding whole": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "neither": {"target_modules": ["q_proj"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 299]}},
}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def base(request, tiny_folder, tmp_path_factory):
    """The tiny model as it is, and with a head of its own."""
    if request.param:
        return tiny_folder
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, tie_word_embeddings=False)
    torch.manual_seed(4)
    torch.nn.init.normal_(model.lm_head.weight, std=0.2)
    folder = tmp_path_factory.mktemp("untied") / "base"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder


def train(base, folder, rows=None, seed=1, **settings):
    """An adapter as PEFT's own `save_pretrained` writes it, with random weights in all that is trained."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    model = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, **settings)).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    record_base(folder, base, "base")
    return model


@torch.inference_mode()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize("rows", [None, PADDED], ids=["as it was", "padded"])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_each_form_loads_as_it_was_trained_and_merges(settings, rows, base, tmp_path):
    trained = train(base, tmp_path / "a", rows, **settings)
    assert stored_vocabulary(tmp_path / "a") in (rows, 300)
    check_adapter_folder(tmp_path / "a", base)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    model = put_adapter(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a", tokenizer, base_folder=base)
    assert logits(model).shape[-1] == (rows or 300)
    assert torch.equal(logits(model)[..., :300], logits(trained)[..., :300])
    is_one_end = settings in (CASES["embedding adapted"], CASES["head adapted"])
    if not is_one_end:  # PEFT saves the padding of that end only
        assert torch.equal(logits(model), logits(trained))
    merged = AutoModelForCausalLM.from_pretrained(merge_adapter(tmp_path / "a", tmp_path / "merged", base=str(base)))
    assert (logits(merged) - logits(model)).abs().max() <= 2e-5 * logits(model).abs().max()


def test_rows_of_added_tokens_that_peft_did_not_save_are_refused_and_padding_is_zero(base, tmp_path):
    model = train(base, tmp_path / "a", PADDED, **CASES["embedding adapted"])
    if model.config.tie_word_embeddings:
        return
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = put_adapter(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a", tokenizer)
    assert not logits(model)[..., 300:].any()
    tokenizer.add_tokens(["<|one|>"])
    with pytest.raises(UserError, match="1 tokens more than its base, and PEFT saved no rows of lm_head for them"):
        put_adapter(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a", tokenizer)


def test_adapters_on_embeddings_share_a_base_that_both_were_trained_on(base, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(base)
    settings = CASES["embedding adapted"]
    first, second = train(base, tmp_path / "a", **settings), train(base, tmp_path / "b", seed=2, **settings)
    model = put_adapter(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a", tokenizer, name="first")
    model = put_adapter(model, tmp_path / "b", tokenizer, name="second")
    assert torch.equal(logits(model), logits(first))
    model.set_adapter("second")
    assert torch.equal(logits(model), logits(second))
    train(base, tmp_path / "c", PADDED, seed=3, **settings)
    with pytest.raises(UserError, match="has 320 rows of embeddings, the adapters before it 300; load it alone"):
        put_adapter(model, tmp_path / "c", tokenizer, name="third")


def test_an_adapter_that_replaces_the_base_is_not_put_beside_another(base, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(base)
    train(base, tmp_path / "a", PADDED, **CASES["neither"])
    train(base, tmp_path / "b", PADDED, seed=2, **CASES["neither"])  # whose added rows are others
    model = put_adapter(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a", tokenizer, name="first")
    with pytest.raises(UserError, match=r"b: replaces the base's base_model.model.*weight, which others share"):
        put_adapter(model, tmp_path / "b", tokenizer, name="second")


def test_an_untrained_adapter_on_the_embedding_still_changes_nothing(tiny_folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, target_modules=["q_proj", "embed_tokens"])).save_pretrained(tmp_path / "a")  # fmt: skip
    with pytest.raises(UserError, match="the adapter changes nothing"):
        check_adapter_folder(tmp_path / "a", tiny_folder)


def test_fewer_rows_than_tokens_and_two_ends_of_one_tensor_are_refused(tiny_folder, tmp_path):
    train(tiny_folder, tmp_path / "a", 290, **CASES["embedding adapted"])
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    with pytest.raises(UserError, match="its embedding has 290 rows, its tokenizer 300 tokens"):
        put_adapter(AutoModelForCausalLM.from_pretrained(tiny_folder), tmp_path / "a", tokenizer)
    train(tiny_folder, tmp_path / "b", PADDED, **CASES["neither"])
    path = tmp_path / "b" / WEIGHTS_FILE
    tensors = load_file(path)
    tensors["base_model.model.lm_head.weight"] = tensors["base_model.model.lm_head.weight"] + 1
    save_file(tensors, path)
    with pytest.raises(UserError, match="can't be loaded beside its other end, since this base ties the two"):
        put_adapter(AutoModelForCausalLM.from_pretrained(tiny_folder), tmp_path / "b", tokenizer)
