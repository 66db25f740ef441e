"""Supervised fine-tuning of a causal language model on your own rows: all weights, LoRA, QLoRA, DoRA or a soft prompt.

    ftkit sft --model M --dataset_name rows.jsonl --use_peft --output_dir runs/first
    ftkit sft --config runs/first/run.yaml --learning_rate 1e-4 --output_dir runs/second
    accelerate launch ftkit/sft.py --model M --dataset_name rows.jsonl --template alpaca --output_dir runs/third

The third is what a launcher starts; `python -m ftkit.sft` is the same. Bad rows are found before the model is loaded,
the plan is printed before the first step, and OUT/report.html shows afterwards what was trained on and what came out.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import DATA_ARGUMENTS, MODEL_ARGUMENTS, TERNARY_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

RECIPE = Recipe(
    name="sft",
    flags=(
        *DATA_ARGUMENTS, *MODEL_ARGUMENTS, *TERNARY_ARGUMENTS,
        ("trl", "trainer/sft_config.py", "SFTConfig"), ("ftkit", "config/settings/sft.py", "SFTArguments"),
    ),
    settings="ftkit.config.settings.sft:SETTINGS",
    method="ftkit.training.methods.sft:METHOD",
    rows="ftkit.data.rows.formats:CONVERSATIONS",
    held_out="ftkit.evaluation.held_out.before_after:HELD_OUT",
    about=__doc__,
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
