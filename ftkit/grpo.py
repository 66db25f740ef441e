"""Reinforcement learning from rewards: GRPO (arXiv:2402.03300) and its family, and RLOO; all weights, LoRA or QLoRA.

    ftkit grpo --model M --dataset_name problems.jsonl --rewards final_number --use_peft --output_dir runs/solves
    ftkit grpo --adapter runs/first --dataset_name D --rewards exact_answer length:-40 --output_dir runs/brief
    accelerate launch ftkit/grpo.py --model M --dataset_name D --rewards my_rewards.py:function --output_dir OUT

A row is a prompt, with a right answer where a reward needs one. Before the first step some prompts are answered: a run
that has nothing to learn from stops there (SFT first). Held-out prompts are rewarded before and after, with intervals.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path, where ftkit need not be installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from ftkit.config.flags import DATA_ARGUMENTS, MODEL_ARGUMENTS, TRAINING_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.recipe import Recipe

RECIPE = Recipe(
    name="grpo",
    flags=(
        *DATA_ARGUMENTS, *MODEL_ARGUMENTS, *TRAINING_ARGUMENTS, ("ftkit", "config/settings/grpo.py", "PromptArguments"),
        ("trl", "trainer/grpo_config.py", "GRPOConfig"), ("ftkit", "config/settings/grpo.py", "GRPOArguments"),
    ),
    settings="ftkit.config.settings.grpo:SETTINGS",
    method="ftkit.training.methods.grpo:METHOD",
    rows="ftkit.data.rows.prompts:PROMPTS",
    held_out="ftkit.evaluation.held_out.rewards:HELD_OUT",
    about=__doc__,
)  # fmt: skip
main = RECIPE.main

if __name__ == "__main__":
    sys.exit(run(main))
