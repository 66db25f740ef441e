"""Train a text classifier on your labelled rows: all weights, LoRA, the last layers or the head; decoders and encoders.

    accelerate launch ftkit/classify.py --model_name_or_path M --dataset_name spam --use_peft --output_dir OUT

`ftkit classify` and `python -m ftkit.classify` are the same. Rows are `text` and `label`. Held-out rows are measured
with intervals, and OUT/report.html shows which classes are confused and how far the probabilities can be trusted.
`ftkit classify --predict FILE --model_name_or_path OUT` puts a file's texts into classes.
"""

import sys

from ftkit.config.flags import CLASSIFY_ARGUMENTS
from ftkit.config.parser import run
from ftkit.data.rows.kinds import LABELLED
from ftkit.runs.lifecycle import announce, close_run, open_run, parse_run, say


def main(argv: list[str]) -> None:
    """Parse the command line and run it."""
    if any(token.split("=")[0] == "--predict" for token in argv):
        from ftkit.commands.classify_file import main as predict

        return predict(argv)
    classify(parse(argv))


def parse(argv: list[str]):
    """The settings of a command line, as RunSettings."""
    return parse_run(argv, CLASSIFY_ARGUMENTS, classify_dataclasses, prog="ftkit classify", kind=LABELLED)


def classify_dataclasses() -> tuple:
    """The dataclasses of the command line, in the order of RunSettings."""
    from ftkit.config.settings.classify import (
        ClassificationArguments,
        ClassificationDataArguments,
        ClassifierModelArguments,
    )

    return ClassificationDataArguments, ClassifierModelArguments, ClassificationArguments


def classify(settings):
    """Train one classifier into settings.training.output_dir and return the trainer.

    Raises UserError for a mistake in settings or data, before the model is loaded where possible.
    """
    from ftkit.data.tokens.labelled import classification_receipt
    from ftkit.training.methods.classify import prepare_classifier, prepare_labelled_data
    from ftkit.training.plan import settle_evaluation

    checkpoint = open_run(settings)
    data = prepare_labelled_data(settings)
    loaded = prepare_classifier(settings, data)
    settle_evaluation(settings, data.observed is not None)
    trainer = build_trainer(settings, loaded, data)
    receipt = classification_receipt(data.train, data.rows, data.tokenizer, data.class_weights)
    announce("classify", settings, trainer, data, receipt)
    trainer.train(resume_from_checkpoint=checkpoint)
    evaluate_and_write(settings, trainer, data)
    close_run("classify", settings, trainer, receipt, next_command=next_command(settings))
    return trainer


def build_trainer(settings, loaded, data):
    """The trainer on tokenized rows, with some predicted classes shown at each evaluation."""
    from peft import get_peft_model

    from ftkit.model.classifier import classifier_peft_config
    from ftkit.training.methods.classify import FTClassificationTrainer

    config = classifier_peft_config(settings.model, loaded.model, loaded.head)
    trainer = FTClassificationTrainer(
        model=loaded.model if config is None else get_peft_model(loaded.model, config),
        args=settings.training,
        train_dataset=data.train_dataset(),
        eval_dataset=data.observed_dataset(),
        processing_class=data.tokenizer,
        compute_metrics=class_measures_of(data),
        class_weights=data.class_weights,
    )
    add_predictions(trainer, settings, data)
    return trainer


def class_measures_of(data):
    """What Trainer calls with an evaluation's logits and labels."""
    import torch

    from ftkit.evaluation.held_out.classification import measure

    def compute(prediction) -> dict[str, float]:
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        probabilities = torch.from_numpy(logits).double().softmax(-1).numpy()
        return measure(prediction.label_ids, probabilities, positive=data.positive)

    return compute


def add_predictions(trainer, settings, data) -> None:
    """Have the first held-out texts put into classes at each evaluation."""
    from ftkit.model.classifier import class_probabilities
    from ftkit.training.callbacks import SampleCallback

    num_samples, labels = settings.training.num_samples, data.rows.labels
    if not (data.observed and num_samples):
        return
    rows = data.rows.observed[:num_samples]
    questions = [{"prompt": row["text"], "reference": labels[row["label"]]} for row in rows]
    sequences = [row["input_ids"] for row in data.observed.rows[:num_samples]]

    def answer_all(model) -> list[str]:
        return [labels[row.argmax()] for row in class_probabilities(model, sequences, data.tokenizer)]

    trainer.add_callback(SampleCallback(settings.training.output_dir, questions, answer_all))


def evaluate_and_write(settings, trainer, data) -> None:
    """Measure the test rows (or the validation rows where there are none), print it, and write it into OUT."""
    from ftkit.evaluation.held_out.classification import evaluation_lines, write_evaluation
    from ftkit.model.classifier import class_probabilities

    rows = data.rows.test or data.rows.validation
    if not rows or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return
    texts = [row["text"] for row in rows]
    sequences = data.tokenizer(texts, truncation=True, max_length=settings.training.max_length)["input_ids"]
    probabilities = class_probabilities(
        trainer.model, sequences, data.tokenizer, settings.training.per_device_eval_batch_size
    )
    if trainer.is_world_process_zero():
        split = "test" if data.rows.test else "validation"
        evaluation = write_evaluation(settings, rows, probabilities.numpy(), data.rows, split, data.positive)
        say("\n".join(evaluation_lines(evaluation)))


def next_command(settings) -> str:
    """What to run on the result."""
    return f"ftkit classify --predict FILE --model_name_or_path {settings.training.output_dir}"


if __name__ == "__main__":
    sys.exit(run(main))
