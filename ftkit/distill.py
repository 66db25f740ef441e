"""A student learns a teacher's distribution (arXiv:1503.02531); all weights, LoRA or QLoRA.

    ftkit distill --model STUDENT --teacher TEACHER --dataset_name rows.jsonl --output_dir runs/small
    ftkit distill --model STUDENT --teacher TEACHER --dataset_name rows.jsonl --answers student --output_dir runs/small
    accelerate launch ftkit/distill.py --model STUDENT --teacher TEACHER --dataset_name rows.jsonl --output_dir small

What the teacher says of the rows is computed once and kept. With --answers student it is held against the student's own
samples (arXiv:2306.13649), with --answers teacher it writes the answers, which works between any two vocabularies
(arXiv:1606.07947).
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import DATA_ARGUMENTS, MODEL_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

RECIPE = Recipe(
    name="distill",
    flags=(
        *DATA_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS,
        ("trl", "trainer/distillation_config.py", "DistillationConfig"),
        ("ftkit", "config/settings/distill.py", "DistillArguments"),
    ),
    settings="ftkit.config.settings.distill:SETTINGS",
    method="ftkit.training.methods.distill:METHOD",
    rows="ftkit.data.rows.formats:CONVERSATIONS",
    held_out="ftkit.evaluation.held_out.distillation:HELD_OUT",
    about=__doc__,
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
