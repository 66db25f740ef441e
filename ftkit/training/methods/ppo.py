"""PPO: prompts answered by the policy, rewarded, and learned from against a frozen copy of the start.

The algorithm is in `ftkit.training.ppo`; prompts, rewards and receipts are those of `ftkit grpo`.
"""

import dataclasses

from peft import get_peft_model

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.inference.end_tokens import end_token_ids
from ftkit.model.adapters.methods import peft_config
from ftkit.model.value_head import ValueHead, copy_sharing_frozen
from ftkit.training.method import Method, Run
from ftkit.training.methods.grpo import PromptData, held_out_questions, prepare, prompt_lines, receipt, show
from ftkit.training.ppo.trainer import PPOTrainer
from ftkit.training.preparation import load_trained, row_facts
from ftkit.training.reward_watch import scored


def facts(settings, data: PromptData, hardware):
    """What decisions rest on: prompts as long as they may become. Raises UserError where they fill no rollout."""
    training, room = settings.training, settings.training.max_completion_length
    size = training.rollout_size(hardware.num_devices)
    if len(data.train.rows) < size:
        raise UserError(
            f"{counted(len(data.train.rows), 'prompt')} do not fill a rollout of {size}; give more prompts, or lower "
            "--per_device_train_batch_size, --gradient_accumulation_steps or --num_mini_batches"
        )
    lengths = [length + room for length in data.train.lengths]
    held_out = [(length + room, room) for length in data.test.lengths] if data.test else []
    return dataclasses.replace(row_facts(settings, data, hardware), lengths=lengths, held_out=held_out)


def build_trainer(run: Run, model) -> PPOTrainer:
    """The trainer on tokenized prompts; what is frozen is shared by policy, reference and value trunk."""
    data, asked = run.data, run.settings
    adapter = peft_config(asked.model, model, data.template.added_tokens)
    if adapter is not None and not asked.model.adapter:
        model = get_peft_model(model, adapter)
    reference = copy_sharing_frozen(model).requires_grad_(False)
    model.value = ValueHead.of(model, asked.training.value_trunk)

    def score(prompts, samples) -> list[float]:
        rows = [data.rows.train[prompt["place"]] for prompt in prompts]
        return scored(data.rewards, rows, [one.text for one in samples])

    trainer = PPOTrainer(
        model=model,
        args=run.config,
        train_dataset=data.train_dataset(),
        eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
        reference=reference,
        score=score,
        end_ids=end_token_ids(data.tokenizer, data.template, model.generation_config.eos_token_id),
    )
    trainer.rewards = data.rewards
    if data.test:
        trainer.eval_rows, trainer.held_out = data.test.rows, data.rows.test
    return trainer


def describe(run: Run, receipt: dict | None) -> list[str]:
    """Lines of the plan about prompts, rewards, rollouts and updates."""
    decided, config = run.decided, run.config
    size = run.settings.training.rollout_size(run.hardware.num_devices)
    target = f", adapted to {config.kl_target:g} nats per answer" if config.kl_target else ""
    return [
        *prompt_lines(run),
        f"plan       {counted(decided.num_updates, 'update')}; a rollout is {size} answers of at most "
        f"{config.max_completion_length} tokens at temperature {config.temperature:g}, learned from in "
        f"{config.num_ppo_epochs} x {config.num_mini_batches} updates",
        f"loss       ppo, KL weight {config.kl_coef:g}{target}; learning rate {decided.learning_rate:g}, of the value "
        f"head ({config.value_trunk} trunk) {config.value_learning_rate:g}",
    ]


METHOD = Method(prepare, facts, load_trained, build_trainer, receipt, describe, show, held_out_questions)
