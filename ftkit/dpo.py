"""Direct preference optimisation (arXiv:2305.18290): from pairs of answers, one preferred; all weights, LoRA or QLoRA.

    ftkit dpo --model M --dataset_name preferences.jsonl --use_peft --output_dir runs/preferred
    ftkit dpo --adapter runs/first --dataset_name preferences.jsonl --beta 0.1 --output_dir runs/preferred
    accelerate launch ftkit/dpo.py --adapter runs/first --dataset_name preferences.jsonl --output_dir runs/preferred

The third is what a launcher starts; `python -m ftkit.dpo` is the same. The reference is the starting point itself:
the model without its adapter, the adapter as it came, a frozen copy of the weights, or log-probabilities computed
beforehand (--precompute_ref_log_probs). Held-out pairs are scored before and after, with intervals.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import DATA_ARGUMENTS, MODEL_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

RECIPE = Recipe(
    name="dpo",
    flags=(
        *DATA_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS,
        ("trl", "trainer/dpo_config.py", "DPOConfig"), ("ftkit", "config/settings/dpo.py", "DPOArguments"),
    ),
    settings="ftkit.config.settings.dpo:SETTINGS",
    method="ftkit.training.methods.dpo:METHOD",
    rows="ftkit.data.rows.kinds:PREFERENCES",
    held_out="ftkit.evaluation.held_out.preferences:HELD_OUT",
    about=__doc__,
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
