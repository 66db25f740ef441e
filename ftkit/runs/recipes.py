"""The trainers by name: the only place that names their entry scripts, which are imported when one is asked for."""

import importlib

# name: (entry script, what it does)
TRAINERS = {
    "sft": ("ftkit.sft", "supervised fine-tuning: all weights, LoRA, QLoRA, DoRA, soft prompts"),
    "dpo": ("ftkit.dpo", "preference optimisation on pairs of answers: all weights, LoRA, QLoRA"),
    "kto": ("ftkit.kto", "preference optimisation on answers marked as wanted or not: all weights, LoRA, QLoRA"),
    "reward": ("ftkit.reward", "a reward model from pairs of answers, or the scores of a file's answers"),
    "grpo": ("ftkit.grpo", "reinforcement learning from rewards, GRPO and RLOO: all weights, LoRA, QLoRA"),
    "ppo": ("ftkit.ppo", "reinforcement learning from rewards by PPO, with a value head: all weights, LoRA, QLoRA"),
    "distill": ("ftkit.distill", "a student that learns a teacher's distribution, or its answers"),
    "classify": ("ftkit.classify", "train a text classifier, or put a file's texts into classes"),
    "embed": ("ftkit.embed", "an embedding model for retrieval, from pairs of questions and passages"),
    "pretrain": ("ftkit.pretrain", "a base model from raw text, or more training of one on raw text"),
}


def load_recipe(name: str):
    """The Recipe of a trainer's entry script."""
    return importlib.import_module(TRAINERS[name][0]).RECIPE
