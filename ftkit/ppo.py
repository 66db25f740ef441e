"""Proximal policy optimisation (arXiv:1707.06347) with a value head; all weights, LoRA or QLoRA.

    ftkit ppo --model M --dataset_name prompts.jsonl --rewards length:20-40 --use_peft --output_dir runs/brief
    ftkit ppo --adapter runs/first --dataset_name D --rewards reward_model:runs/reward --output_dir runs/liked
    accelerate launch ftkit/ppo.py --model M --dataset_name D --rewards my_rewards.py:function --output_dir OUT

A row is a prompt, with a right answer where a reward needs one. The reference is the starting point itself: the reward
of each token is minus its share of the KL divergence from it, of the last token also the score. Held-out prompts are
rewarded before and after, with intervals. `ftkit grpo` needs no value head, and several answers per prompt.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import DATA_ARGUMENTS, MODEL_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

SETTINGS_FILE = "config/settings/ppo.py"
RECIPE = Recipe(
    name="ppo",
    flags=(
        *DATA_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS,
        ("ftkit", "config/settings/grpo.py", "PromptArguments"), ("ftkit", SETTINGS_FILE, "PPOModelArguments"),
        ("ftkit", SETTINGS_FILE, "PPOArguments"),
    ),
    settings="ftkit.config.settings.ppo:SETTINGS",
    method="ftkit.training.methods.ppo:METHOD",
    rows="ftkit.data.rows.prompts:PROMPTS",
    held_out="ftkit.evaluation.held_out.rewards:HELD_OUT",
    about=__doc__,
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
