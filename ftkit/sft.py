"""Supervised fine-tuning of a causal language model on your own rows: all weights, LoRA, QLoRA, DoRA or a soft prompt.

    accelerate launch ftkit/sft.py --model_name_or_path M --dataset_name D --template alpaca --use_peft --output_dir OUT

`ftkit sft` and `python -m ftkit.sft` are the same. Bad rows are found before the model is loaded, the plan is printed
before the first step, and OUT/report.html tells afterwards what was trained on and what came out.
"""

import os
import sys
from pathlib import Path

from ftkit.config.flags import SFT_ARGUMENTS
from ftkit.config.parser import parse_settings, run


def main(argv: list[str]) -> None:
    """Parse the command line and run it."""
    finetune(parse(argv))


def parse(argv: list[str]):
    """The settings of a command line, as SFTSettings. TRL is imported only when the flags are right."""
    settings = parse_settings(argv, SFT_ARGUMENTS, sft_dataclasses, prog="ftkit sft")
    from ftkit.config.arguments import SFTSettings

    return SFTSettings(*settings)


def sft_dataclasses() -> tuple:
    """The dataclasses of the command line, in the order of SFTSettings."""
    from ftkit.config.arguments import DataArguments, ModelArguments, SFTArguments

    return DataArguments, ModelArguments, SFTArguments


def finetune(settings):
    """Run one supervised fine-tune into settings.training.output_dir and return the trainer.

    What the person did not set is decided from the data and the hardware, printed, and written to run.yaml.
    Raises UserError for a mistake in settings or data, before the model is loaded where possible.
    """
    from transformers import set_seed

    from ftkit.config.hardware import use_all_cores
    from ftkit.data.receipt import build_receipt, format_receipt
    from ftkit.training.checkpointing import resolve_resume, save_model_safely
    from ftkit.training.plan import plan_lines, settle_evaluation, settle_logging, settle_packing
    from ftkit.training.preparation import prepare_data, prepare_model
    from ftkit.training.quiet import quiet_libraries
    from ftkit.training.run_folder import check_output_dir

    training = settings.training
    resume = bool(training.resume_from_checkpoint)
    if os.environ.get("RANK", "0") == "0":  # the others may look when the first has already begun to write
        check_output_dir(training.output_dir, resume=resume)
    checkpoint = resolve_resume(training.output_dir, training.resume_from_checkpoint) if resume else None
    use_all_cores()
    quiet_libraries()
    data = prepare_data(settings)
    set_seed(training.seed)  # new rows of the vocabulary and adapters start from random weights
    model = prepare_model(settings, data)
    packing_reason = settle_packing(settings, model, data.train.lengths)
    settle_evaluation(settings, data.test is not None)
    trainer = build_trainer(settings, model, data)
    receipt = build_receipt(
        trainer.train_dataset,
        data.tokenizer,
        data.template,
        data.train,
        max_length=training.max_length if training.packing else None,
        batch_size=training.per_device_train_batch_size,
        padding_free=trainer.padding_free,
    )
    updates = settle_logging(settings, trainer)
    if trainer.is_world_process_zero():
        say("\n".join(plan_lines(settings, trainer, data, receipt, updates, packing_reason)))
        say(format_receipt(receipt, color=sys.stderr.isatty()))
        start_run_folder(settings, receipt)
    trainer.train(resume_from_checkpoint=checkpoint)
    save_model_safely(trainer)
    if trainer.is_world_process_zero():
        finish_run_folder(settings, trainer, receipt)
    trainer.end()
    return trainer


def build_trainer(settings, model, data):
    """The trainer on tokenized rows, with sample answers at each evaluation."""
    from datasets import Dataset

    from ftkit.model.adapters import peft_config
    from ftkit.training.sft_trainer import FTSFTTrainer

    trainer = FTSFTTrainer(
        model=model,
        args=settings.training,
        train_dataset=Dataset.from_list(data.train.rows),
        eval_dataset=Dataset.from_list(data.test.rows) if data.test else None,
        processing_class=data.tokenizer,
        peft_config=peft_config(settings.model, model, data.template.added_tokens if data.template else []),
    )
    if data.test and data.template and settings.training.num_samples:
        trainer.add_callback(sample_callback(settings.training, data))
    return trainer


def sample_callback(training, data):
    """Answers to the first test questions, at each evaluation."""
    from ftkit.data.templates import restore
    from ftkit.data.tokenization import prompt_ids
    from ftkit.evaluation.generation import generate_answers
    from ftkit.training.callbacks import SampleCallback

    questions, prompts = [], []
    for row in data.rows.test[: training.num_samples]:
        last = max(index for index, message in enumerate(row["messages"]) if message["role"] == "assistant")
        context, answer = row["messages"][:last], row["messages"][last]
        questions.append({"prompt": context[-1]["content"] if context else "", "reference": answer["content"]})
        prompts.append(prompt_ids(context, data.tokenizer, data.template))

    def answer_all(model) -> list[str]:
        answers = generate_answers(
            model,
            data.tokenizer,
            prompts,
            max_new_tokens=training.sample_max_new_tokens,
            eos_token_ids=[data.template.end_of_turn_id, data.tokenizer.eos_token_id],
        )
        return [restore(text, data.template) for text in answers]

    return SampleCallback(training.output_dir, questions, answer_all)


def start_run_folder(settings, receipt: dict) -> None:
    """Write run.yaml and receipt.json before the first step."""
    from ftkit.config.arguments import changed_settings
    from ftkit.training.run_folder import write_json, write_run_yaml

    output_dir = settings.training.output_dir
    write_run_yaml(output_dir, "sft", changed_settings(settings.data, settings.model, settings.training))
    write_json(Path(output_dir) / "receipt.json", receipt)


def finish_run_folder(settings, trainer, receipt: dict) -> None:
    """Write the loss plot, the report and the model card, and say where the result is and what to run next."""
    from ftkit.evaluation.report import write_loss_plot, write_report
    from ftkit.publish.model_card import write_model_card

    output_dir = settings.training.output_dir
    trainer.model.generation_config.save_pretrained(output_dir)
    write_loss_plot(output_dir)
    write_report(output_dir)
    write_model_card(output_dir, receipt)
    model = f"--adapter {output_dir}" if settings.model.use_peft else f"--model_name_or_path {output_dir}"
    say(f"done: {output_dir} (report.html tells the run); next: ftkit chat {model}")


def say(text: str) -> None:
    """Print to stderr, where the progress bar is."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run(main))
