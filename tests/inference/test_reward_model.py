"""A reward model in use: which token is scored, that neither batch nor padding matters, and what is refused."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel

from ftkit.config.errors import UserError
from ftkit.data.templates.templates import install_template
from ftkit.inference.reward_model import load_reward_model
from ftkit.model.classifier import REGRESSION, load_classifier
from ftkit.model.loading import load_tokenizer
from ftkit.model.weights.conversion import import_weights

FAMILIES = ("llama", "gpt2", "ftgpt-llama", "ftgpt-gpt2")
TALKS = [
    [{"role": "user", "content": "Name a bird."}, {"role": "assistant", "content": answer}]
    for answer in ("Crow.", "A crow, or a raven, or a magpie.", "", "No.")
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_folder):
    """A reward model's folder by family, head at random; all pad with the token that ends a turn."""
    root, bases = tmp_path_factory.mktemp("rewards"), {"llama": tiny_folder}
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=300,
        n_embd=32,
        n_layer=1,
        n_head=2,
        n_positions=512,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    bases["gpt2"] = root / "gpt2-base"
    GPT2LMHeadModel(config).save_pretrained(bases["gpt2"])
    for family in ("llama", "gpt2"):
        bases[f"ftgpt-{family}"] = root / f"ftgpt-{family}-base"
        import_weights(bases[family], bases[f"ftgpt-{family}"])
    tokenizer = load_tokenizer(tiny_folder)
    install_template(tokenizer, "chatml")
    found = {}
    for family, base in bases.items():
        found[family] = root / family
        torch.manual_seed(1)
        model = load_classifier(base, ["reward"], pad_token_id=tokenizer.eos_token_id, problem_type=REGRESSION).model
        torch.nn.init.normal_(model.score.weight, std=0.05)  # scores of about 1
        model.config.pad_token_id = tokenizer.eos_token_id
        model.save_pretrained(found[family])
        tokenizer.save_pretrained(found[family])
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_scores_as_one_by_one_whatever_pads_it(family, folders):
    judge = load_reward_model(folders[family])
    alone = [judge.scores([talk])[0] for talk in TALKS]
    for side, pad_id in (("left", 1), ("right", 1), ("right", judge.template.end_of_turn_id)):
        judge.tokenizer.padding_side, judge.model.config.pad_token_id = side, pad_id
        assert judge.scores(TALKS, batch_size=3) == pytest.approx(alone, abs=1e-6)
    assert len(set(alone)) == len(TALKS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_end_of_turn_token_is_scored_though_it_is_the_pad_token(family, folders):
    judge = load_reward_model(folders[family])
    ids = judge.token_ids(TALKS[:1])[0]
    assert ids[-1] == judge.template.end_of_turn_id == judge.tokenizer.eos_token_id
    model = judge.model
    with torch.no_grad():
        state = getattr(model, model.base_model_prefix)(torch.tensor([ids])).last_hidden_state[0, -1]
        assert judge.scores(TALKS[:1])[0] == pytest.approx(model.score(state).item(), abs=1e-6)


def test_scores_are_those_of_stock_transformers(folders):
    judge = load_reward_model(folders["llama"])
    ids = judge.token_ids(TALKS[:1])
    stock = AutoModelForSequenceClassification.from_pretrained(folders["llama"], dtype=torch.float32, pad_token_id=1)
    with torch.no_grad():
        assert judge.scores(TALKS[:1]) == stock(torch.tensor(ids)).logits[:, 0].tolist()


def test_the_head_computes_in_float32_on_a_base_in_bfloat16(folders):
    judge = load_reward_model(folders["ftgpt-llama"], dtype="bfloat16")
    assert judge.model.score.weight.dtype == torch.float32 and judge.model.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = judge.scores(TALKS[:1])[0]
    assert score != torch.tensor(score).bfloat16().item()


def test_an_adapter_scores_with_its_own_head(folders, tiny_folder, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=1, dtype=torch.float32)
    tokenizer = load_tokenizer(folders["llama"])
    model = get_peft_model(model, LoraConfig("SEQ_CLS", target_modules=["q_proj"], modules_to_save=["score"]))
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    judge = load_reward_model(tmp_path / "adapter")
    with torch.no_grad():
        assert judge.scores(TALKS[:1]) == model.eval()(torch.tensor(judge.token_ids(TALKS[:1]))).logits[:, 0].tolist()


def test_what_can_not_be_scored_is_one_line(folders, tmp_path):
    judge = load_reward_model(folders["llama"])
    for talks, message in (
        ([*TALKS[:1], TALKS[0][:1]], "conversation 2 does not end with the assistant's turn"),
        ([[]], "conversation 1 does not end"),
        ([[TALKS[0][0], {"role": "assistant", "content": "x" * 600}]], r"conversation 1 has 6\d\d tokens and the context of .* only 512"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            judge.scores(talks)


def test_what_is_no_reward_model_is_one_line(folders, tiny_folder, tmp_path):
    tokenizer = load_tokenizer(folders["llama"])
    load_classifier(tiny_folder, ["ham", "spam"], pad_token_id=1).model.save_pretrained(tmp_path / "classes")
    tokenizer.save_pretrained(tmp_path / "classes")
    lost = tmp_path / "lost"
    judge = load_reward_model(folders["llama"])
    judge.model.save_pretrained(lost)
    tokenizer.save_pretrained(lost)
    weights = load_file(lost / "model.safetensors")
    save_file({name: weight for name, weight in weights.items() if "score" not in name}, lost / "model.safetensors", {"format": "pt"})  # fmt: skip
    plain = tmp_path / "plain"
    judge.model.save_pretrained(plain)
    load_tokenizer(tiny_folder).save_pretrained(plain)
    for folder, message in (
        (tmp_path / "classes", "a classifier of 2 classes, and a reward model has one output"),
        (tiny_folder, "is not a classifier"),
        (lost, "score.weight is not in its weights"),
        (plain, "no chat template"),
    ):
        with pytest.raises(UserError, match=message):
            load_reward_model(folder)
