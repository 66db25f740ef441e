"""What a reference says of rows is kept by content: read again for the same reference and rows, and for no others."""

import json

import pytest
import torch
from preference_runs import LABELLED, PAIRS, built
from transformers import AutoModelForCausalLM

from ftkit.training.reference import reference_key

COLUMNS = {"dpo": ("ref_chosen_logps", "ref_rejected_logps"), "kto": ("ref_logps", "ref_KL_logps")}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/references"


@pytest.mark.parametrize("command", COLUMNS)
def test_it_is_read_by_another_run_of_the_same_reference_and_rows(
    command, tiny_folder, tmp_path, cache, monkeypatch, capsys
):
    first = built(command, tiny_folder, tmp_path / "first", "--precompute_ref_log_probs")
    (kept,) = cache.glob("*.json")
    monkeypatch.setattr(type(first), "compute_ref_log_probs", None)
    again = built(
        command, tiny_folder, tmp_path / "again", "--precompute_ref_log_probs", "--use_peft", "--lora_r", "2",
        "--learning_rate", "1e-3", "--per_device_train_batch_size", "4",
    )  # fmt: skip
    assert list(cache.glob("*.json")) == [kept]
    for column in COLUMNS[command]:
        assert again.train_dataset[column] == first.train_dataset[column] == json.loads(kept.read_text())[column]
    said = [line for line in capsys.readouterr().err.split("\n") if line.startswith("reference")]
    rows = f"reference  log-probabilities of {len(PAIRS)} training rows"
    assert said == [f"{rows} computed, and kept in {cache}", f"{rows} read from {cache}"]


def test_what_is_kept_is_what_the_reference_says_while_it_trains(tiny_folder, tmp_path, cache):
    kept = built("dpo", tiny_folder, tmp_path / "kept", "--precompute_ref_log_probs")
    live = built("dpo", tiny_folder, tmp_path / "live")
    losses = []
    for trainer in (kept, live):
        with torch.no_grad():
            trainer.model.lm_head.weight.mul_(1.1)
        batch = trainer.data_collator([trainer.train_dataset[place] for place in range(4)])
        losses.append(trainer._compute_loss(trainer.model, batch, False).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and losses[0] != pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: "{}", lambda text: text.replace("-", "x", 1)])
def test_a_damaged_file_is_computed_again(damage, tiny_folder, tmp_path, cache):
    built("dpo", tiny_folder, tmp_path / "first", "--precompute_ref_log_probs")
    (kept,) = cache.glob("*.json")
    text = kept.read_text()
    kept.write_text(damage(text))
    built("dpo", tiny_folder, tmp_path / "again", "--precompute_ref_log_probs")
    found, expected = json.loads(kept.read_text()), json.loads(text)
    assert found.keys() == expected.keys()
    assert all(found[column] == pytest.approx(expected[column]) for column in found)


OTHERS = {  # what is changed of a run of dpo: flags, rows
    "other rows": ((), PAIRS[1:]),
    "the same rows in another order": ((), PAIRS[::-1]),
    "a template": (("--template", "alpaca"), PAIRS),
    "precision": (("--dtype", "bfloat16"), PAIRS),
    "autocast": (("--bf16", "true"), PAIRS),
    "length-desensitised": (("--ld_alpha", "0.5"), PAIRS),
}


@pytest.fixture(scope="module")
def known(tiny_folder, tmp_path_factory):
    """The key of a run whose reference is the base."""
    trainer = built("dpo", tiny_folder, tmp_path_factory.mktemp("known"))
    return reference_key(trainer, trainer.train_dataset)


@pytest.mark.parametrize(("flags", "rows"), OTHERS.values(), ids=OTHERS)
def test_another_reference_or_other_rows_have_another_key(flags, rows, known, tiny_folder, tmp_path):
    trainer = built("dpo", tiny_folder, tmp_path, *flags, rows=rows)
    assert reference_key(trainer, trainer.train_dataset) != known


@pytest.mark.parametrize(
    "flags", [(), ("--use_peft", "--seed", "9"), ("--beta", "0.3", "--max_length", "100")], ids=str
)
def test_what_does_not_touch_the_reference_leaves_the_key(flags, known, tiny_folder, tmp_path):
    trainer = built("dpo", tiny_folder, tmp_path, *flags)
    assert reference_key(trainer, trainer.train_dataset) == known


def test_other_weights_have_another_key(known, tiny_folder, tmp_path):
    trainer = built("dpo", tiny_folder, tmp_path)
    with torch.no_grad():
        trainer.ref_model.model.norm.weight[0] += 1e-3
    assert reference_key(trainer, trainer.train_dataset) != known


def test_an_adapter_that_is_trained_on_is_a_reference_of_its_own(known, tiny_folder, tmp_path):
    first = built("dpo", tiny_folder, tmp_path / "first", "--use_peft", "--lora_r", "2")
    with torch.no_grad():
        next(one for name, one in first.model.named_parameters() if "lora_B" in name).add_(1)
    first.model.save_pretrained(tmp_path / "adapter")
    first.processing_class.save_pretrained(tmp_path / "adapter")
    more = built("dpo", tiny_folder, tmp_path / "more", "--adapter", str(tmp_path / "adapter"))
    key = reference_key(more, more.train_dataset)
    assert key != known
    with torch.no_grad():
        next(one for name, one in more.model.named_parameters() if "lora_B.default" in name).add_(1)
    assert reference_key(more, more.train_dataset) == key  # the policy has moved, and its reference has not
    with torch.no_grad():
        next(one for name, one in more.model.named_parameters() if "lora_B.ref" in name).add_(1)
    assert reference_key(more, more.train_dataset) != key


def test_labels_mixed_otherwise_are_other_rows(tiny_folder, tmp_path):
    """KTO's reference also scores answers of neighbours."""
    keys = set()
    for seed in ("1", "1", "2"):
        trainer = built("kto", tiny_folder, tmp_path / seed, "--data_seed", seed, rows=LABELLED)
        keys.add(reference_key(trainer, trainer.train_dataset))
    assert len(keys) == 2


def test_a_model_that_is_only_renamed_is_the_same_reference(known, tiny_folder, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(tmp_path / "renamed")
    for path in tiny_folder.glob("*token*"):
        (tmp_path / "renamed" / path.name).write_bytes(path.read_bytes())
    trainer = built("dpo", tmp_path / "renamed", tmp_path / "run")
    assert reference_key(trainer, trainer.train_dataset) == known
