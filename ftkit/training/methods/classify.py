"""Classifiers: labelled rows and a model with a head made ready, and transformers' Trainer with a loss by rows."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Trainer,
)

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.hardware import Hardware
from ftkit.config.paste import command
from ftkit.data.reading.read_as import ReadAs
from ftkit.data.templates.lock import verify_tokenizer
from ftkit.data.tokens.labelled import (
    LabelledRows,
    LabelledTokens,
    classification_receipt,
    load_labelled_rows,
    loss_weights,
    tokenize_labelled,
)
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.metrics.classification import measure
from ftkit.model.adapters.methods import keep_four_bit_gradients, quantization_config
from ftkit.model.classifier import (
    ONE_CLASS,
    LoadedClassifier,
    check_head,
    class_probabilities,
    classifier_peft_config,
    load_classifier,
    train_last_layers,
    unquantised_head,
)
from ftkit.model.context import context_size
from ftkit.model.loading import check_vocabulary, load_config, load_tokenizer, local_model_folder
from ftkit.training.callbacks import EarlyStopping
from ftkit.training.decided import Facts
from ftkit.training.facts import model_facts
from ftkit.training.method import Method, Run
from ftkit.training.plan import row_limit
from ftkit.training.preparation import describe_rows
from ftkit.training.run_trainer import RunMixin

UNLIMITED = 10**9  # tokens
VALIDATION_SHARE = 0.1  # of the training rows, held out where the best weights are chosen and no split is there for it


@dataclass
class LabelledData:
    """What training needs of the data.

    folder, config: of the model, local. context: the longest text it takes. train: tokenized. observed: the held-out
    rows that training looks at, tokenized; None where nothing is held out. positive: number of the class that F1 is
    about, of two. class_weights: by class number.
    """

    folder: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    context: int
    rows: LabelledRows
    train: LabelledTokens
    observed: LabelledTokens | None
    positive: int
    class_weights: list[float] | None
    template: None = None

    def train_dataset(self) -> Dataset:
        """What the trainer takes."""
        return Dataset.from_list(self.train.rows)

    def origins(self) -> Iterator[tuple[list[int], str]]:
        """(token ids, source) of each training row."""
        for tokens, row in zip(self.train.rows, self.rows.train, strict=True):
            yield tokens["input_ids"], row["source"]

    def observed_dataset(self) -> Dataset | None:
        """What it evaluates on."""
        return Dataset.from_list(self.observed.rows) if self.observed else None


def prepare_labelled_data(settings) -> LabelledData:
    """Read, check, number and tokenize the rows, before any weights are loaded.

    Raises UserError for every mistake in a row, a label, the classes' settings, the model's name or the length.
    """
    data, model, training = settings.data, settings.model, settings.training
    validation_size = data.validation_size
    if training.chooses_best and validation_size is None:
        validation_size = VALIDATION_SHARE
    rows = load_labelled_rows(
        data.dataset_name,
        class_names=data.class_names,
        test_size=data.test_size,
        validation_size=validation_size,
        train_split=data.dataset_train_split,
        test_split=data.dataset_test_split,
        config=data.dataset_config,
        seed=training.seed,
        read_as=ReadAs.of(data.columns, data.encoding),
    )
    weights = loss_weights(data.class_weights, rows.labels, rows.train)
    positive = positive_class(data.positive_label, rows.labels)
    folder = local_model_folder(model.model_name_or_path, ftgpt=model.ftgpt, revision=model.model_revision)
    check_head(folder, rows.labels)
    tokenizer = load_tokenizer(folder, trust_remote_code=training.trust_remote_code)
    verify_tokenizer(folder, tokenizer)
    tokenizer.padding_side = "right"  # a causal model's states then do not depend on padding
    config = load_config(folder, trust_remote_code=training.trust_remote_code)
    context = text_context(config, tokenizer)
    limit = row_limit(training.max_length, context, is_asked="max_length" in settings.given)
    tokenizer.model_max_length = limit  # what a pipeline cuts at when it is asked to
    train = tokenize_labelled(rows.train, tokenizer, limit)
    observed = tokenize_labelled(rows.observed, tokenizer, limit) if rows.observed else None
    return LabelledData(folder, config, tokenizer, context, rows, train, observed, positive, weights)


def text_context(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest text that both model and tokenizer take, in tokens."""
    return min(context_size(config) or UNLIMITED, tokenizer.model_max_length or UNLIMITED)


def positive_class(name: str | None, labels: list[str]) -> int:
    """Number of the class that precision, recall and F1 are about; of more than two it has no meaning."""
    if name is None:
        return 1
    if len(labels) > 2:
        raise UserError(f"--positive_label {name}: there are {len(labels)} classes, F1 is the mean over them; drop it")
    if name not in labels:
        raise UserError(f"--positive_label {name}{did_you_mean(name, labels)}; the classes are {', '.join(labels)}")
    return labels.index(name)


def label_facts(settings, data: LabelledData, hardware: Hardware) -> Facts:
    """What decisions rest on, of labelled rows."""
    trust, auto = settings.training.trust_remote_code, AutoModelForSequenceClassification
    facts = model_facts(data.config, hardware, trust_remote_code=trust, auto=auto)
    lengths = [len(row["input_ids"]) for row in data.train.rows]
    return dataclasses.replace(facts, context=data.context, lengths=lengths, num_test=len(data.rows.observed or []))


def load_with_classes(run: Run) -> LoadedClassifier:
    """The weights with a head for the classes of the rows."""
    return load_with_head(run, run.data.rows.labels)


def load_with_head(run: Run, labels: list[str], problem_type: str = ONE_CLASS) -> LoadedClassifier:
    """Load the weights with a head for the classes, and freeze what is not trained."""
    model_args, data, trust = run.settings.model, run.data, run.config.trust_remote_code
    quantization = quantization_config(model_args, run.decided.dtype)
    loaded = load_classifier(
        data.folder,
        labels,
        pad_token_id=data.tokenizer.pad_token_id,
        dtype=run.decided.dtype,
        attn_implementation=model_args.attn_implementation,
        quantization_config=unquantised_head(data.folder, quantization, trust_remote_code=trust),
        trust_remote_code=trust,
        problem_type=problem_type,
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

    def __init__(self, *args, class_weights: list[float] | None = None, positive: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.positive = positive
        self.compute_metrics = self.class_measures
        self.class_weights = torch.tensor(class_weights) if class_weights else None
        self.compute_loss_func = self.row_loss
        self.model_accepts_loss_kwargs = False  # the loss is ours, the model gets no part of it
        if self.args.early_stopping_patience is not None:
            self.add_callback(EarlyStopping(self.args.early_stopping_patience))

    def row_loss(self, outputs, labels, num_items_in_batch=None):
        """Mean over rows, in nats; of an update's rows where Trainer passes their number."""
        logits = outputs["logits"].float()
        options = {"reduction": "sum"}
        if self.model.training:
            options["weight"] = None if self.class_weights is None else self.class_weights.to(logits)
            options["label_smoothing"] = self.args.label_smoothing_factor
        total = torch.nn.functional.cross_entropy(logits, labels, **options)
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    def class_measures(self, prediction) -> dict[str, float]:
        """The measures of an evaluation's logits and labels, which end the run where they can't be taken."""
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        if not np.isfinite(logits).all():
            self.stop("NaN or infinity in what the model says of held-out rows", is_done=True)
        probabilities = torch.from_numpy(logits).double().softmax(-1).numpy()
        return measure(prediction.label_ids, probabilities, positive=self.positive)

    def log(self, logs, *args, **kwargs):
        logs["num_tokens"] = self.num_tokens_seen()
        super().log(logs, *args, **kwargs)

    def num_tokens_seen(self) -> int:
        """Trainer counts them, and keeps the number in its state."""
        return self.state.num_input_tokens_seen


def build_trainer(run: Run, loaded: LoadedClassifier) -> FTClassificationTrainer:
    """The trainer on tokenized rows."""
    data = run.data
    config = classifier_peft_config(run.settings.model, loaded.model, loaded.head)
    return FTClassificationTrainer(
        model=loaded.model if config is None else get_peft_model(loaded.model, config),
        args=run.config,
        train_dataset=data.train_dataset(),
        eval_dataset=data.observed_dataset(),
        processing_class=data.tokenizer,
        class_weights=data.class_weights,
        positive=data.positive,
    )


def receipt(run: Run, trainer: FTClassificationTrainer) -> dict:
    """What is trained on, counted from the rows."""
    data = run.data
    return classification_receipt(data.train, data.rows, data.tokenizer, data.class_weights)


def first_texts(run: Run) -> tuple[list[dict], Callable] | None:
    """The first held-out texts, and what puts them into classes."""
    data, num_samples, labels = run.data, run.config.num_samples, run.data.rows.labels
    if not (data.observed and num_samples):
        return None
    questions = [{"prompt": row["text"], "reference": labels[row["label"]]} for row in data.rows.observed[:num_samples]]
    sequences = [row["input_ids"] for row in data.observed.rows[:num_samples]]

    def answer_all(model) -> list[str]:
        return [labels[row.argmax()] for row in class_probabilities(model, sequences, data.tokenizer)]

    return questions, answer_all


def next_command(run: Run) -> str:
    """What to run on the result."""
    return command("classify", "--predict", "FILE", "--model", run.output_dir)


METHOD = Method(
    prepare_labelled_data, label_facts, load_with_classes, build_trainer, receipt, describe_rows,
    format_receipt, first_texts, next_command=next_command,
)  # fmt: skip
