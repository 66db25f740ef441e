"""GRPO, its family and RLOO: prompts answered by the model as it is, rewarded, and trained by TRL's trainers."""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from trl import GRPOTrainer, RLOOTrainer

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.data.rows.prompts import PROMPTS
from ftkit.data.tokens.prompts import tokenize_prompts
from ftkit.data.tokens.receipt_text import receipt_lines
from ftkit.inference.asking import Sampling
from ftkit.inference.engine import Engine
from ftkit.inference.judging import prompt_text
from ftkit.model.adapters.methods import peft_config
from ftkit.training.checkpoints import list_checkpoints
from ftkit.training.learning_receipt import Answer, check_learning, learning_receipt
from ftkit.training.method import Method, Run
from ftkit.training.preparation import PreparedData, load_trained, prepare_data, row_facts
from ftkit.training.reward_watch import scored
from ftkit.training.rewards import check_columns, load_rewards
from ftkit.training.run_trainer import RunMixin
from ftkit.training.sampled import SampledMixin
from ftkit.training.sharing import is_sharded, shared

RECEIPT_SEED = 11

logger = logging.getLogger(__name__)


class FTGRPOTrainer(RunMixin, SampledMixin, GRPOTrainer):
    """GRPOTrainer on {"prompt", "prompt_ids", "place"}, with what ftkit adds."""


class FTRLOOTrainer(RunMixin, SampledMixin, RLOOTrainer):
    """RLOOTrainer on the same."""


@dataclasses.dataclass
class PromptData(PreparedData):
    """Prompts, and what their answers are rewarded for."""

    rewards: list = dataclasses.field(default_factory=list)


def prepare(settings) -> PromptData:
    """The prompts, tokenized, and the rewards, loaded and held against the rows."""
    training, model = settings.training, settings.model
    if model.use_peft and model.peft_method != "lora":
        raise UserError(f"--peft_method {model.peft_method}: PEFT drops the positions of sampled answers; use lora")
    tokenize = partial(tokenize_prompts, room=training.max_completion_length)
    data = prepare_data(settings, PROMPTS, tokenize, may_change_template=False, check=lambda *_: None)
    rewards = load_rewards(training.rewards, training.reward_weights)
    for part in (data.rows.train, data.rows.test or []):
        check_columns(rewards, part)
    if any(".py:" in one.name for one in rewards):  # which may use them
        data.rows.ignored_columns = []
    return PromptData(**vars(data), rewards=rewards)


def facts(settings, data: PromptData, hardware):
    """What decisions rest on: as many rows as answers are trained in a pass, each as long as it may become."""
    training = settings.training
    size, group = training.answers_per_batch(hardware.num_devices), training.answers_per_prompt
    num_prompts = len(data.train.rows) // (size // group) * (size // group)
    if not num_prompts:
        raise UserError(
            f"{counted(len(data.train.rows), 'prompt')} do not fill a batch of {size // group} (of {size} answers); "
            "give more prompts, or lower --per_device_train_batch_size or --gradient_accumulation_steps"
        )
    room = training.max_completion_length
    lengths = [length + room for length in data.train.lengths[:num_prompts] for _ in range(group)]
    held_out = [(length + room, room) for length in data.test.lengths] if data.test else []
    known = row_facts(settings, data, hardware)
    return dataclasses.replace(known, lengths=lengths * training.num_iterations, held_out=held_out)


def build_trainer(run: Run, model) -> FTGRPOTrainer | FTRLOOTrainer:
    """The trainer on tokenized prompts."""
    data = run.data
    is_grpo = run.settings.training.algorithm == "grpo"
    trainer = (FTGRPOTrainer if is_grpo else FTRLOOTrainer)(
        model=model,
        reward_funcs=[named(reward.name) for reward in data.rewards],
        args=run.config,
        train_dataset=data.train_dataset(),
        eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
        peft_config=peft_config(run.settings.model, model, data.template.added_tokens),
    )
    trainer.use(data.rewards, data.rows.train, data.template)
    if data.test:
        trainer.eval_rows, trainer.held_out = data.test.rows, data.rows.test
    return trainer


def named(name: str) -> Callable:
    """What TRL takes for a reward, by which it calls the numbers of its log; SampledMixin asks the reward itself."""

    def reward(**columns):
        raise AssertionError("rewards are asked by SampledMixin")

    reward.__name__ = name
    return reward


def receipt(run: Run, trainer) -> dict:
    """What is asked, and whether its answers can teach anything. Raises UserError where they can't."""
    data, training = run.data, run.settings.training
    found = {
        **data.train.counts(),
        "template": {"name": data.template.name, "fingerprint": data.template.fingerprint},
        "longest_rows": [{"num_tokens": length, "source": source} for length, source in data.train.longest[:5]],
        "num_test_copies": len(data.copies) if data.copies else 0,
        "test_copies": [{"train": train, "test": test} for train, test in (data.copies or [])[:5]],
        "rewards": {reward.name: reward.weight for reward in data.rewards},
    }
    learning = kept_learning(run) or measured_learning(run, trainer)
    if learning:
        check_learning(learning, may_start=training.start_anyway)
        found["learning"] = learning
    return found


def kept_learning(run: Run) -> dict | None:
    """The learning receipt of a run that goes on, as it was before the first step."""
    path = Path(run.output_dir) / "receipt.json"
    if not list_checkpoints(run.output_dir):
        return None
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8")).get("learning")
    return None


def measured_learning(run: Run, trainer) -> dict | None:
    """Some prompts answered and rewarded; in all processes. None where the weights are sharded."""
    if is_sharded(trainer):
        logger.warning("no learning receipt: no process holds whole weights")
        return None
    data, num, training = run.data, run.config.num_generations, run.config
    rows = data.train.rows
    asked = rows[:: max(1, len(rows) // training.receipt_prompts)][: training.receipt_prompts]

    def answer(part: list[dict]) -> list[list[Answer]]:
        groups = trainer.sample_ids([row["prompt_ids"] for row in part], num, training.seed + RECEIPT_SEED)
        found = []
        for row, group in zip(part, groups, strict=True):
            rewards = scored(data.rewards, [data.rows.train[row["place"]]] * num, [one.text for one in group])
            prompt = prompt_text(row["prompt"])
            found.append([
                Answer(prompt, one.text, reward, one.is_ended, len(one.ids))
                for one, reward in zip(group, rewards, strict=True)
            ])  # fmt: skip
        return found

    return learning_receipt(shared(trainer.accelerator, asked, answer), num)


def prompt_lines(run: Run) -> list[str]:
    """What is asked, and what answers are rewarded for."""
    data = run.data
    held_out, prompts = len(data.rows.test or []), counted(len(data.rows.train), "prompt")
    weights = ", ".join(f"{one.name} (weight {one.weight:g})" if one.weight != 1 else one.name for one in data.rewards)
    return [
        f"data       {data.rows.source}: {prompts} ({data.rows.format}), {held_out} held out",
        f"template   {data.template.name}",
        f"rewards    {weights}",
    ]


def describe(run: Run, receipt: dict | None) -> list[str]:
    """Lines of the plan about prompts, rewards and updates."""
    decided, config = run.decided, run.config
    group, own = run.settings.training.answers_per_prompt, decided.own
    size = run.settings.training.answers_per_batch(run.hardware.num_devices)
    name = run.settings.training.algorithm if run.settings.training.algorithm == "rloo" else config.loss_type
    skips = "; groups without a spread are left out of the denominator" if config.skip_equal_groups else ""
    return [
        *prompt_lines(run),
        f"plan       {counted(decided.num_updates, 'update')} on {size} answers at a time, {group} per prompt, at most "
        f"{config.max_completion_length} tokens at temperature {config.temperature:g}",
        f"loss       {name}, beta {own['beta']:g}{skips}; learning rate {decided.learning_rate:g}",
    ]


def show(receipt: dict, color: bool = False) -> str:
    """The receipt for a person."""
    return "\n".join(f"{label:<11}{text}" for label, text in receipt_lines(receipt))


def held_out_questions(run: Run) -> tuple[list[dict], Callable] | None:
    """The first held-out prompts, and what answers them."""
    data, num = run.data, run.config.num_samples
    if not (data.test and num):
        return None
    rows = data.test.rows[:num]
    questions = [
        {
            "prompt": prompt_text(row["prompt"]),
            "reference": data.rows.test[row["place"]]["columns"].get("answer") or "",
        }
        for row in rows
    ]

    def answer_all(model) -> list[str]:
        engine = Engine.of(model, data.tokenizer, data.template)
        return engine.texts(
            [row["prompt_ids"] for row in rows], Sampling(max_new_tokens=run.config.sample_max_new_tokens)
        )

    return questions, answer_all


METHOD = Method(prepare, facts, load_trained, build_trainer, receipt, describe, show, held_out_questions)
