"""Before and after by itself: --benchmark_tasks of the training commands.

    ftkit sft --model_name_or_path M --dataset_name D --benchmark_tasks knowledge,forgetting --output_dir OUT

OUT/benchmark/before and OUT/benchmark/after are runs of `ftkit bench`; OUT/benchmark/before-own-template is the model
as it came, where a task asks through a template and the model has another one.
"""

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from ftkit.config.errors import UserError
from ftkit.config.launch import sharding
from ftkit.config.versions import versions

FOLDER = "benchmark"
AFTER, OWN = "after", "before-own-template"


def check_benchmark(training) -> None:
    """Raise UserError for tasks, or rows of them, that are not there, before anything is loaded."""
    if not training.benchmark_tasks:
        return
    if sharding() or training.fsdp:
        raise UserError("--benchmark_tasks needs whole weights in each process; run ftkit bench on the result instead")
    if training.benchmark_limit is not None and training.benchmark_limit < 1:
        raise UserError(f"--benchmark_limit is {training.benchmark_limit}; give at least 1")
    asked_tasks(training)


def asked_tasks(training) -> list:
    """The tasks with their items."""
    from ftkit.evaluation.bench.choosing import choose_tasks

    args = {"tasks": training.benchmark_tasks, "num_fewshot": None, "limit": training.benchmark_limit}
    return choose_tasks(SimpleNamespace(**args, task_data=asked_data(training)))


def asked_data(training) -> list[str]:
    """TASK=PATH of each task whose rows are named."""
    return [part for part in (training.benchmark_data or "").split(",") if part]


def benchmark_before(run, trainer, tokenizer, base_folder: str | None = None) -> None:
    """Benchmark the model that is about to be trained; in the template of `base_folder`, too, where that is another.

    tokenizer: with the template that is trained.
    """
    from ftkit.inference.engine import template_of
    from ftkit.model.loading import load_tokenizer

    training = run.config
    if not training.benchmark_tasks:
        return
    chosen = asked_tasks(training)
    trained = template_of(copy.deepcopy(tokenizer), "auto", may_lack=True)
    measure(run, trainer, chosen, "before", tokenizer, trained)
    templated = [one for one in chosen if one.task.template]  # the others are asked without any, the same for both
    if base_folder and templated:
        original = load_tokenizer(base_folder, trust_remote_code=training.trust_remote_code)
        own = template_of(original, "auto", may_lack=True)
        if own and original.chat_template != tokenizer.chat_template:
            measure(run, trainer, templated, OWN, original, own)


def benchmark_after(run, trainer, rows: Sequence[dict] = ()) -> str | None:
    """Benchmark what was trained; the verdict as text in the first process, None without --benchmark_tasks.

    rows: that were trained on, in which the tasks' questions are searched.
    """
    training = run.config
    if not training.benchmark_tasks:
        return None
    from ftkit.evaluation.results import read_items
    from ftkit.evaluation.verdict.contamination import leak_warnings
    from ftkit.evaluation.verdict.page import write_verdict_page
    from ftkit.evaluation.verdict.pairing import read_run
    from ftkit.evaluation.verdict.text import verdict_text
    from ftkit.evaluation.verdict.verdict import compare_runs
    from ftkit.inference.engine import template_of

    tokenizer = trainer.processing_class
    chosen = asked_tasks(training)
    trained = template_of(copy.deepcopy(tokenizer), "auto", may_lack=True)
    measure(run, trainer, chosen, AFTER, tokenizer, trained)
    if not trainer.is_world_process_zero():
        return None
    folder = Path(training.output_dir) / FOLDER
    befores = [read_run(path) for path in sorted(folder.glob("before*")) if (path / "results.json").is_file()]
    forgetting = [one.name for one in chosen if one.task.name == "forgetting"]
    after = read_run(folder / AFTER)
    verdict = compare_runs(befores, after, forgetting=forgetting if len(chosen) > 1 else [])
    items = {name: read_items(after.path, task) for name, task in after.results.tasks.items()}
    verdict.warnings += leak_warnings(list(rows), items)
    write_verdict_page(folder / "verdict.html", verdict)
    return verdict_text(verdict)


def base_name(settings) -> str:
    """What training starts from: a named model, or a new one of random weights."""
    return settings.model.model_name_or_path or "random weights"


def measure(run, trainer, chosen: list, name: str, tokenizer, template) -> None:
    """One benchmark run of the trainer's model into OUT/benchmark/NAME."""
    import torch.distributed

    from ftkit.evaluation.bench.bench import World, forget_other_run, identity_of, run_benchmark
    from ftkit.evaluation.bench.choosing import task_data
    from ftkit.evaluation.bench.subject import SCORE_LIBRARIES
    from ftkit.evaluation.bench.units import Subject
    from ftkit.evaluation.results import Results
    from ftkit.inference.asking import PLAIN
    from ftkit.inference.engine import Engine

    settings, training, model = run.settings, run.config, trainer.accelerator.unwrap_model(trainer.model)
    subject = Subject(Engine.of(model, tokenizer, template))
    is_after = name == AFTER
    template_name = "auto" if name == OWN else Path(getattr(settings.data, "template", "auto")).stem
    told = {
        "name": training.output_dir if is_after and not settings.model.use_peft else base_name(settings),
        "adapter": training.output_dir if is_after and settings.model.use_peft else None,
        "dtype": str(model.dtype).removeprefix("torch."),
        "load_in_4bit": settings.model.load_in_4bit,
        "template": template_name if template else PLAIN,
        "template_hash": template.fingerprint if template else None,
    }
    if trainer.is_world_process_zero():
        told |= weights_of(settings, model, trainer.state.global_step if is_after else None)
    world = World()
    if torch.distributed.is_initialized():
        world = World(torch.distributed.get_rank(), torch.distributed.get_world_size(), torch.distributed.barrier)
    asked = {"limit": training.benchmark_limit, "task_data": task_data(asked_data(training))}
    results = Results(told, {}, asked, versions(SCORE_LIBRARIES), training.seed)
    folder = Path(training.output_dir) / FOLDER / name
    if is_after and trainer.is_world_process_zero():
        forget_other_run(folder, identity_of(results, chosen))  # of weights that were trained on since
    run_benchmark(subject, chosen, results, folder, world)


def weights_of(settings, model, step: int | None) -> dict:
    """Hashes of the weights that are benchmarked, by which a run is known. step: None for those before training."""
    from ftkit.model.adapters.files import WEIGHTS_FILE, base_fingerprint

    out, is_adapter = Path(settings.training.output_dir), settings.model.use_peft
    folder = model.name_or_path if step is None or is_adapter else str(out)
    found = {"weights_hash": base_fingerprint(folder) if folder and Path(folder).is_dir() else None}
    if step is None:
        return found
    if is_adapter:
        found["adapter_hash"] = hashlib.sha256((out / WEIGHTS_FILE).read_bytes()).hexdigest()
    return found | {"step": step}
