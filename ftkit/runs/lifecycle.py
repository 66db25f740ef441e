"""The one story of a training run: opened, data made ready, decided, announced, trained, measured, closed."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset
from transformers import set_seed

from ftkit.config.disk import writing
from ftkit.config.errors import UserError
from ftkit.config.files import check_folder, write_json
from ftkit.config.foreign import settings_that_libraries_take
from ftkit.config.hardware import use_all_cores
from ftkit.config.launch import check_world, is_first_process
from ftkit.config.paste import command
from ftkit.config.quiet import quiet_libraries
from ftkit.config.reporting import check_report_to
from ftkit.config.run_folder import RunRecord, write_run_yaml
from ftkit.config.terminal import has_color
from ftkit.data.templates.lock import write_lock
from ftkit.data.tokens.receipt_text import run_text
from ftkit.evaluation.results import BEFORE, FILE
from ftkit.model.adapters.files import base_of_adapter, record_base
from ftkit.model.adapters.methods import count_parameters
from ftkit.model.loading import public_name_of
from ftkit.publish.hub.hub import check_push, push_folder
from ftkit.runs.benchmark import benchmark_after, benchmark_before, check_benchmark
from ftkit.runs.decisions import decide_for_all
from ftkit.runs.golden import Before, golden_after, golden_before
from ftkit.runs.opening import Start, begin, check_state, close_folder, identity_of, output_folder, take_folder
from ftkit.training.batch_totals import BatchTotals
from ftkit.training.callbacks import SampleCallback
from ftkit.training.checkpointing import save_model_safely
from ftkit.training.first_process import on_first_process
from ftkit.training.method import HeldOut, Method, Run
from ftkit.training.plan import num_updates
from ftkit.training.plan_text import more_line, plan_lines
from ftkit.training.preparation import with_base_of_adapter
from ftkit.training.sharing import is_sharded
from ftkit.training.space import check_room
from ftkit.training.stopping import stoppable

STREAM_COUNTS = ("num_rows", "num_truncated_rows", "num_answers_cut", "num_end_tokens_lost", "num_neutralised_rows")


@stoppable
def train(command: str, method: Method, find_held_out: Callable[[], HeldOut] | None, settings):
    """Run into settings.training.output_dir and return the trainer; None with --plan, and where the run is finished.

    find_held_out: imports how held-out rows are measured. Called where they are, for metrics rest on libraries
    (evaluate, scikit-learn) that take 40 MiB of the memory that training may need.
    Raises UserError for a mistake in settings or data, before the model is loaded where possible.
    """
    settings = with_base_of_adapter(settings)
    check_run(settings.training)
    with output_folder(settings.training):
        data = method.prepare(settings)
        start = on_first_process(settings.training, lambda: begin(command, settings, data))
        if start.is_finished:
            if is_first_process():
                say(f"finished: {settings.training.output_dir} holds this run already; --overwrite starts over")
            return None
        run = decide_run(command, method, settings, data, start)
        if settings.training.plan:
            say("\n".join(plan_lines(run, method, None)))
            return None
        on_first_process(settings.training, lambda: check_room(run))
        return train_run(run, method, find_held_out, start)


def train_run(run: Run, method: Method, find_held_out: Callable[[], HeldOut] | None, start: Start):
    """What comes after the decisions: the model loaded, announced, trained, measured and saved; the trainer."""
    model = method.load(run)
    with settings_that_libraries_take():
        trainer = method.build_trainer(run, model)
    trainer.run_identity, trainer.takes_new_settings = identity_of(start), bool(start.changed)
    trainer.base_name, trainer.base_revision = base_name_of(run.settings.model), run.settings.model.model_revision
    receipt = method.receipt(run, trainer)
    announce(run, method, trainer, receipt, start)
    golden = golden_before(run, trainer)
    if find_held_out and is_sharded(trainer):
        find_held_out = None
        say_why_left_out(trainer)
    if find_held_out and trainer.eval_dataset is not None:
        before = find_held_out().before
        if before and not on_first_process(run.config, lambda: is_measured(run, start)):
            before(run, trainer)
    trainer.train(resume_from_checkpoint=start.checkpoint)
    lines = find_held_out().after(run, trainer) if find_held_out else []
    if lines and trainer.is_world_process_zero():
        say("\n".join(lines))
    if method.finish:
        receipt |= method.finish(run, trainer)
    close_receipt(run, trainer, receipt)
    close_run(run, method, trainer, receipt, start, golden)
    return trainer


def is_measured(run: Run, start: Start) -> bool:
    """Whether a run that goes on has measured the held-out rows before it began."""
    return bool(start.checkpoint) and not start.changed and (Path(run.output_dir) / BEFORE / FILE).is_file()


def check_run(training) -> None:
    """Check what can be checked before data and weights are read.

    Raises UserError for a --report_to without its package, an output folder that holds something else or can't be
    written, processes that did not come, a repository that can't be written, and benchmark tasks that are not there.
    """
    check_report_to(training.report_to)
    check_world(use_cpu=bool(training.use_cpu))
    if is_first_process() and not training.plan:  # the others may look when the first has already begun to write
        check_folder(training.output_dir)
        check_state(training)
        if training.push_to_hub:
            check_push(hub_repository(training), training.hub_token, private=bool(training.hub_private_repo))
    check_benchmark(training)
    use_all_cores()
    quiet_libraries()
    set_seed(training.seed)  # new rows of the vocabulary and adapters start from random weights


def decide_run(command: str, method: Method, settings, data, start: Start) -> Run:
    """The run with all that is decided, and the configuration its trainer takes."""
    decided, hardware, notes = decide_for_all(settings, lambda machine: method.facts(settings, data, machine), start)
    if settings.training.plan:  # maybe for a machine that TRL's configuration would refuse here
        config = settings.training
    else:
        names = {field.name for field in dataclasses.fields(settings.training)}
        config = settings.training.configured(decided.trainer_settings(names))
    return Run(command, settings, decided, hardware, data, config, decided.num_updates, notes=[*start.notes, *notes])


def announce(run: Run, method: Method, trainer, receipt: dict, start: Start) -> None:
    """What comes before the first step: plan and receipt printed and written, samples, --benchmark_tasks before."""
    data, config = run.data, run.config
    trainer.saves_by_clock = run.decided.saves_by_clock
    run.num_trained, run.num_parameters = count_parameters(trainer.model)
    if isinstance(trainer.train_dataset, Dataset):
        run.num_sequences = len(trainer.train_dataset)
        if not config.dataloader_drop_last:
            run.num_updates = num_updates(run.num_sequences, config)
    if asked := method.questions and method.questions(run):
        trainer.add_callback(SampleCallback(run.output_dir, *asked, in_all_processes=is_sharded(trainer)))
    if getattr(data, "stream", None) is not None:
        data.stream_counts.clear()  # of the rows that were read for the plan and the receipt
    if "end_of_turn_id" in receipt:
        trainer.batch_totals = BatchTotals(receipt["end_of_turn_id"])
    trainer.data = data  # whose rows are named where the run stops
    trainer.template_lock = start.template_lock
    if trainer.is_world_process_zero():
        if start.checkpoint:
            run.notes.append(f"resumed    at update {start.step} of {run.num_updates}, from {start.checkpoint}")
        take_folder(start, config)
        say("\n".join(plan_lines(run, method, receipt)))
        if method.show:
            say("\n".join(filter(None, [method.show(receipt, color=has_color(sys.stderr)), more_line(run)])))
        write_plan(run, trainer, receipt)
    benchmark_before(run, trainer, data.tokenizer, data.folder)


def write_plan(run: Run, trainer, receipt: dict) -> None:
    """Write run.yaml, receipt.json, template.lock.json and, for an adapter, base.json."""
    decided, hardware = dataclasses.asdict(run.decided), dataclasses.asdict(run.hardware)
    write_run_yaml(run.output_dir, RunRecord(run.command, run.settings.asked(), decided, hardware))
    write_json(Path(run.output_dir) / "receipt.json", receipt)
    write_lock(run.output_dir, trainer.template_lock)
    model = run.settings.model
    if model.use_peft:
        labels = list(receipt.get("classes", receipt.get("labels", [])))
        name, in_4bit = model.model_name_or_path, model.load_in_4bit
        record_base(run.output_dir, run.data.folder, name, load_in_4bit=in_4bit, labels=labels)


def base_name_of(model) -> str | None:
    """What an adapter's configuration calls its base: as it was called, never where it was converted to."""
    if model.adapter:
        return base_of_adapter(model.adapter)
    return public_name_of(str(model.model_name_or_path)) if model.use_peft else None


def say_why_left_out(trainer) -> None:
    """Say why held-out rows are not measured one by one."""
    if trainer.is_world_process_zero():
        say("no results.json: a held-out row is scored by one process, and none holds whole weights; see metrics.jsonl")


def close_receipt(run: Run, trainer, receipt: dict) -> None:
    """Write into receipt.json which tensors have moved, and what the batches of the whole run held."""
    if trainer.moved.report:
        receipt["moved"] = trainer.moved.report
    if trainer.batch_totals:
        counts = run.data.stream_counts
        totals = trainer.batch_totals.as_dict(trainer.accelerator)
        receipt["run"] = {**{name: counts[name] for name in STREAM_COUNTS if name in counts}, **totals}
    if trainer.is_world_process_zero():
        write_json(Path(run.output_dir) / "receipt.json", receipt)
        if trainer.moved.report:
            say(trainer.moved.line())
        if trainer.batch_totals:
            say(f"{'scored' if receipt.get('is_scored') else 'trained':<11}{run_text(receipt['run'])}")


def close_run(run: Run, method: Method, trainer, receipt: dict, start: Start, golden: Before | None) -> None:
    """Save the result, describe it, push it if asked, and say where it is and what to run next."""
    save_model_safely(trainer)
    golden_after(run, trainer, golden)
    if prove := method.prove:
        proof = on_first_process(run.config, lambda: prove(run, trainer))
        if trainer.is_world_process_zero():
            say(proof)
    verdict = benchmark_after(run, trainer, trained_rows(run.data))
    if trainer.is_world_process_zero():
        output_dir = run.output_dir
        if generation_config := getattr(trainer.model, "generation_config", None):
            with writing(Path(output_dir) / "generation_config.json"):
                generation_config.save_pretrained(output_dir)
        write_pages(output_dir, receipt, run.command)
        close_folder(start, run.config)
        if verdict:
            say(verdict)
        say(f"done: {output_dir} (report.html shows the run); next: {next_command(run, method)}")
        if run.settings.training.push_to_hub:
            push_result(run.settings.training)
    trainer.end()


def write_pages(output_dir: str, receipt: dict, command: str) -> None:
    """Write loss.png, report.html and the card; imported late, as `train` says of metrics."""
    from ftkit.evaluation.pages.report import write_loss_plot, write_report
    from ftkit.publish.card.model_card import write_model_card

    write_loss_plot(output_dir)
    write_report(output_dir)
    write_model_card(output_dir, receipt, command)


def trained_rows(data) -> list[dict]:
    """The rows or documents that were trained on, as far as they were read whole; questions are searched in them."""
    return getattr(data, "documents", None) or getattr(getattr(data, "rows", None), "train", [])


def next_command(run: Run, method: Method) -> str:
    """What to run on the result: a chat where there is a template to talk by, else the fine-tuning that gives one."""
    if method.next_command:
        return method.next_command(run)
    model = ("--adapter" if run.settings.model.use_peft else "--model", run.output_dir)
    if run.data.tokenizer.chat_template:
        return command("chat", *model)
    return command("sft", *model, "--dataset_name", "D", "--template", "alpaca", "--output_dir", "OUT")


def hub_repository(training) -> str:
    """The repository of --push_to_hub: --hub_model_id, or the name of the output folder."""
    return training.hub_model_id or Path(training.output_dir).resolve().name


def push_result(training) -> None:
    """Push the output folder as `ftkit push` does; raise UserError, naming the command to repeat, if that fails."""
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
        raise UserError(f"{error} (the run is saved: {command('push', folder, repository)})") from error
    say(result.report())


def say(text: str) -> None:
    """Print to stderr, where the progress bar is."""
    print(text, file=sys.stderr, flush=True)
