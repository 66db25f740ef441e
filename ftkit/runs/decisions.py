"""Decisions of a run: taken over from the run that --config names, or made on the first process and told to all."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta

from ftkit.config.errors import UserError
from ftkit.config.hardware import Hardware, named_hardware, probe
from ftkit.config.launch import default_ddp_backend, is_first_process, world_size
from ftkit.config.run_folder import RunRecord
from ftkit.training.plan import Decided, Facts, decide

# Flags beside --config OUT/run.yaml that change nothing of what is decided.
UNRELATED = {
    "output_dir", "plan", "hardware", "resume_from_checkpoint", "disable_tqdm", "report_to", "run_name", "push_to_hub",
    "hub_model_id", "hub_token", "hub_private_repo", "hub_revision", "num_samples",
    "sample_max_new_tokens", "benchmark_tasks", "benchmark_data", "benchmark_limit",
}  # fmt: skip
NOT_COMPARED = ("reasons", "peak_memory_gib", "num_updates")


def hardware_of(training) -> Hardware:
    """The machine that is planned for: the one at hand, unless --hardware names another."""
    return named_hardware(training.hardware) if training.hardware else probe(use_cpu=bool(training.use_cpu))


def decide_for_all(settings, facts_of: Callable[[Hardware], Facts]) -> tuple[Decided, Hardware, list[str]]:
    """What is decided, for which machine, and lines about what is no longer as in the run that --config names.

    facts_of(hardware) is called in the first process alone, and only where a decision has to be made.
    Raises UserError, in every process, for what was asked for and can't be.
    """
    if world_size() == 1:
        return make(settings, facts_of)
    import torch.distributed
    from accelerate import PartialState

    training = settings.training
    on_cpu = probe(use_cpu=bool(training.use_cpu)).is_cpu
    backend = {"cpu": True, "backend": training.ddp_backend or default_ddp_backend(True)} if on_cpu else {}
    PartialState(timeout=timedelta(seconds=training.ddp_timeout), **backend)  # starts the process group
    outcome = [None]
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
    hardware, record = hardware_of(settings.training), settings.record
    if record and repeats(record, hardware, settings.on_line):
        return Decided(**record.decided), Hardware(**record.hardware), ["decided    as in the run of --config"]
    decided = decide(settings, settings.given, facts_of(hardware))
    return decided, hardware, differences(record, decided) if record else []


def repeats(record: RunRecord, hardware: Hardware, on_line: frozenset[str]) -> bool:
    """Whether a run's decisions are taken over: the same kind of machine, and no flag that changes what is asked."""
    try:
        same_kind = Hardware(**record.hardware).kind == hardware.kind
    except TypeError:  # of another version
        return False
    fields = {field.name for field in dataclasses.fields(Decided)}
    return same_kind and fields == record.decided.keys() and on_line <= UNRELATED and not record.is_edited


def differences(record: RunRecord, decided: Decided) -> list[str]:
    """A line for each value that was decided otherwise in the run that --config names."""
    now = dataclasses.asdict(decided)
    changed = [name for name in now if name not in NOT_COMPARED and record.decided.get(name, now[name]) != now[name]]
    return [f"changed    {name}: {record.decided[name]} in the run of --config, {now[name]} here" for name in changed]
