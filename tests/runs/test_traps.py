"""What alignment goes silently wrong on elsewhere stops here with one line, whichever trainer it is given to.

PROOFS of tests/test_alignment.py names the tests of the traps that stand beside their trainers' own.
"""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.runs.recipes import load_recipe

TURN = {"role": "assistant", "content": "x"}
EMPTY_CHOICE = {"prompt": "a", "chosen": "b", "rejected": " "}
TWO_PROMPTS = {name: [{"role": "user", "content": name}, TURN] for name in ("chosen", "rejected")}
NONE = "def none(completions): return [None for _ in completions]\n"
ON_THE_HEAD = ("--use_peft", "--lora_target_modules", "lm_head")

TRAPS = {  # trap and trainer: rows in the place of good ones, further flags, what is said
    "empty answer, dpo": ([EMPTY_CHOICE], (), '"rejected" is empty'),
    "empty answer, distill": ([{"prompt": "a", "completion": ""}], (), '"completion" is empty'),
    "empty prompt, grpo": ([{"prompt": " "}], (), '"prompt" is empty'),
    "empty prompt, ppo": ([{"prompt": ""}], (), '"prompt" is empty'),
    "two prompts, dpo": ([TWO_PROMPTS], (), "chosen and rejected part before their last turn"),
    "two prompts, kto": ([TWO_PROMPTS], (), "chosen and rejected part before their last turn"),
    "string prompt without a template, grpo": (None, ("--template", "auto"), "the tokenizer has no chat template; choose"),
    "string prompt without a template, ppo": (None, ("--template", "auto"), "the tokenizer has no chat template; choose"),
    "None rewards, grpo": (None, ("--rewards", "OWN:none"), "no answer got a reward: every one is missing"),
    "None rewards, ppo": (None, ("--rewards", "OWN:none"), "no answer got a reward: every one is missing"),
    "answers all cut, ppo": (None, ("--max_completion_length", "1"), "% of the answers reach --max_completion_length"),
    "LoRA on the head, dpo": (None, ON_THE_HEAD, "lm_head: embedding and head are one tensor"),
    "LoRA on the head, kto": (None, ON_THE_HEAD, "lm_head: embedding and head are one tensor"),
    "LoRA on the head, ppo": (None, ON_THE_HEAD, "lm_head: embedding and head are one tensor"),
    "LoRA on the head, distill": (None, ON_THE_HEAD, "lm_head: embedding and head are one tensor"),
    "LoRA on a head of its own, dpo": (None, (*ON_THE_HEAD, "--model", "UNTIED"), "adapter to `lm_head` is not supported"),
    "LoRA on a head of its own, kto": (None, (*ON_THE_HEAD, "--model", "UNTIED"), "adapter to `lm_head` is not supported"),
    "LoRA on a head of its own, grpo": (None, (*ON_THE_HEAD, "--model", "UNTIED"), "adapter to `lm_head` is not supported"),
    "no end token, dpo": (None, ("--model", "ENDLESS"), "no eos token to close an answer"),
    "no end token, kto": (None, ("--model", "ENDLESS"), "no eos token to close an answer"),
    "no end token, grpo": (None, ("--model", "ENDLESS"), "no eos token to close an answer"),
    "no end token, ppo": (None, ("--model", "ENDLESS"), "no eos token to close an answer"),
    "no end token, distill": (None, ("--model", "ENDLESS"), "no eos token to close an answer"),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_folder) -> dict[str, str]:
    """What the capitals in TRAPS stand for."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    root = tmp_path_factory.mktemp("traps")
    (root / "own.py").write_text(NONE)
    tokenizer, config = AutoTokenizer.from_pretrained(tiny_folder), AutoConfig.from_pretrained(tiny_folder)
    config.tie_word_embeddings, config.num_hidden_layers = False, 1
    torch.manual_seed(0)
    for name in ("untied", "endless"):
        LlamaForCausalLM(config).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        tokenizer.eos_token = None
    return {"OWN": str(root / "own.py"), "UNTIED": str(root / "untied"), "ENDLESS": str(root / "endless")}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_one_line(trap, files, places, tmp_path):
    command = trap.rpartition(", ")[2]
    rows, more, message = TRAPS[trap]
    for name, place in places.items():
        more = [word.replace(name, place) for word in more]
    if rows:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        more = [*more, "--dataset_name", str(tmp_path / "rows.jsonl")]
    given = [word for word in files.flags(command, tmp_path / "out") if word != "--start_anyway"]
    recipe = load_recipe(command)
    with pytest.raises(UserError) as stopped:
        recipe.train(recipe.parse([*given, "--max_steps", "1", *more]))
    assert message in str(stopped.value) and "\n" not in str(stopped.value)
    assert not list((tmp_path / "out").glob("checkpoint-*"))


@pytest.mark.parametrize("command", ["grpo", "ppo"])
def test_a_string_is_asked_as_a_users_turn_of_the_template(command, files, tmp_path):
    from ftkit.runs.recipe import found

    recipe = load_recipe(command)
    data = found(recipe.method).prepare(recipe.parse(files.flags(command, tmp_path / "out")))
    asked = data.tokenizer.decode(data.train.rows[0]["prompt_ids"])
    assert asked.startswith("Below is an instruction") and asked.endswith(
        "\n\n### Instruction:\nbal\n\n### Response:\n"
    )
