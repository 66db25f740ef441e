"""A new trainer is its settings, its method and its recipe: here in thirty lines, with all that a run is."""

import json
from dataclasses import dataclass, replace

import pytest

from ftkit.config.flags import DATA_ARGUMENTS, MODEL_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.settings.common import DataArguments, ModelArguments, setting
from ftkit.config.settings.sft import SFTArguments
from ftkit.runs.recipe import Recipe
from ftkit.runs.recipes import TRAINERS, load_recipe
from ftkit.training.methods import sft


# --- the whole of a new trainer ---------------------------------------------------------------------------------------
@dataclass
class HalfArguments(SFTArguments):
    """SFT whose loss is scaled."""

    loss_scale: float = setting(0.5, "Factor of the loss.")


class HalfTrainer(sft.FTSFTTrainer):
    """SFTTrainer whose loss is scaled by --loss_scale."""

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        return (loss[0] * self.args.loss_scale, *loss[1:]) if isinstance(loss, tuple) else loss * self.args.loss_scale


def build_trainer(run, model):
    data = run.data
    return HalfTrainer(
        model=model, args=run.config, train_dataset=data.train_dataset(), eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
    )  # fmt: skip


RECIPE = Recipe(
    name="half",
    flags=(*DATA_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS, *load_recipe("sft").flags[-2:]),
    settings=(DataArguments, ModelArguments, HalfArguments), method=replace(sft.METHOD, build_trainer=build_trainer),
    rows="ftkit.data.rows.formats:CONVERSATIONS",
)  # fmt: skip
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def argv(tiny_folder, word_rows, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    return [
        "--model_name_or_path", str(tiny_folder), "--dataset_name", str(path), "--template", "alpaca", "--max_steps", "2",
        "--disable_tqdm", "--bf16", "false", "--logging_steps", "1", "--test_size", "8", "--output_dir",
    ]  # fmt: skip


def first_loss(out) -> float:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().split("\n") if line]
    return next(record["loss"] for record in records if "loss" in record)


def test_a_new_trainer_gets_the_whole_story_of_a_run(argv, tmp_path):
    load_recipe("sft").main([*argv, str(tmp_path / "whole")])
    RECIPE.main([*argv, str(tmp_path / "half")])
    assert first_loss(tmp_path / "half") == pytest.approx(first_loss(tmp_path / "whole") / 2, rel=1e-6)
    files = ("run.yaml", "receipt.json", "template.lock.json", "report.html", "README.md", "model.safetensors")
    assert all((tmp_path / "half" / name).is_file() for name in files)
    assert (tmp_path / "half/run.yaml").read_text().startswith("# ftkit half --config ")


@pytest.mark.parametrize("name", TRAINERS)
def test_each_trainer_is_a_recipe_of_its_name(name):
    assert load_recipe(name).name == name
