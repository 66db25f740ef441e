"""Decisions of a run: taken over from the run that --config names, or made on the first process and sent to all."""

import dataclasses
from collections.abc import Callable

from ftkit.config.hardware import Hardware, named_hardware, probe
from ftkit.config.run_folder import RunRecord
from ftkit.config.settings.needs import without_effect
from ftkit.runs.opening import Start
from ftkit.training.decided import Decided, Facts
from ftkit.training.first_process import on_first_process
from ftkit.training.plan import decide

# Flags beside --config OUT/run.yaml that change nothing of what is decided.
UNRELATED = {
    "output_dir", "overwrite", "plan", "hardware", "resume_from_checkpoint", "disable_tqdm", "report_to",
    "run_name", "push_to_hub",
    "hub_model_id", "hub_token", "hub_private_repo", "hub_revision", "num_samples",
    "sample_max_new_tokens", "benchmark_tasks", "benchmark_data", "benchmark_limit",
    "before_after",
}  # fmt: skip
NOT_COMPARED = frozenset({"reasons", "facts", "peak_memory_gib", "checkpoint_bytes", "num_updates"})
# Of a run that goes on: what changes no weight, what belongs to a kind of device, and what is kept where settings
# changed by permission.
FREE = frozenset({
    "activation_checkpointing", "eval_strategy", "eval_on_start", "logging_steps", "save_strategy", "save_steps",
    "save_total_limit", "saves_by_clock", "num_parameters", "peak_memory_gib", "checkpoint_bytes", "facts", "reasons",
})  # fmt: skip
OF_DEVICE = {"use_cpu", "attention", "fused_lora", "loss_head", "ddp_backend", "ddp_find_unused_parameters"}
PRECISION = {"bf16", "dtype"}
BATCH = {"packing", "block_length", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length"}
RESIZING = BATCH | {"rows", "block_size", "num_processes"}


def hardware_of(training) -> Hardware:
    """The machine that is planned for: the one at hand, unless --hardware names another."""
    return named_hardware(training.hardware) if training.hardware else probe(use_cpu=bool(training.use_cpu))


def decide_for_all(
    settings, facts_of: Callable[[Hardware], Facts], start: Start | None = None
) -> tuple[Decided, Hardware, list[str]]:
    """What is decided, for which machine, and lines about what is no longer as in the run that --config names.

    facts_of(hardware) is called in the first process alone. start: of a run that may go on with its own decisions.
    Raises UserError, in every process, for what was asked for and can't be.
    """
    return on_first_process(settings.training, lambda: make(settings, facts_of, start))


def make(settings, facts_of: Callable[[Hardware], Facts], start: Start | None) -> tuple[Decided, Hardware, list[str]]:
    """`decide_for_all` in the first process."""
    hardware, record, notes = hardware_of(settings.training), settings.record, without_effect(settings)
    facts = facts_of(hardware)
    if start and start.record and start.record.decided:
        decided, kept = carried_on(start, start.record, decide(settings, settings.given, facts), hardware)
        return decided, hardware, [*kept, *notes]
    if record is None or not record.decided:
        return decide(settings, settings.given, facts), hardware, notes
    cause = what_changed(record, hardware, facts, settings.on_line)
    if cause is None:
        return Decided(**record.decided), Hardware(**record.hardware), ["decided    as in the run of --config", *notes]
    decided = decide(settings, settings.given, facts)
    return (
        decided,
        hardware,
        [f"decided    again: {cause}", *differences(record, decided, "the run of --config"), *notes],
    )


def carried_on(start: Start, record: RunRecord, decided: Decided, hardware: Hardware) -> tuple[Decided, list[str]]:
    """The decisions of a run that goes on: its own, but for what changes no weight or changed by permission.

    record: of that run. decided: as it would be decided now. On another kind of device, what belongs to a device is as
    it is decided now.
    """
    kept = {item.name for item in dataclasses.fields(Decided)} & record.decided.keys() - FREE
    moved = record.hardware.get("device") != hardware.device
    if moved:
        kept -= OF_DEVICE
    if start.changed:
        kept = PRECISION | (set() if start.changed & RESIZING else BATCH)
        kept = kept & record.decided.keys() - start.changed
    reasons = {name: text for name, text in decided.reasons.items() if name not in kept}
    reasons |= {name: text for name, text in record.decided.get("reasons", {}).items() if name in kept}
    values = {name: record.decided[name] for name in kept}
    decided = dataclasses.replace(decided, **values, reasons=reasons)
    notes = differences(record, decided, "this run until now", FREE) if moved or start.changed else []
    if (began_on := record.hardware.get("name")) != hardware.name:
        notes.append(f"warning    bits may differ from an uninterrupted run: it began on {began_on}")
    return decided, ["decided    as when this run began", *notes]


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


def differences(record: RunRecord, decided: Decided, where: str, unseen: frozenset[str] = NOT_COMPARED) -> list[str]:
    """A line for each value that was decided otherwise in an earlier run. where: the words for that run."""
    now, before = dataclasses.asdict(decided), record.decided
    changed = [name for name in now if name not in unseen and before.get(name, now[name]) != now[name]]
    return [f"changed    {name}: {before[name]} in {where}, {now[name]} here" for name in changed]
