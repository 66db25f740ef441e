"""Pretraining of a causal language model on raw text: FTGPT from scratch, or any weights further.

    ftkit pretrain --tokenizer runs/tokenizer --dataset_name corpus --max_tokens 2e7 --output_dir runs/base
    ftkit pretrain --model M --dataset_name notes.txt --block_size 256 --output_dir runs/continued
    accelerate launch ftkit/pretrain.py --tokenizer runs/tokenizer --dataset_name corpus --output_dir runs/base

The third is what a launcher starts; `python -m ftkit.pretrain` is the same. Documents are joined into blocks;
held-out ones are scored at each evaluation (loss, perplexity, bits per byte), and their beginnings are continued.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import MODEL_ARGUMENTS, SCRIPT_ARGUMENTS, TERNARY_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

SETTINGS_FILE = "config/settings/pretrain.py"
RECIPE = Recipe(
    name="pretrain",
    flags=(
        *SCRIPT_ARGUMENTS, *MODEL_ARGUMENTS, *TERNARY_ARGUMENTS,
        *(("ftkit", SETTINGS_FILE, f"Pretrain{part}Arguments") for part in ("Data", "Model", "")),
    ),
    settings="ftkit.config.settings.pretrain:SETTINGS",
    method="ftkit.training.methods.pretrain:METHOD",
    held_out="ftkit.evaluation.held_out.likelihoods:HELD_OUT_TEXT",
    about=__doc__,
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
