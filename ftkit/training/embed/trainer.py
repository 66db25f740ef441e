"""sentence-transformers' trainer on pairs that are tokenized already, with what ftkit adds to every trainer."""

from collections.abc import Sequence

import torch
from sentence_transformers import SentenceTransformerTrainer

from ftkit.config.settings.embed import TRIPLET, EmbedArguments
from ftkit.data.tokens.text_pairs import ANCHOR, POSITIVE
from ftkit.training.embed.batches import BatchesApart, Texts
from ftkit.training.embed.encoder import load_checkpoint
from ftkit.training.run_trainer import RunMixin


class PairCollator:
    """Pads the token ids of each column: {"anchor_input_ids", "anchor_attention_mask", "positive_input_ids", ...}."""

    valid_label_columns: tuple = ()

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[dict]) -> dict[str, torch.Tensor]:
        batch = {}
        for name in rows[0]:
            width = max(len(row[name]) for row in rows)
            gaps = [width - len(row[name]) for row in rows]
            ids = [[*row[name], *[self.pad_token_id] * gap] for row, gap in zip(rows, gaps, strict=True)]
            mask = [[1] * (width - gap) + [0] * gap for gap in gaps]
            batch |= {f"{name}_input_ids": torch.tensor(ids), f"{name}_attention_mask": torch.tensor(mask)}
        return batch


class FTEmbedTrainer(RunMixin, SentenceTransformerTrainer):
    """SentenceTransformerTrainer on {"anchor", "positive", "negative_1", ...} of token ids.

    Batches keep equal texts apart and are drawn from seed and pass alone, so that a run which goes on sees the same.
    """

    training_args_class = EmbedArguments

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the pairs of a batch
        self._total_train_tokens = 0

    def add_model_card_callback(self, default_args_dict) -> None:
        """Leave the card to ftkit."""

    def get_batch_sampler(self, dataset, batch_size, drop_last, **kwargs):
        """Batches in which no text stands twice."""
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return BatchesApart(texts_of(dataset), batch_size, drop_last=drop_last, seed=seed)

    def training_step(self, model, inputs, *args, **kwargs):
        """One step, whose tokens are counted."""
        masks = [value.sum() for name, value in inputs.items() if name.endswith("attention_mask")]
        tokens = self.accelerator.reduce(torch.stack(masks).sum().to(self.args.device), "sum")
        self._total_train_tokens += int(tokens)
        return super().training_step(model, inputs, *args, **kwargs)

    def log(self, logs, *args, **kwargs):
        logs["num_tokens"] = self.num_tokens_seen()
        for name, dataset in (("loss", self.train_dataset), ("eval_loss", self.eval_dataset)):
            if name in logs:
                logs[name.replace("loss", "candidates")] = self.num_candidates(dataset)
        super().log(logs, *args, **kwargs)

    def num_candidates(self, dataset) -> int:
        """Passages that a question's own is held against in a whole batch, itself among them."""
        is_evaluated = dataset is self.eval_dataset
        batch = self.args.per_device_eval_batch_size if is_evaluated else self.args.per_device_train_batch_size
        return 2 if self.args.loss_type == TRIPLET else min(batch, len(dataset)) * (len(dataset.column_names) - 1)

    def save_weights(self, folder, state_dict=None) -> None:
        """The encoder with its pooling, in sentence-transformers' form."""
        self.accelerator.unwrap_model(self.model).save_pretrained(str(folder), create_model_card=False)

    def _load_from_checkpoint(self, checkpoint_path, *args, **kwargs):
        load_checkpoint(self.model, checkpoint_path)


def texts_of(dataset) -> list[Texts]:
    """The texts of each row, by a number for each list of token ids."""
    numbers: dict[tuple, int] = {}
    found = []
    for row in dataset:
        every = {name: numbers.setdefault(tuple(ids), len(numbers)) for name, ids in row.items()}
        found.append(Texts(frozenset((every[ANCHOR], every[POSITIVE])), frozenset(every.values())))
    return found
