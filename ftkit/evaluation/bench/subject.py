"""What is benchmarked, loaded as it is asked for, and the processes that share the work."""

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from ftkit.config.hardware import probe
from ftkit.evaluation.bench.units import Subject
from ftkit.inference.asking import PLAIN, ModelSettings
from ftkit.inference.engine import Engine
from ftkit.model.adapters.files import WEIGHTS_FILE, base_fingerprint
from ftkit.model.loading import check_vocabulary

SCORE_LIBRARIES = (
    "ftkit", "torch", "transformers", "tokenizers", "peft", "datasets", "evaluate", "sacrebleu", "rouge_score",
)  # fmt: skip


def load_subject(asked: ModelSettings, *, max_batch_tokens: int | None = None, batch_size: int | None = None) -> tuple:
    """(Subject, what results.json says of it).

    Raises UserError for what can't be loaded, and a template that renders other tokens than in training.
    """
    engine = Engine.load(dataclasses.replace(asked, dtype=asked.dtype or measuring_dtype()))
    if not asked.adapters:
        check_vocabulary(engine.model, engine.voice().tokenizer)
    subject = Subject(engine, max_batch_tokens=max_batch_tokens, batch_size=batch_size)
    return subject, identity(engine, asked)


def measuring_dtype() -> str:
    """The precision that models are measured in where none is asked for."""
    return "float32" if probe().device == "cpu" else "bfloat16"


def identity(engine: Engine, asked: ModelSettings) -> dict:
    """What results.json says of the model."""
    voice, adapter = engine.voice(), next(iter(asked.adapters.values()), None)
    found = {
        "name": asked.model_name_or_path or engine.folder,
        "adapter": adapter,
        "dtype": asked.dtype or measuring_dtype(),
        "load_in_4bit": asked.load_in_4bit,
        "ftgpt": asked.ftgpt,
        "weights_hash": base_fingerprint(engine.folder),
    }
    if adapter:
        found["adapter_hash"] = hashlib.sha256((Path(voice.folder) / WEIGHTS_FILE).read_bytes()).hexdigest()
    found["template"] = voice.template.name if voice.template else PLAIN
    found["template_hash"] = voice.template.fingerprint if voice.template else None
    return found


@contextmanager
def open_world() -> Iterator:
    """The processes that a launcher started, as a World; closed at the end. They meet over gloo, whatever computes."""
    from ftkit.config.launch import check_world, world_size
    from ftkit.evaluation.bench.bench import World

    check_world(use_cpu=True)
    if world_size() == 1:
        yield World()
        return
    import torch.distributed
    from accelerate import PartialState

    state = PartialState(cpu=True, backend="gloo", timeout=timedelta(days=7))  # it knows mpirun, torch does not
    try:
        yield World(state.process_index, state.num_processes, torch.distributed.barrier)
    finally:
        state.destroy_process_group()
        PartialState._reset_state()
