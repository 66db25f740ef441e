"""Classifiers: labelled rows and a model with a head made ready, and transformers' Trainer with a loss by rows."""

from dataclasses import dataclass

import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    Trainer,
)

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.templates.lock import verify_tokenizer
from ftkit.data.tokens.labelled import (
    LabelledRows,
    LabelledTokens,
    load_labelled_rows,
    loss_weights,
    tokenize_labelled,
)
from ftkit.model.adapters.methods import keep_four_bit_gradients, quantization_config
from ftkit.model.classifier import LoadedClassifier, check_head, load_classifier, train_last_layers, unquantised_head
from ftkit.model.context import context_size
from ftkit.model.loading import check_vocabulary, load_tokenizer, local_model_folder
from ftkit.training.plan import settle_dtype
from ftkit.training.run_trainer import RunMixin

VALIDATION_SHARE = 0.1  # of the training rows, held out where the best weights are chosen and no split is there for it


@dataclass
class LabelledData:
    """What training needs of the data, by the names that `ftkit.training.plan` knows.

    folder: of the model, local. train: tokenized. observed: the held-out rows that training looks at, tokenized; None
    where nothing is held out. positive: number of the class that F1 is about, of two. class_weights: by class number.
    """

    folder: str
    tokenizer: PreTrainedTokenizerBase
    rows: LabelledRows
    train: LabelledTokens
    observed: LabelledTokens | None
    positive: int
    class_weights: list[float] | None
    template: None = None

    def train_dataset(self) -> Dataset:
        """What the trainer takes."""
        return Dataset.from_list(self.train.rows)

    def observed_dataset(self) -> Dataset | None:
        """What it evaluates on."""
        return Dataset.from_list(self.observed.rows) if self.observed else None


def prepare_labelled_data(settings) -> LabelledData:
    """Read, check, number and tokenize the rows, before any weights are loaded.

    Raises UserError for every mistake in a row, a label, the classes' settings, the model's name or the length.
    """
    data, model, training = settings.data, settings.model, settings.training
    if training.chooses_best and data.validation_size is None:
        data.validation_size = VALIDATION_SHARE
    rows = load_labelled_rows(
        data.dataset_name,
        class_names=data.class_names,
        test_size=data.test_size,
        validation_size=data.validation_size,
        train_split=data.dataset_train_split,
        test_split=data.dataset_test_split,
        config=data.dataset_config,
        seed=training.seed,
    )
    weights = loss_weights(data.class_weights, rows.labels, rows.train)
    positive = positive_class(data.positive_label, rows.labels)
    data.class_names = rows.labels
    folder = local_model_folder(model.model_name_or_path, ftgpt=model.ftgpt, revision=model.model_revision)
    check_head(folder, rows.labels)
    tokenizer = load_tokenizer(folder)
    verify_tokenizer(folder, tokenizer)
    tokenizer.padding_side = "right"  # a causal model's states then do not depend on padding
    settle_text_length(settings, folder, tokenizer)
    tokenizer.model_max_length = training.max_length  # what a pipeline cuts at when it is asked to
    train = tokenize_labelled(rows.train, tokenizer, training.max_length)
    observed = tokenize_labelled(rows.observed, tokenizer, training.max_length) if rows.observed else None
    return LabelledData(folder, tokenizer, rows, train, observed, positive, weights)


def positive_class(name: str | None, labels: list[str]) -> int:
    """Number of the class that precision, recall and F1 are about; of more than two it has no meaning."""
    if name is None:
        return 1
    if len(labels) > 2:
        raise UserError(f"--positive_label {name}: there are {len(labels)} classes, F1 is the mean over them; drop it")
    if name not in labels:
        raise UserError(f"--positive_label {name}{did_you_mean(name, labels)}; the classes are {', '.join(labels)}")
    return labels.index(name)


def settle_text_length(settings, folder: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Keep --max_length within what model and tokenizer take; raise UserError where the person asked for more."""
    training = settings.training
    config = AutoConfig.from_pretrained(folder, trust_remote_code=training.trust_remote_code)
    context = min(context_size(config) or 10**9, tokenizer.model_max_length or 10**9)
    if training.max_length is None or training.max_length > context:
        if "max_length" in settings.given and training.max_length is not None:
            raise UserError(
                f"--max_length {training.max_length} is more than the model's context of {context}; lower it"
            )
        training.max_length = context


def prepare_classifier(settings, data: LabelledData) -> LoadedClassifier:
    """Load the weights with a head for the classes, and freeze what is not trained."""
    model_args, training = settings.model, settings.training
    settle_dtype(model_args)
    if training.learning_rate is None:
        training.learning_rate = training.default_learning_rates[model_args.use_peft]
        if model_args.num_trained_layers == 0:
            training.learning_rate = training.head_learning_rate
    quantization = unquantised_head(
        data.folder, quantization_config(model_args), trust_remote_code=training.trust_remote_code
    )
    loaded = load_classifier(
        data.folder,
        data.rows.labels,
        pad_token_id=data.tokenizer.pad_token_id,
        dtype=model_args.dtype,
        attn_implementation=model_args.attn_implementation,
        quantization_config=quantization,
        trust_remote_code=training.trust_remote_code,
    )
    keep_four_bit_gradients(loaded.model)
    check_vocabulary(loaded.model, data.tokenizer)
    if model_args.num_trained_layers is not None:
        train_last_layers(loaded.model, loaded.head, model_args.num_trained_layers)
    return loaded


class FTClassificationTrainer(RunMixin, Trainer):
    """Trainer on {"input_ids", "labels"} rows, with what ftkit adds to every trainer.

    The training loss is the sum of weight[label] * cross-entropy over the rows of an update, divided by their number:
    the same for any split of an update into batches (the models' own loss is a mean of each batch, and with several
    batches an update transformers would add these up). Evaluation loss has neither class weights nor label smoothing.
    """

    def __init__(self, *args, class_weights: list[float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = torch.tensor(class_weights) if class_weights else None
        self.compute_loss_func = self.row_loss
        self.model_accepts_loss_kwargs = False  # the loss is ours, the model gets no part of it
        if self.args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(self.args.early_stopping_patience))

    def row_loss(self, outputs, labels, num_items_in_batch=None):
        """Mean over rows, in nats; of an update's rows where Trainer tells their number."""
        logits = outputs["logits"].float()
        options = {"reduction": "sum"}
        if self.model.training:
            options["weight"] = None if self.class_weights is None else self.class_weights.to(logits)
            options["label_smoothing"] = self.args.label_smoothing_factor
        total = torch.nn.functional.cross_entropy(logits, labels, **options)
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    def log(self, logs, *args, **kwargs):
        logs["num_tokens"] = self.state.num_input_tokens_seen
        super().log(logs, *args, **kwargs)
