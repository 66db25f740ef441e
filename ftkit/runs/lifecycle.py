"""What the launchable trainers share: settings, the opening of a run, what it says at the start, and its end."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.parser import parse_settings
from ftkit.runs.benchmark import benchmark_after, benchmark_before, check_benchmark

STREAM_COUNTS = ("num_rows", "num_truncated_rows", "num_answers_cut", "num_end_tokens_lost", "num_neutralised_rows")


def parse_run(argv: list[str], sources: tuple, dataclasses, prog: str, kind=None):
    """The settings of a command line, as RunSettings. TRL is imported only when flags and local rows are right.

    kind: the rows that the command takes, a RowKind; None leaves them to be checked when they are loaded.
    """
    from ftkit.data.rows.early_check import check_early

    early_check = (lambda given: check_early(given, kind)) if kind else None
    settings = parse_settings(argv, sources, dataclasses, prog, early_check)
    from ftkit.config.settings.common import RunSettings

    return RunSettings(*settings)


def open_run(settings) -> str | None:
    """Check what can be checked before data and weights are read; return the checkpoint to resume from, or None.

    Raises UserError for a used or missing output folder, processes that did not come, a repository that can't be
    written, and an adapter that can't be trained on.
    """
    from transformers import set_seed

    from ftkit.config.hardware import use_all_cores
    from ftkit.config.launch import check_world
    from ftkit.config.quiet import quiet_libraries
    from ftkit.config.run_folder import check_output_dir
    from ftkit.training.checkpointing import resolve_resume
    from ftkit.training.preparation import settle_adapter

    training = settings.training
    check_world(use_cpu=training.use_cpu)
    resume = bool(training.resume_from_checkpoint)
    if is_first_process():  # the others may look when the first has already begun to write
        check_output_dir(training.output_dir, resume=resume)
        if training.pushes_result:
            from ftkit.publish.hub.hub import check_push

            check_push(hub_repository(training), training.hub_token, private=bool(training.hub_private_repo))
    checkpoint = resolve_resume(training.output_dir, training.resume_from_checkpoint) if resume else None
    settle_adapter(settings)
    check_benchmark(training)
    use_all_cores()
    quiet_libraries()
    set_seed(training.seed)  # new rows of the vocabulary and adapters start from random weights
    return checkpoint


def is_first_process() -> bool:
    """Whether this process is the one that writes, of all that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def hub_repository(training) -> str:
    """The repository of --push_to_hub: --hub_model_id, or the name of the output folder."""
    return training.hub_model_id or Path(training.output_dir).resolve().name


def add_samples(trainer, settings, data) -> None:
    """Have the first test questions answered at each evaluation."""
    from ftkit.data.templates.templates import restore
    from ftkit.data.tokens.tokenization import prompt_ids
    from ftkit.inference.end_tokens import end_token_ids
    from ftkit.inference.generation import generate_answers
    from ftkit.training.callbacks import SampleCallback

    training = settings.training
    if not (data.test and data.template and training.num_samples):
        return
    asked = [question_and_answer(row) for row in data.rows.test[: training.num_samples]]
    questions = [{"prompt": context[-1]["content"] if context else "", "reference": text} for context, text in asked]
    prompts = [prompt_ids(context, data.tokenizer, data.template) for context, _ in asked]

    def answer_all(model) -> list[str]:
        answers = generate_answers(
            model,
            data.tokenizer,
            prompts,
            max_new_tokens=training.sample_max_new_tokens,
            eos_token_ids=end_token_ids(data.tokenizer, data.template, model.generation_config.eos_token_id),
        )
        return [restore(text, data.template) for text in answers]

    trainer.add_callback(SampleCallback(training.output_dir, questions, answer_all))


def question_and_answer(row: dict) -> tuple[list[dict], str]:
    """A row's conversation up to its last answer, and that answer; of a pair the chosen one."""
    if "chosen" in row:
        return row["prompt"], row["chosen"]
    last = max(index for index, message in enumerate(row["messages"]) if message["role"] == "assistant")
    return row["messages"][:last], row["messages"][last]["content"]


def announce(command: str, settings, trainer, data, receipt: dict, reasons: dict[str, str] | None = None) -> None:
    """What comes before the first step: plan and receipt told and written, and the benchmark of --benchmark_tasks."""
    from ftkit.training.batch_totals import BatchTotals
    from ftkit.training.plan import settle_logging

    updates = settle_logging(settings, trainer)
    if getattr(data, "stream", None) is not None:
        data.stream_counts.clear()  # of the rows that were read for the plan and the receipt
        trainer.batch_totals = BatchTotals(receipt["end_of_turn_id"])
    if trainer.is_world_process_zero():
        write_plan(command, settings, trainer, data, receipt, updates, reasons or {})
    benchmark_before(settings, trainer, data.tokenizer, data.folder)


def write_plan(command: str, settings, trainer, data, receipt: dict, updates, reasons: dict[str, str]) -> None:
    """Print plan and receipt; write run.yaml, receipt.json, template.lock.json and base.json."""
    from ftkit.config.files import write_json
    from ftkit.config.run_folder import write_run_yaml
    from ftkit.config.settings.common import changed_settings
    from ftkit.data.templates.lock import make_lock, write_lock
    from ftkit.data.tokens.labelled import format_classification_receipt
    from ftkit.data.tokens.receipt_text import format_receipt
    from ftkit.model.adapters.files import record_base
    from ftkit.training.plan import plan_lines

    say("\n".join(plan_lines(settings, trainer, data, receipt, updates, reasons)))
    describe = format_classification_receipt if "classes" in receipt else format_receipt
    say(describe(receipt, color=sys.stderr.isatty()))
    template = getattr(data, "template", None)
    output_dir = settings.training.output_dir
    write_run_yaml(output_dir, command, changed_settings(settings.data, settings.model, settings.training))
    write_json(Path(output_dir) / "receipt.json", receipt)
    trainer.template_lock = make_lock(data.tokenizer, template.name if template else None)
    write_lock(output_dir, trainer.template_lock)
    if settings.model.use_peft:
        model = settings.model
        labels = list(receipt.get("classes", []))
        record_base(output_dir, data.folder, model.model_name_or_path, load_in_4bit=model.load_in_4bit, labels=labels)


def close_stream(settings, trainer, data, receipt: dict) -> None:
    """Write into receipt.json, as "stream", what was really read and trained on in all; nothing without a stream."""
    from ftkit.config.files import write_json

    if not trainer.batch_totals:
        return
    totals = trainer.batch_totals.as_dict(trainer.accelerator)
    read = {name: data.stream_counts[name] for name in STREAM_COUNTS if name in data.stream_counts}
    receipt["stream"] = {**read, **totals}
    if trainer.is_world_process_zero():
        write_json(Path(settings.training.output_dir) / "receipt.json", receipt)
        say(
            "stream: "
            + ", ".join(f"{value:,} {name.removeprefix('num_')}" for name, value in receipt["stream"].items())
        )


def close_run(
    command: str, settings, trainer, receipt: dict, *, next_command: str | None = None, rows: Sequence[dict] = ()
) -> None:
    """Save the result, describe it, push it if asked, and say where it is and what to run next, a chat if not told.

    rows: that were trained on, as far as they were read whole; the benchmark's questions are searched in them.
    """
    from ftkit.evaluation.pages.report import write_loss_plot, write_report
    from ftkit.publish.card.model_card import write_model_card
    from ftkit.training.checkpointing import save_model_safely

    save_model_safely(trainer)
    verdict = benchmark_after(settings, trainer, rows)
    if trainer.is_world_process_zero():
        training = settings.training
        output_dir = training.output_dir
        if generation_config := getattr(trainer.model, "generation_config", None):
            generation_config.save_pretrained(output_dir)
        write_loss_plot(output_dir)
        write_report(output_dir)
        write_model_card(output_dir, receipt, command)
        model = f"--adapter {output_dir}" if settings.model.use_peft else f"--model_name_or_path {output_dir}"
        tuning = f"ftkit sft {model} --dataset_name D --template alpaca --output_dir OUT"
        more = f"ftkit chat {model}" if trainer.processing_class.chat_template else tuning
        if verdict:
            say(verdict)
        say(f"done: {output_dir} (report.html tells the run); next: {next_command or more}")
        if training.pushes_result:
            push_result(training)
    trainer.end()


def push_result(training) -> None:
    """Push the output folder as `ftkit push` does; raise UserError, naming the command to repeat, if that fails."""
    from ftkit.publish.hub.hub import push_folder

    repository = hub_repository(training)
    try:
        result = push_folder(
            training.output_dir,
            repository,
            private=bool(training.hub_private_repo),
            token=training.hub_token,
            revision=training.hub_revision,
        )
    except UserError as error:
        folder = training.output_dir
        raise UserError(f"{error} (the run is saved: ftkit push {folder} {repository})") from error
    say(result.report())


def say(text: str) -> None:
    """Print to stderr, where the progress bar is."""
    print(text, file=sys.stderr, flush=True)
