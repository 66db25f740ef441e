"""What changed since a run was stopped is refused by name, or passes because it cannot matter: the bits are the same."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftkit.config.errors import UserError
from ftkit.runs import identity
from ftkit.runs.recipes import load_recipe

WORDS = [f"{first}{second}" for first in ("ba", "co", "du", "fe") for second in "lmnp"]
EVALUATED = ("--eval_strategy", "steps", "--eval_steps", "2", "--num_samples", "1", "--sample_max_new_tokens", "2")
BASE = {
    "max_steps": "4", "save_strategy": "steps", "save_steps": "2", "lora_dropout": "0.1", "template": "alpaca",
    "bf16": "false", "max_length": "256", "weight_decay": "0.01",
}  # fmt: skip


class Stopped:
    """A LoRA run of four updates that was stopped after the second, with its rows and its base, all in one folder."""

    def __init__(self, folder: Path):
        self.folder, self.rows, self.model, self.out = folder, folder / "rows", folder / "model", folder / "out"
        self.settings, self.flags = dict(BASE), ["--use_peft", "--disable_tqdm", *EVALUATED]

    def argv(self) -> list[str]:
        """The command line, with the paths as they are now."""
        named = {"model_name_or_path": self.model, "dataset_name": self.rows, "output_dir": self.out} | self.settings
        return [*(str(part) for name, value in named.items() for part in (f"--{name}", value)), *self.flags]

    def run(self, command: str = "sft"):
        """Give the command."""
        recipe = load_recipe(command)
        return recipe.train(recipe.parse(self.argv()))

    def edit(self, name: str, change) -> None:
        """Write a text file again after a change of its text."""
        path = self.folder / name
        path.write_text(change(path.read_text()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_folder, unfinish):
    """The folder of a stopped run, and the weights of the same run without a stop."""
    case = Stopped(tmp_path_factory.mktemp("stopped"))
    case.rows.mkdir()
    rows = [{"instruction": "Write in upper case.", "input": word, "output": word.upper()} for word in WORDS]
    for name, part in (("train", rows[:12]), ("test", rows[12:])):
        (case.rows / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    shutil.copytree(tiny_folder, case.model)
    case.run()
    weights = load_file(case.out / "adapter_model.safetensors")
    unfinish(case.out, "checkpoint-4")
    return case.folder, weights


@pytest.fixture
def stopped(whole, tmp_path) -> Stopped:
    """A copy of it in another folder, which may be changed."""
    return Stopped(Path(shutil.copytree(whole[0], tmp_path / "moved")))


def setting(name: str, value: str):
    """A setting with another value."""
    return lambda run: run.settings.update({name: value})


def flag(*flags: str):
    """More flags."""
    return lambda run: run.flags.extend(flags)


def without(name: str):
    """A setting that is no longer given."""
    return lambda run: run.settings.pop(name)


def edited(name: str, old: str, new: str):
    """A file of rows or of the base in which a text is replaced."""
    return lambda run: run.edit(name, lambda text: text.replace(old, new, 1))


def reordered(run):
    run.edit("rows/train.jsonl", lambda text: "".join(reversed(text.splitlines(keepends=True))))


def shortened(run):
    run.edit("rows/train.jsonl", lambda text: "".join(text.splitlines(keepends=True)[:-1]))


def lengthened(run):
    run.edit("rows/train.jsonl", lambda text: text + text.splitlines(keepends=True)[0])


def moved_weight(run):
    path = run.model / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] += 1e-3
    save_file(weights, path, {"format": "pt"})


def one_token_more(run):
    run.edit("model/tokenizer.json", lambda text: json.dumps(with_token(json.loads(text), "<new>")))


def with_token(tokenizer: dict, content: str) -> dict:
    """A tokenizer.json with another added token."""
    added = tokenizer["added_tokens"]
    number = 1 + max([*tokenizer["model"]["vocab"].values(), *(token["id"] for token in added)])
    return tokenizer | {"added_tokens": [*added, added[-1] | {"id": number, "content": content}]}


def lower_case(run):
    run.edit("model/tokenizer.json", lambda text: json.dumps(json.loads(text) | {"normalizer": {"type": "Lowercase"}}))


def new_adapter(run):
    run.settings.pop("lora_dropout")
    run.settings["adapter"] = str(run.out / "checkpoint-2")


# name: (what changes, the name under which it is refused)
REFUSED = {
    "seed": (setting("seed", "7"), "seed: 42 then, 7 now"),
    "data seed": (setting("data_seed", "7"), "data_seed: not given then, 7 now"),
    "learning rate": (setting("learning_rate", "1e-3"), "learning_rate: 0.002 then, 0.001 now"),
    "schedule": (setting("lr_scheduler_type", "cosine"), 'lr_scheduler_type: "linear" then, "cosine" now'),
    "warm-up": (setting("warmup_steps", "2"), "warmup_steps: "),
    "steps": (setting("max_steps", "6"), "max_steps: 4 then, 6 now"),
    "steps to epochs": (without("max_steps"), "max_steps: 4 then, -1 now"),
    "batch": (setting("per_device_train_batch_size", "2"), "per_device_train_batch_size: 8 then, 2 now"),
    "accumulation": (setting("gradient_accumulation_steps", "2"), "gradient_accumulation_steps: 1 then, 2 now"),
    "weight decay": (setting("weight_decay", "0.1"), "weight_decay: 0.01 then, 0.1 now"),
    "weight decay dropped": (without("weight_decay"), "weight_decay: 0.01 then, 0.0 now"),
    "clipping": (setting("max_grad_norm", "0.5"), "max_grad_norm: 1.0 then, 0.5 now"),
    "optimizer": (setting("optim", "sgd"), "optim: "),
    "beta": (setting("adam_beta2", "0.95"), "adam_beta2: 0.999 then, 0.95 now"),
    "epsilon": (setting("adam_epsilon", "1e-6"), "adam_epsilon: 1e-08 then, 1e-06 now"),
    "noise": (setting("neftune_noise_alpha", "5"), "neftune_noise_alpha: not given then, 5"),
    "data skip": (flag("--ignore_data_skip"), "ignore_data_skip: false then, true now"),
    "loss": (setting("loss_type", "dft"), "loss_type: "),
    "loss head": (flag("--no_compact_loss_head"), "compact_loss_head: not given then, false now"),
    "fused layers": (flag("--fused_lora"), "fused_lora: false then, true now"),
    "packing": (setting("packing", "false"), "packing: true then, false now"),
    "length": (setting("max_length", "200"), "max_length: 256 then, 200 now"),
    "length dropped": (without("max_length"), "max_length: 256 then, "),
    "precision": (setting("dtype", "bfloat16"), 'dtype: "float32" then, "bfloat16" now'),
    "autocast": (setting("bf16", "true"), "bf16: false then, true now"),
    "attention": (setting("attn_implementation", "eager"), "attn_implementation: not given then, "),
    "rank": (setting("lora_r", "4"), "lora_r: 16 then, 4 now"),
    "alpha": (setting("lora_alpha", "64"), "lora_alpha: 32 then, 64 now"),
    "dropout": (setting("lora_dropout", "0.2"), "lora_dropout: 0.1 then, 0.2 now"),
    "dropout dropped": (without("lora_dropout"), "lora_dropout: 0.1 then, 0.0 now"),
    "target modules": (flag("--lora_target_modules", "q_proj", "v_proj"), "lora_target_modules: "),
    "rank-stabilized": (flag("--use_rslora"), "use_rslora: false then, true now"),
    "DoRA": (flag("--use_dora"), "use_dora: false then, true now"),
    "all weights": (lambda run: (run.flags.remove("--use_peft"), run.settings.pop("lora_dropout")), "use_peft: true"),
    "another adapter": (new_adapter, "adapter: changed"),
    "untrained rows": (setting("untrained_rows", "keep"), 'untrained_rows: "refuse" then, "keep" now'),
    "rows in another order": (reordered, "rows: changed"),
    "a row edited": (edited("rows/train.jsonl", "BAL", "BAM"), "rows: changed"),
    "a row more": (lengthened, "rows: changed"),
    "a row less": (shortened, "rows: changed"),
    "a held-out row edited": (edited("rows/test.jsonl", "FEL", "FEM"), "held_out_rows: changed"),
    "template": (setting("template", "phi3"), "template: changed"),
    "vocabulary": (one_token_more, "tokenizer: changed"),
    "normalizer": (lower_case, "tokens: changed"),
    "base weights": (moved_weight, "base: changed"),
    "base configuration": (edited("model/config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'), "base: changed"),
}  # fmt: skip

# What can't matter: the same bits.
PASSES = {
    "moved": lambda run: None,
    "the defaults said": flag("--seed", "42", "--max_grad_norm", "1.0", "--lora_r", "16"),
    "the decisions said": flag("--learning_rate", "2e-3", "--packing", "true"),
    "logging": flag("--logging_strategy", "steps", "--logging_steps", "3"),
    "checkpoints kept": flag("--save_total_limit", "1"),
    "saving more often": setting("save_steps", "1"),
    "no evaluation": lambda run: run.flags.__setitem__(slice(2, None), ["--eval_strategy", "no"]),
    "evaluating more often": flag("--eval_steps", "1"),
    "batch of the evaluation": flag("--per_device_eval_batch_size", "1"),
    "samples": flag("--num_samples", "3"),
    "the bar": lambda run: run.flags.remove("--disable_tqdm"),
    "workers": flag("--dataloader_num_workers", "1"),
    "recomputed activations": flag("--activation_checkpointing"),
    "cut rows allowed": flag("--max_truncated_share", "1"),
    "from run.yaml": None,
}
BY_DEFAULT = {
    "seed", "learning rate", "rank", "rows in another order", "a held-out row edited", "normalizer", "base weights",
    "moved", "samples",
}  # fmt: skip


def few_by_default(cases) -> list:
    """The names of cases, all but a few of them marked slow."""
    return [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in cases]


@pytest.mark.parametrize("name", few_by_default(REFUSED))
def test_a_change_that_matters_is_refused_by_name_before_anything_is_written(name, stopped):
    change, message = REFUSED[name]
    change(stopped)
    before = {path: path.stat().st_mtime_ns for path in stopped.out.rglob("*") if path.name != "lock"}
    with pytest.raises(UserError) as error:
        stopped.run()
    assert message in str(error.value) and "\n" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in stopped.out.rglob("*") if path.name != "lock"} == before


@pytest.mark.parametrize("name", few_by_default(PASSES))
def test_a_change_that_cannot_matter_passes_with_the_same_bits(name, stopped, whole):
    if PASSES[name]:
        PASSES[name](stopped)
        trainer = stopped.run()
    else:
        recipe = load_recipe("sft")
        for key in ("model", "rows", "out"):  # run.yaml names the paths of the first place
            assert (stopped.folder / key).exists()
        paths = {"model_name_or_path": stopped.model, "dataset_name": stopped.rows, "output_dir": stopped.out}
        flags = [str(part) for key, value in paths.items() for part in (f"--{key}", value)]
        trainer = recipe.train(recipe.parse(["--config", str(stopped.out / "run.yaml"), *flags]))
    assert trainer.state.global_step == 4
    found = load_file(stopped.out / "adapter_model.safetensors")
    assert found.keys() == whole[1].keys() and all(torch.equal(found[key], whole[1][key]) for key in found)


def test_another_command_is_refused_by_name_and_cannot_be_allowed(stopped):
    pairs = [{"prompt": word, "chosen": word.upper(), "rejected": word} for word in WORDS]
    (stopped.rows / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (stopped.rows / "test.jsonl").unlink()
    stopped.flags = ["--use_peft", "--disable_tqdm"]
    with pytest.raises(UserError, match="command: ftkit sft then, ftkit dpo now") as error:
        stopped.run("dpo")
    assert "--allow_changes" not in str(error.value) and "--overwrite starts over" in str(error.value)


def test_another_number_of_processes_is_refused_by_name(stopped, monkeypatch):
    monkeypatch.setattr(identity, "world_size", lambda: 2)
    with pytest.raises(UserError, match="num_processes: 1 then, 2 now"):
        stopped.run()


def test_other_versions_and_threads_are_one_warning(stopped, capsys):
    manifest = stopped.out / "checkpoint-2/manifest.json"
    from ftkit.training.checkpoints import manifest_text

    content = json.loads(manifest.read_text())
    content["versions"]["torch"], content["num_threads"] = "1.0", 64
    manifest.write_text(manifest_text(content))
    assert stopped.run().state.global_step == 4
    printed = [line for line in capsys.readouterr().err.split("\n") if line.startswith("warning    bits may differ")]
    assert len(printed) == 1 and "torch 1.0 then" in printed[0] and "64 threads then" in printed[0]


def test_the_tables_hold_at_least_43_changes():
    assert len(REFUSED) + len(PASSES) + 3 >= 43
