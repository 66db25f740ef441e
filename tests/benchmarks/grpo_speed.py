"""C11: sampled tokens per second, and the time of an update, of `ftkit grpo` beside TRL's GRPOTrainer as it comes.

    python tests/benchmarks/run.py --only C11

Both train SmolLM2-135M, all weights in float32, on the same prompts and reward; an update samples eight answers to a
prompt of 64 tokens each and learns from them once. Nothing ends an answer early, so both do the same work. TRL's trainer
recomputes activations by default, which ftkit decides by the memory there is: TRL is measured with and without.
"""

import json
import tempfile
import time
from pathlib import Path

import measuring
from measuring import Options

GROUP = 8  # answers of an update, all to one prompt
WORDS = ("a cat", "the garden", "a river", "the old stone", "a cloud", "two candles", "the window", "a letter")
OURS, THEIRS, PLAIN = "ftkit grpo", "TRL GRPOTrainer", "TRL, activations kept"
OWN = "def letters(completions, **columns):\n    return [float(text.count('e')) for text in completions]\n"


def letters(completions, **columns) -> list[float]:
    """The reward of both."""
    return [float(text.count("e")) for text in completions]


def our_trainer(model: str, num_tokens: int, folder: Path):
    """The trainer of the command, made by its own steps."""
    from ftkit.runs.lifecycle import decide_run
    from ftkit.runs.opening import begin
    from ftkit.runs.recipe import found
    from ftkit.runs.recipes import load_recipe

    (folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": f"Write about {one}."}) + "\n" for one in WORDS))
    (folder / "own.py").write_text(OWN)
    recipe = load_recipe("grpo")
    settings = recipe.parse([
        "--model_name_or_path", model, "--dataset_name", str(folder / "rows.jsonl"), "--template", "plain", "--rewards",
        f"{folder / 'own.py'}:letters", "--max_completion_length", str(num_tokens), "--per_device_train_batch_size",
        str(GROUP), "--gradient_accumulation_steps", "1", "--bf16", "false", "--dtype", "float32", "--use_cpu",
        "--output_dir", str(folder / "ours"), "--disable_tqdm", "--start_anyway",
    ])  # fmt: skip
    method = found(recipe.method)
    data = method.prepare(settings)
    run = decide_run("grpo", method, settings, data, begin("grpo", settings, data))
    trainer = method.build_trainer(run, method.load(run))
    trainer.eos_token_ids = []
    return trainer


def trl_trainer(model: str, num_tokens: int, folder: Path, **settings):
    """TRL's trainer by itself, in float32; bf16, its default, is some fifty times slower on this processor."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from ftkit.model.loading import local_model_folder

    path = local_model_folder(model)
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, trust_remote_code=False),
        reward_funcs=letters,
        args=GRPOConfig(
            output_dir=str(folder / "trl"), max_completion_length=num_tokens, per_device_train_batch_size=GROUP,
            gradient_accumulation_steps=1, bf16=False, use_cpu=True, report_to="none", **settings,
        ),
        train_dataset=Dataset.from_list([{"prompt": f"Write about {one}.\n"} for one in WORDS]),
        processing_class=AutoTokenizer.from_pretrained(path, trust_remote_code=False),
    )  # fmt: skip
    trainer.generation_config.eos_token_id = None
    return trainer


class Side:
    """A trainer whose updates are made one by one. sampling: the seconds that each spent on its answers."""

    def __init__(self, trainer):
        self.trainer, self.batches, self.sampling = trainer, iter(()), []
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        sample = trainer._generate_single_turn

        def timed(*args, **kwargs):
            start = time.perf_counter()
            answers = sample(*args, **kwargs)
            self.sampling.append(time.perf_counter() - start)
            return answers

        trainer._generate_single_turn = timed

    def update(self) -> None:
        """Sample, reward, learn."""
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.trainer.get_train_dataloader())
            batch = next(self.batches)
        self.trainer.training_step(self.trainer.model, batch, None)
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()
        self.trainer.state.global_step += 1


def report(key: str, options: Options) -> str:
    """The section of RESULTS.md."""
    from ftkit.model.loading import find_bundled_smollm2

    model, num_tokens = ("base", 8) if options.quick else (str(find_bundled_smollm2()), 64)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sides = {
            OURS: Side(our_trainer(model, num_tokens, folder)),
            THEIRS: Side(trl_trainer(model, num_tokens, folder)),
            PLAIN: Side(trl_trainer(model, num_tokens, folder, gradient_checkpointing=False)),
        }
        times = measuring.alternate({name: side.update for name, side in sides.items()}, options.rounds)
    drawn = {name: side.sampling[1:] for name, side in sides.items()}  # the first is the warm-up
    rows = [
        [
            name, measuring.spread([GROUP * num_tokens / one for one in drawn[name]]),
            "1" if name == OURS else str(measuring.paired_ratio(drawn[name], drawn[OURS])),
            measuring.spread(times[name], digits=2),
            "1" if name == OURS else str(measuring.paired_ratio(times[name], times[OURS])),
        ]
        for name in sides
    ]  # fmt: skip
    header = [
        "",
        "sampled tokens/s",
        "ftkit samples x times as fast",
        "seconds of an update",
        "ftkit updates x times as fast",
    ]
    return (
        f"{'The bundled base' if options.quick else 'SmolLM2-135M-Instruct'}, float32, {GROUP} answers of {num_tokens} "
        "tokens an update, all weights trained; medians with ranges, geometric means of paired ratios with 95 % "
        f"intervals. Sampling is counted in every round, also in those repeated.\n\n{measuring.table(header, rows)}"
    )
