"""Reward models: whole pairs, a classifier with one output, TRL's RewardTrainer, and a proof of what is saved.

The head is trained and saved whole with every method, starts from the seed alone, and is float32 on any base.
"""

import dataclasses
from collections.abc import Callable

from peft import PeftModel, get_peft_model
from transformers import set_seed
from trl import RewardTrainer

from ftkit.config.errors import UserError
from ftkit.config.hardware import Hardware
from ftkit.config.paste import command
from ftkit.data.rows.conversion import answered
from ftkit.data.rows.kinds import ANSWERS, PREFERENCES
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.data.tokens.whole_pairs import tokenize_whole_pairs
from ftkit.inference import fresh_scores
from ftkit.inference.reward_model import RewardModel
from ftkit.model.classifier import (
    LABEL,
    REGRESSION,
    classifier_peft_config,
    pad_apart,
    stored_labels,
)
from ftkit.model.fast.fused_lora import use_plain_lora
from ftkit.training.decided import Facts
from ftkit.training.facts import model_facts
from ftkit.training.method import Method, Run
from ftkit.training.methods.classify import AutoModelForSequenceClassification, load_with_head
from ftkit.training.preparation import PreparedData, describe_rows, prepare_data, row_receipt
from ftkit.training.run_trainer import RunMixin
from ftkit.training.sharing import is_sharded

NUM_PROVEN = 8  # pairs that are scored again from the saved model


class FTRewardTrainer(RunMixin, RewardTrainer):
    """RewardTrainer on {"chosen_ids", "rejected_ids"}, with what ftkit adds to every trainer.

    end_of_turn_id: the token that is scored; padding has another one.
    """

    def __init__(self, *args, end_of_turn_id: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.last_tokens = {end_of_turn_id}
        self.data_collator.pad_token_id = pad_apart(self.model, self.last_tokens)
        for weight in self.model.parameters() if isinstance(self.model, PeftModel) else ():
            if weight.requires_grad:  # on a 4-bit base TRL makes it bfloat16, and PEFT reads it again as float32
                weight.data = weight.data.float()

    def compute_loss(self, *args, **kwargs):
        """As RewardTrainer's; Trainer has given the model the tokenizer's pad token back."""
        pad_apart(self.model, self.last_tokens)
        return super().compute_loss(*args, **kwargs)

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset  # tokenized already


def prepare(settings) -> PreparedData:
    """The pairs, tokenized. Raises UserError for a classifier of several classes."""
    data = prepare_data(settings, PREFERENCES, tokenize_whole_pairs)
    labels = stored_labels(data.folder)
    if labels and len(labels) != 1:
        raise UserError(
            f"{data.folder}: is a classifier of {', '.join(labels)}, and a reward model has one output; start from a "
            "language model, or from a reward model"
        )
    return data


def pair_facts(settings, data: PreparedData, hardware: Hardware) -> Facts:
    """What decisions rest on, of tokenized pairs."""
    trust, auto = settings.training.trust_remote_code, AutoModelForSequenceClassification
    facts = model_facts(data.config, hardware, trust_remote_code=trust, auto=auto)
    return dataclasses.replace(
        facts, lengths=data.train.lengths, is_stream=data.stream is not None, num_test=len(data.rows.test or [])
    )


def labels_of(run: Run) -> list[str]:
    """What the one output is called: as the reward model that is trained on calls it, else LABEL."""
    return stored_labels(run.data.folder) or [LABEL]


def load(run: Run):
    """The weights with a head of one output, which the seed alone decides, and the adapter on them."""
    set_seed(run.config.seed)
    loaded = load_with_head(run, labels_of(run), problem_type=REGRESSION)
    config = classifier_peft_config(run.settings.model, loaded.model, loaded.head)
    return loaded if config is None else loaded._replace(model=get_peft_model(loaded.model, config))


def build_trainer(run: Run, loaded) -> FTRewardTrainer:
    """The trainer on tokenized pairs."""
    data = run.data
    return FTRewardTrainer(
        model=loaded.model,
        args=run.config,
        train_dataset=data.train_dataset(),
        eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
        end_of_turn_id=data.template.end_of_turn_id,
    )


def receipt(run: Run, trainer: FTRewardTrainer) -> dict:
    """What is trained on, counted from the pairs: of each conversation its last token is scored."""
    return row_receipt(run, sequences_per_row=len(ANSWERS)) | {"is_scored": True, "labels": labels_of(run)}


def describe(run: Run, receipt: dict | None) -> list[str]:
    """As for rows of any kind, with the loss."""
    weight = run.config.center_rewards_coefficient
    centred = f", plus {weight:g} (chosen + rejected)^2, which keeps scores near 0" if weight else ""
    return [*describe_rows(run, receipt), f"loss       -log sigmoid(chosen - rejected){centred}"]


def first_pairs(run: Run) -> tuple[list[dict], Callable] | None:
    """The first held-out pairs, and what gives their scores as text."""
    data, number = run.data, run.config.num_samples
    if not (data.test and number):
        return None
    rows = [data.rows.test[index] for index in data.test.kept[:number]]
    sequences = [row[f"{name}_ids"] for row in data.test.rows[:number] for name in ANSWERS]
    questions = [{"prompt": row["prompt"][-1]["content"] if row["prompt"] else "", "reference": ""} for row in rows]

    def score(model) -> list[str]:
        scores = RewardModel.of(model, data.tokenizer, data.template).scores_of_ids(sequences)
        pairs = zip(scores[::2], scores[1::2], strict=True)
        return [f"chosen {chosen:+.3f}, rejected {rejected:+.3f}" for chosen, rejected in pairs]

    return questions, score


def prove(run: Run, trainer: FTRewardTrainer) -> str:
    """Read the saved model in a fresh process and hold its scores against those of the one that was trained.

    Raises UserError where they are not equal, bit for bit.
    """
    data, config = run.data, run.config
    if is_sharded(trainer):
        return "not proven: no process holds whole weights to compare the saved ones with"
    use_plain_lora(trainer.model)  # as it is computed where the model is used
    has_test = data.test and data.test.kept
    rows, kept = (data.rows.test, data.test.kept) if has_test else (data.rows.train, data.train.kept)
    some = [rows[index] for index in kept[:NUM_PROVEN]]
    talks = [answered(row["prompt"], row[name])["messages"] for row in some for name in ANSWERS]
    trained = RewardModel.of(trainer.model, data.tokenizer, data.template).scores(talks)
    loading = {
        "base": data.folder if run.settings.model.use_peft else None, "dtype": run.decided.dtype,
        "attn_implementation": run.settings.model.attn_implementation, "trust_remote_code": config.trust_remote_code,
        "device": str(trainer.model.device),
    }  # fmt: skip
    saved = fresh_scores.scores_in_fresh_process(run.output_dir, talks, loading)
    for number, (one, other) in enumerate(zip(trained, saved, strict=True)):
        if one != other:
            raise UserError(
                f"{run.output_dir}: what is saved is not what was trained: conversation {number + 1} scores {one!r} "
                f"before saving and {other!r} read again; the checkpoints are whole"
            )
    return f"proven     a fresh process reads {run.output_dir} and gives the same {len(saved)} scores, bit for bit"


def next_command(run: Run) -> str:
    """What to run on the result."""
    return command("reward", "--predict", "FILE", "--model", run.output_dir)


METHOD = Method(
    prepare, pair_facts, load, build_trainer, receipt, describe, format_receipt, first_pairs,
    next_command=next_command, prove=prove,
)  # fmt: skip
