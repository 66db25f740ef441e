"""Train an embedding model for retrieval on pairs of texts: questions and passages; all weights or LoRA.

    ftkit embed --model ENCODER --dataset_name pairs.jsonl --test_size 0.1 --output_dir runs/encoder
    ftkit embed --model ENCODER --dataset_name pairs.jsonl --mine_negatives 1 --negatives_from X --output_dir runs/hard
    ftkit embed --model ENCODER --dataset_name pairs.jsonl --use_peft --matryoshka_dims 256 128 --output_dir runs/lora

`accelerate launch ftkit/embed.py` and `python -m ftkit.embed` are the same. Rows are `question` and `passage`, or
`anchor`, `positive` and maybe `negative`. sentence-transformers' trainer and losses do the work; OUT is a folder that
it, ftkit index and ftkit serve read. Held-out questions are searched for before and after.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import MODEL_ARGUMENTS, SCRIPT_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

SETTINGS_FILE = "config/settings/embed.py"
RECIPE = Recipe(
    name="embed",
    flags=(
        *SCRIPT_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS,
        ("ftkit", SETTINGS_FILE, "EmbedDataArguments"),
        ("ftkit", SETTINGS_FILE, "EmbedModelArguments"),
        ("ftkit", SETTINGS_FILE, "EmbedArguments"),
    ),
    settings="ftkit.config.settings.embed:SETTINGS",
    method="ftkit.training.methods.embed:METHOD",
    rows="ftkit.data.rows.text_pairs:TEXT_PAIRS",
    held_out="ftkit.evaluation.held_out.retrieval:HELD_OUT",
    about=__doc__,
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
