"""Train a text classifier on your labelled rows: all weights, LoRA, the last layers or the head; decoders and encoders.

    ftkit classify --model M --dataset_name spam --output_dir runs/spam
    ftkit classify --model M --dataset_name rows.csv --num_trained_layers 1 --output_dir runs/mine
    ftkit classify --predict mails.txt --model runs/spam --output_file predicted.jsonl

`accelerate launch ftkit/classify.py` and `python -m ftkit.classify` are the same. Rows are `text` and `label`.
Held-out rows are measured with intervals, and OUT/report.html shows which classes are confused and how far the
probabilities can be trusted. `ftkit classify --predict FILE --model_name_or_path OUT` puts a file's texts into
classes.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import MODEL_ARGUMENTS, SCRIPT_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

SETTINGS_FILE = "config/settings/classify.py"
RECIPE = Recipe(
    name="classify",
    flags=(
        *SCRIPT_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS,
        ("ftkit", SETTINGS_FILE, "ClassificationDataArguments"),
        ("ftkit", SETTINGS_FILE, "ClassifierModelArguments"),
        ("ftkit", SETTINGS_FILE, "ClassificationArguments"),
    ),
    settings="ftkit.config.settings.classify:SETTINGS",
    method="ftkit.training.methods.classify:METHOD",
    rows="ftkit.data.rows.kinds:LABELLED",
    held_out="ftkit.evaluation.held_out.classification:HELD_OUT",
    about=__doc__,
    predict="ftkit.commands.predict.texts:main",
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
