"""Train a reward model from pairs of answers, one preferred: a score for any conversation; all weights, LoRA or QLoRA.

    ftkit reward --model M --dataset_name preferences.jsonl --use_peft --output_dir runs/reward
    ftkit reward --model M --dataset_name preferences.jsonl --num_trained_layers 1 --output_dir runs/reward
    ftkit reward --predict answers.jsonl --model runs/reward --output_file scored.jsonl

`accelerate launch ftkit/reward.py` and `python -m ftkit.reward` are the same. The loss is -log sigmoid(score of chosen
- score of rejected), with rewards kept near zero by --center_rewards_coefficient. Held-out pairs are ranked before and
after, beside the longer answer and a coin; the saved model is read again in a fresh process and must give the same
scores, bit for bit.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import DATA_ARGUMENTS, MODEL_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

SETTINGS_FILE = "config/settings/reward.py"
RECIPE = Recipe(
    name="reward",
    flags=(
        *DATA_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS,
        ("trl", "trainer/reward_config.py", "RewardConfig"),
        ("ftkit", "config/settings/classify.py", "ClassifierModelArguments"),
        ("ftkit", SETTINGS_FILE, "RewardDataArguments"),
        ("ftkit", SETTINGS_FILE, "RewardArguments"),
    ),
    settings="ftkit.config.settings.reward:SETTINGS",
    method="ftkit.training.methods.reward:METHOD",
    rows="ftkit.data.rows.kinds:PREFERENCES",
    held_out="ftkit.evaluation.held_out.reward:HELD_OUT",
    about=__doc__,
    predict="ftkit.commands.predict.answers:main",
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
