"""A reward model in use: scores of whole conversations, each a number that is higher for a better last answer.

    judge = load_reward_model("runs/reward")
    judge.scores([[{"role": "user", "content": "Name a bird."}, {"role": "assistant", "content": "A crow."}]])
    RewardModel.of(trainer.model, tokenizer, template).scores(...)      # of what is loaded already

The score is read at the end-of-turn token of the last answer, whatever the tokenizer pads with and on which side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ftkit.config.errors import UserError
from ftkit.config.hardware import probe
from ftkit.config.paste import command
from ftkit.data.templates.templates import TemplateInfo, install_template
from ftkit.data.tokens.preferences import conversation_ids
from ftkit.inference.generation import evaluation_mode
from ftkit.model.classifier import OUTPUTS_FIX, pad_apart
from ftkit.model.context import context_size
from ftkit.model.trained_classifier import load_trained_classifier

BATCH_SIZE = 16  # conversations


@dataclass(frozen=True)
class RewardModel:
    """model: a sequence classifier with one label. template: the one it was trained with. name: for messages."""

    model: Any
    tokenizer: Any
    template: TemplateInfo
    name: str = "the reward model"

    @classmethod
    def of(cls, model: Any, tokenizer: Any, template: TemplateInfo) -> "RewardModel":
        """The reward model that is loaded already, as it stands, such as one that is being trained."""
        return cls(model, tokenizer, template)

    def scores(self, conversations: Sequence[list[dict]], *, batch_size: int = BATCH_SIZE) -> list[float]:
        """The score of each conversation's last answer, in order.

        conversations: messages that end with the assistant's turn; they are rendered by the model's own template, with
        what could be a control token neutralised as in training. Raises UserError for one that does not end so, one
        that is longer than the context (nothing is cut), and scores that are not finite.
        """
        return self.scores_of_ids(self.token_ids(conversations), batch_size=batch_size)

    def token_ids(self, conversations: Sequence[list[dict]]) -> list[list[int]]:
        """The token ids of each conversation, up to the end-of-turn token of its last answer."""
        sequences = conversation_ids(conversations, self.tokenizer, self.template)
        context = context_size(self.model.config)
        for number, ids in enumerate(sequences, 1):
            if context and len(ids) > context:
                raise UserError(
                    f"conversation {number} has {len(ids)} tokens and the context of {self.name} only {context}; "
                    "shorten it"
                )
        return sequences

    def scores_of_ids(self, sequences: Sequence[list[int]], *, batch_size: int = BATCH_SIZE) -> list[float]:
        """The score at the last token of each sequence of token ids, in order; batched by length."""
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        pad_id = pad_apart(self.model, {ids[-1] for ids in sequences})
        device, found = next(self.model.parameters()).device, [0.0] * len(sequences)
        with evaluation_mode(self.model):
            for start in range(0, len(order), batch_size):
                chunk = order[start : start + batch_size]
                batch = padded([sequences[index] for index in chunk], pad_id)
                logits = self.model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
                for index, score in zip(chunk, logits[:, 0].float().tolist(), strict=True):
                    found[index] = score
        if not torch.tensor(found).isfinite().all():
            raise UserError(f"{self.name}: gives NaN or infinity as a score; {OUTPUTS_FIX}")
        return found


def padded(sequences: Sequence[list[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """{"input_ids", "attention_mask"}, (B, T), padded on the right: a causal model's states do not depend on that."""
    rows = [torch.tensor(ids) for ids in sequences]
    masks = [torch.ones_like(ids) for ids in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(rows, batch_first=True, padding_value=pad_id),
        "attention_mask": pad(masks, batch_first=True),
    }


def load_reward_model(name: str | Path, *, device: str | None = None, **loading) -> RewardModel:
    """What `ftkit reward` wrote, or any sequence classifier with one label, on `device` or that of this machine.

    name: folder or Hub id of a whole model or an adapter. loading: of `load_trained_classifier`, such as base (of an
    adapter, where it is not where the run found it) and dtype (of the base's weights; the head is always float32).
    Raises UserError for a folder that is no classifier, has several labels, lacks its head or has no chat template, and
    for one that renders other tokens than in training.
    """
    model, tokenizer, labels = load_trained_classifier(name, **loading)
    if len(labels) != 1:
        raise UserError(
            f"{name}: is a classifier of {len(labels)} classes, and a reward model has one output; train one: "
            f"{command('reward', '--model', 'M', '--dataset_name', 'D', '--output_dir', 'OUT')}"
        )
    template = install_template(tokenizer)
    return RewardModel(model.to(device or probe().device), tokenizer, template, str(name))
