"""Every loss of pairs trains, with the settings that it needs; weights of labels are balanced where nobody chose them."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from preference_runs import built

from ftkit.config.settings.dpo import LOSSES, REFERENCE_FREE, DPOArguments
from ftkit.config.settings.kto import KTOArguments, LabelledAnswerArguments
from ftkit.data.rows.kinds import LABELLED_ANSWERS

NEEDED = {"exo_pair": ("--label_smoothing", "0.001"), "robust": ("--label_smoothing", "0.1")}
# Loss at the reference itself, where the log ratios are 0, worked out from each paper's formula; beta is 0.1.
AT_REFERENCE = {
    "sigmoid": math.log(2), "hinge": 1.0, "ipo": 25.0, "nca_pair": 2 * math.log(2), "robust": math.log(2),
    "exo_pair": -math.log(2) - 0.5 * (math.log(0.999) + math.log(0.001)), "bco_pair": 2 * math.log(2),
    "sppo_hard": 50.0, "aot": math.log(2), "aot_unpaired": math.log(2), "apo_zero": 1.0, "apo_down": 1.0,
    "discopop": 0.5 * math.log(2) + 0.5, "sigmoid_norm": math.log(2),
}  # fmt: skip


@pytest.fixture(scope="module")
def trainer(tiny_folder, tmp_path_factory):
    return built("dpo", tiny_folder, tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_trl_is_what_its_formula_says_at_the_reference(name, trainer):
    trainer.loss_types, trainer.loss_weights = [name], [1.0]
    trainer.label_smoothing = float(NEEDED.get(name, ("", 0.0))[1])
    trainer.model.zero_grad()
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(4)])
    loss = trainer._compute_loss(trainer.model, batch, False)
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in trainer.model.parameters())
    assert any(weight.grad.abs().max() > 0 for weight in trainer.model.parameters())
    assert loss.item() == pytest.approx(AT_REFERENCE.get(name, loss.item()), rel=1e-5)
    assert set(AT_REFERENCE) | {"sft"} == set(LOSSES)


def test_a_mixture_is_the_weighted_sum_of_its_losses(trainer):
    batch, losses = trainer.data_collator([trainer.train_dataset[place] for place in range(4)]), []
    for names, weights in ((["hinge"], [1.0]), (["sft"], [1.0]), (["hinge", "sft"], [0.8, 0.3])):
        trainer.loss_types, trainer.loss_weights = names, weights
        with torch.no_grad():
            losses.append(trainer._compute_loss(trainer.model, batch, False).item())
    assert losses[2] == pytest.approx(0.8 * losses[0] + 0.3 * losses[1], rel=1e-6)


REFUSED = {  # flags, message
    "misspelt": ("--loss_type sigmoyd", 'unknown --loss_type "sigmoyd"; did you mean "sigmoid"?; allowed: sigmoid, hinge'),
    "mixed with one that stands alone": ("--loss_type orpo sft", "--loss_type orpo is a whole loss of its own"),
    "weights": ("--loss_type sigmoid sft --loss_weights 1", "Got 1 weights for 2 loss types"),
    "smoothing": ("--loss_type exo_pair", "Label smoothing must be greater than 0.0"),
    "beta": ("--beta 0", "--beta is 0, so no answer would be preferred"),
    "divergence": ("--loss_type bco_pair --f_divergence_type forward_kl", "only supported for the following loss types"),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_loss_does_not_take_is_one_line(flags, message, tiny_folder, tmp_path, capsys):
    from ftkit.config.parser import run
    from ftkit.dpo import main

    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    named = ["--model_name_or_path", str(tiny_folder), "--dataset_name", str(tmp_path / "rows.jsonl")]
    given = [*named, "--output_dir", str(tmp_path / "out"), "--template", "plain", "--max_steps", "1", *flags.split()]
    assert run(main, given) == 2
    assert message in capsys.readouterr().err.strip().split("\n")[-1]


WEIGHTS = {  # wanted and unwanted answers, weights asked for -> weights
    "balanced": ((10, 10), {}, (1.0, 1.0)),
    "a third more wanted": ((40, 30), {}, (1.0, 1.0)),
    "more wanted": ((30, 10), {}, (1.0, 3.0)),
    "more unwanted": ((10, 25), {}, (2.5, 1.0)),
    "slightly more unwanted": ((9, 10), {}, (10 / 9, 1.0)),
    "one asked": ((30, 10), {"desirable_weight": 2.0}, (2.0, 6.0)),
    "the other asked": ((30, 10), {"undesirable_weight": 1.0}, (1 / 3, 1.0)),
    "one asked that balances": ((30, 10), {"undesirable_weight": 3.0}, (1.0, 3.0)),
    "both asked": ((30, 10), {"desirable_weight": 1.0, "undesirable_weight": 1.0}, (1.0, 1.0)),
    "one label": ((30, 0), {}, (1.0, 1.0)),
}


@pytest.mark.parametrize(("mix", "asked", "weights"), WEIGHTS.values(), ids=WEIGHTS)
def test_labels_weigh_the_same_all_together_where_nobody_chose(mix, asked, weights):
    reasons = {}
    found = KTOArguments(output_dir="out", **asked).own_decisions(SimpleNamespace(mix=mix), reasons)
    assert tuple(found.values()) == pytest.approx(weights)
    total = [number * weight for number, weight in zip(mix, found.values(), strict=True)]
    if len(asked) < 2 and all(mix):
        assert 1 - 1e-9 <= total[0] / total[1] <= 4 / 3 + 1e-9  # arXiv:2402.01306, equation 8
    open_ones = [name for name, weight in found.items() if name not in asked and weight != 1]
    assert list(reasons) == open_ones


def test_help_names_every_loss():
    (text,) = (one.metadata["help"] for one in dataclasses.fields(DPOArguments) if one.name == "loss_type")
    assert {word.strip(":,.") for word in text.split()} >= {*LOSSES, *REFERENCE_FREE}


def test_every_format_of_labelled_answers_can_be_named():
    (choices,) = (
        one.metadata["choices"] for one in dataclasses.fields(LabelledAnswerArguments) if one.name == "dataset_format"
    )
    assert set(choices) == {"auto", *LABELLED_ANSWERS.formats}


@pytest.mark.parametrize("name", REFERENCE_FREE)
def test_a_loss_without_a_reference_loads_none(name, tiny_folder, tmp_path):
    trainer = built("dpo", tiny_folder, tmp_path, "--loss_type", name)
    assert trainer.ref_model is None and "ref_chosen_logps" not in trainer.train_dataset.column_names
