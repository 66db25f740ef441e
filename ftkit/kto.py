"""Kahneman-Tversky optimisation (arXiv:2402.01306): from answers marked as wanted or not; all weights, LoRA or QLoRA.

    ftkit kto --model M --dataset_name feedback.jsonl --use_peft --output_dir runs/liked
    ftkit kto --adapter runs/first --dataset_name preferences --output_dir runs/liked
    accelerate launch ftkit/kto.py --adapter runs/first --dataset_name feedback.jsonl --output_dir runs/liked

A row is {"prompt", "completion", "label"}: true or false, 1 or 0, a thumb up or down. Pairs of answers become two rows
each. Wanted and unwanted answers are spread evenly by the seed, and weighted to equal shares. The reference is the
starting point itself, as of `ftkit dpo`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import DATA_ARGUMENTS, MODEL_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

RECIPE = Recipe(
    name="kto",
    flags=(
        *DATA_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS,
        ("trl", "trainer/kto_config.py", "KTOConfig"), ("ftkit", "config/settings/kto.py", "KTOArguments"),
    ),
    settings="ftkit.config.settings.kto:SETTINGS",
    method="ftkit.training.methods.kto:METHOD",
    rows="ftkit.data.rows.kinds:LABELLED_ANSWERS",
    held_out="ftkit.evaluation.held_out.labelled_answers:HELD_OUT",
    about=__doc__,
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
