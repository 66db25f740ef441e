"""Decisions of a run: taken over from the run that --config names, or made on the first process and told to all."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta

from ftkit.config.errors import UserError
from ftkit.config.hardware import Hardware, named_hardware, probe
from ftkit.config.launch import has_accelerator, is_first_process, world_size
from ftkit.config.run_folder import RunRecord
from ftkit.config.settings.needs import without_effect
from ftkit.training.decided import Decided, Facts
from ftkit.training.plan import decide

# Flags beside --config OUT/run.yaml that change nothing of what is decided.
UNRELATED = {
    "output_dir", "plan", "hardware", "resume_from_checkpoint", "disable_tqdm", "report_to", "run_name", "push_to_hub",
    "hub_model_id", "hub_token", "hub_private_repo", "hub_revision", "num_samples",
    "sample_max_new_tokens", "benchmark_tasks", "benchmark_data", "benchmark_limit",
}  # fmt: skip
NOT_COMPARED = ("reasons", "facts", "peak_memory_gib", "num_updates")


def hardware_of(training) -> Hardware:
    """The machine that is planned for: the one at hand, unless --hardware names another."""
    return named_hardware(training.hardware) if training.hardware else probe(use_cpu=bool(training.use_cpu))


def decide_for_all(settings, facts_of: Callable[[Hardware], Facts]) -> tuple[Decided, Hardware, list[str]]:
    """What is decided, for which machine, and lines about what is no longer as in the run that --config names.

    facts_of(hardware) is called in the first process alone.
    Raises UserError, in every process, for what was asked for and can't be.
    """
    if world_size() == 1:
        return make(settings, facts_of)
    import torch.distributed
    from accelerate import PartialState

    training = settings.training
    on_cpu = training.use_cpu or not has_accelerator()  # not probed: each process would measure on the first GPU
    backend = {"cpu": True, "backend": training.ddp_backend or "gloo"} if on_cpu else {}
    PartialState(timeout=timedelta(seconds=training.ddp_timeout), **backend)  # starts the process group
    outcome: list = [None]
    if is_first_process():
        try:
            outcome = [make(settings, facts_of)]
        except UserError as error:
            outcome = [error]
    torch.distributed.broadcast_object_list(outcome)
    if isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0]


def make(settings, facts_of: Callable[[Hardware], Facts]) -> tuple[Decided, Hardware, list[str]]:
    """`decide_for_all` in one process."""
    hardware, record, notes = hardware_of(settings.training), settings.record, without_effect(settings)
    facts = facts_of(hardware)
    if record is None or not record.decided:
        return decide(settings, settings.given, facts), hardware, notes
    cause = what_changed(record, hardware, facts, settings.on_line)
    if cause is None:
        return Decided(**record.decided), Hardware(**record.hardware), ["decided    as in the run of --config", *notes]
    decided = decide(settings, settings.given, facts)
    return decided, hardware, [f"decided    again: {cause}", *differences(record, decided), *notes]


def what_changed(record: RunRecord, hardware: Hardware, facts: Facts, on_line: frozenset[str]) -> str | None:
    """Why a run's decisions are not taken over; None for the same settings, kind of machine, rows and model."""
    parts = ((Decided, record.decided), (Hardware, record.hardware))
    if any({item.name for item in dataclasses.fields(part)} != recorded.keys() for part, recorded in parts):
        return "the run of --config is of another version"
    if record.is_edited:
        return "settings in the file of --config were edited"
    if flags := sorted(on_line - UNRELATED):
        return f"--{flags[0]} is given"
    if Hardware(**record.hardware).kind != hardware.kind:
        return f"the run of --config was on {Hardware(**record.hardware).name}"
    return None if record.decided["facts"] == facts.digest() else "rows or model are not those of the run of --config"


def differences(record: RunRecord, decided: Decided) -> list[str]:
    """A line for each value that was decided otherwise in the run that --config names."""
    now, before = dataclasses.asdict(decided), record.decided
    changed = [name for name in now if name not in NOT_COMPARED and before.get(name, now[name]) != now[name]]
    return [f"changed    {name}: {before[name]} in the run of --config, {now[name]} here" for name in changed]
