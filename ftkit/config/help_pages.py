"""The help of the training commands: what matters on a page, every setting with `--help all`, some with `--help WORD`.

Nothing is probed and no library imported: texts and defaults are read from the source (`ftkit.config.flags`). What is
decided from the rows and the machine is shown as its rule.
"""

import itertools
import re
import textwrap
from collections.abc import Iterable

from ftkit.config.errors import UserError
from ftkit.config.flags import UNKNOWN, Setting
from ftkit.config.words import SAME, canonical, right_flag

WIDTH, INDENT, TEXT_COLUMN = 118, " " * 6, 34
# What a page shows: by group, the setting, what stands for its value, and its text where the library's is too long.
SHOWN = {
    "data": (
        ("dataset_name", "D", "rows: a file, a folder, a bundled name or a Hub id"),
        ("dataset_format", "NAME", "what the columns mean; auto looks at their names"),
        ("columns", "NAME=COLUMN,...", "columns with names of their own"),
        ("template", "NAME|FILE", "prompt template; auto: the tokenizer's own"),
        ("test_size", "N", "rows held out, a share or a number, where there is no test split"),
        ("max_length", "N", "longest row in tokens, within the model's context"),
        ("block_size", "N", "tokens of a block: documents are joined and cut here"),
        ("packing", "", "several rows in one sequence; on where rows stay isolated"),
        ("mine_negatives", "N", "passages that are near a question and not its own, for each pair"),
        ("negatives_from", "X", "index that they are mined from, in place of the rows' passages"),
        ("class_names", "NAME ...", "the classes in order; default: the names found, sorted"),
    ),
    "model": (
        ("model_name_or_path", "M", "Hub id, folder, .gguf file, or a bundled name: base, smollm2"),
        ("teacher_model_name_or_path", "M", "who is learnt from: a Hub id, a folder, a bundled name, an adapter"),
        ("tokenizer", "FOLDER", "of a new model, which is made where no --model is given"),
        ("preset", "NAME", "shape of a new model: llama or gpt2"),
        ("hidden_size", "N", "width of a new model; see --help new model"),
        ("num_frozen_layers", "N", "freeze the embeddings and this many first layers"),
        ("pooling", "NAME", "what the vector is: mean, or the first token's state (cls)"),
        ("num_trained_layers", "N", "train the head and this many last layers; 0: the head alone"),
    ),
    "adapter": (
        ("use_peft", "", "train a LoRA adapter instead of all weights"),
        ("lora_r", "N", "rank of the adapter"),
        ("lora_alpha", "N", "scale of the adapter, divided by its rank"),
        ("lora_target_modules", "NAME ...", "layers that get one"),
        ("load_in_4bit", "", "QLoRA: the frozen base in 4 bits"),
        ("adapter", "FOLDER", "go on training this adapter"),
    ),
    "sampling": (
        ("rewards", "NAME ...", "what an answer is rewarded for, such as exact_answer; see --help rewards"),
        ("num_generations", "N", "answers to each prompt; default: 8, of rloo 4"),
        ("max_completion_length", "N", "longest sampled answer, in tokens"),
        ("num_mini_batches", "N", "updates in a pass over the answers of a rollout"),
        ("value_trunk", "NAME", "layers under the value head: shared or separate"),
    ),
    "training": (
        ("num_train_epochs", "X", "passes over the rows"),
        ("max_steps", "N", "updates, in place of passes"),
        ("max_tokens", "X", "budget of tokens, in place of passes, such as 1.5e7"),
        ("learning_rate", "X", ""),
        ("per_device_train_batch_size", "N", "rows per device at once"),
        ("gradient_accumulation_steps", "N", "batches per update"),
        ("loss_type", "NAME ...", "loss; its values: --help loss_type"),
        ("kl_coef", "X", "weight of the KL to the start in the rewards"),
        ("beta", "X", "how far the model may move from where it started"),
        ("answers", "NAME", "whose answers: rows, student, or teacher, who writes them"),
        ("teacher_top_k", "N", "likeliest tokens that are kept; 0: all, each step"),
        ("hard_label_weight", "X", "share of the rows' own answers in the loss"),
        ("mini_batch_size", "N", "pairs in memory at once, where a batch is larger"),
        ("matryoshka_dims", "N ...", "lengths that a vector may be cut to"),
        ("center_rewards_coefficient", "X", "weight of the mean score in the loss, which keeps it near 0"),
        ("seed", "N", "seed of the order, of dropout and of new weights"),
    ),
    "saving": (
        ("output_dir", "OUT", "folder of the run; the same command goes on where it stopped"),
        ("save_steps", "N", "updates between checkpoints"),
        ("overwrite", "", "start over"),
        ("push_to_hub", "", "publish the result, as --hub_model_id"),
    ),
    "measuring": (
        ("eval_strategy", "NAME", "when held-out rows are scored"),
        ("num_samples", "N", "held-out questions answered at each evaluation"),
        ("benchmark_tasks", "T,U", "tasks of ftkit bench asked before and after, with a verdict"),
        ("report_to", "NAME", "tensorboard, wandb, ..."),
        ("plan", "", "print every decision and why, and stop before training"),
    ),
}  # fmt: skip
OF_CLASSIFIERS = ("adapter", "num_frozen_layers", "benchmark_tasks")
LEFT_OUT = {  # of those shown: what a command refuses, or has no room for
    "ftkit classify": OF_CLASSIFIERS, "ftkit reward": OF_CLASSIFIERS, "ftkit grpo": ("loss_type",),
    "ftkit embed": (*OF_CLASSIFIERS, "load_in_4bit"),
    "ftkit distill": ("num_frozen_layers", "gradient_accumulation_steps"),
}  # fmt: skip
ROWS_AND_MACHINE = "decided from rows and machine"
# What a run decides where nobody chose, by rule instead of a default.
RULES = {
    "per_device_train_batch_size": ROWS_AND_MACHINE,
    "gradient_accumulation_steps": ROWS_AND_MACHINE,
    "activation_checkpointing": ROWS_AND_MACHINE,
    "packing": ROWS_AND_MACHINE,
    "eval_packing": ROWS_AND_MACHINE,
    "attn_implementation": ROWS_AND_MACHINE,
    "compact_loss_head": ROWS_AND_MACHINE,
    "fused_lora": ROWS_AND_MACHINE,
    "dtype": "decided from method and machine",
    "bf16": "on where the machine is faster with it",
    "use_cpu": "on where there is no GPU",
    "ddp_backend": "decided from the machine",
    "ddp_find_unused_parameters": "decided from the number of processes",
    "learning_rate": "by what is trained",
    "max_length": "within the model's context",
    "eval_strategy": "epoch where rows are held out",
    "eval_on_start": "on where rows are held out",
    "logging_steps": "10, and less in a short run",
    "save_strategy": "steps; as --eval_strategy where the best weights are kept",
    "save_steps": "a tenth of the run, or ten minutes",
    "save_total_limit": "2 where checkpoints are ftkit's to decide",
    "lr_scheduler_kwargs": "by --lr_scheduler_type",
    "logging_nan_inf_filter": "off: a loss that is not finite ends the run",
    "dataloader_pin_memory": "on where there is a GPU",
    "pad_to_multiple_of": "auto",
    "include_num_input_tokens_seen": "as the method needs it",
    "optim": "adamw_torch_fused",
}


def help_word(argv: list[str]) -> str | None:
    """The word after --help or -h, empty where there is none; None where no help is asked for."""
    for position, token in enumerate(argv):
        if token in ("-h", "--help"):
            return " ".join(itertools.takewhile(lambda word: not word.startswith("-"), argv[position + 1 :]))
        if token.startswith("--help="):
            return token.partition("=")[2]
    return None


def trainer_page(prog: str, about: str, settings: dict[str, Setting], word: str) -> str:
    """What `--help`, `--help all` or `--help WORD` of a training command prints.

    prog: "ftkit sft". about: the text of its entry script, whose indented lines are the examples.
    Raises UserError for a word that no setting's name or text holds.
    """
    if word == "all":
        return "\n".join(all_lines(settings.values()))
    if word:
        return "\n".join(matching_lines(prog, settings, word))
    lines = [
        f"usage: {prog} --SETTING VALUE ... [--config FILE.yaml]",
        "",
        *textwrap.wrap(about.strip().split("\n\n")[0], WIDTH),
        *example_lines(about),
    ]
    for group, rows in SHOWN.items():
        names = settings.keys() - LEFT_OUT.get(prog, ())
        known = [(settings[name], sign, text) for name, sign, text in rows if name in names]
        lines += ["", f"{group}:", *(line for row in known for line in page_lines(*row))] if known else []
    return "\n".join(
        [
            *lines,
            "",
            "--config FILE.yaml sets any of them, and flags override it; OUT/run.yaml repeats a run.",
            f"{prog} --help all shows all {len(settings)} settings, --help WORD those about a word.",
        ]
    )


def example_lines(about: str) -> list[str]:
    """The commands in a module's text, which start their lines, under a heading; a long one goes on below itself."""
    commands = re.findall(r"^ *((?:ftkit|accelerate launch) .*(?:\n +--.*)*)$", about, flags=re.MULTILINE)
    lines = [line.strip() for each in commands for line in each.split("\n")]
    return ["", "examples:", *(f"  {'  ' if line.startswith('--') else ''}{line}" for line in lines)] if lines else []


def page_lines(setting: Setting, sign: str, text: str) -> list[str]:
    """One setting of a page: its flag, and its text beside it."""
    name = SAME[setting.name] if setting.name.endswith("model_name_or_path") else setting.name
    flag = f"  --{name} {sign}".rstrip()
    text = "" if setting.owner == ("ftkit", "DistillArguments") and setting.name == "beta" else text
    text = text or setting.help[0].lower() + setting.help[1:].rstrip(".").replace(". Default:", "; default:")
    first, *others = textwrap.wrap(text + default_text(setting, text), WIDTH - TEXT_COLUMN)
    beside = f"{flag:<{TEXT_COLUMN - 1}} {first}"
    return [beside, *(" " * TEXT_COLUMN + line for line in others)]


def default_text(setting: Setting, text: str) -> str:
    """What a setting is where nobody chose it, in brackets: a rule, or the default where it says something."""
    if re.search(r"default:|decided|;? on where|within the", text, flags=re.IGNORECASE):
        return ""
    if setting.name in RULES:
        return f" ({RULES[setting.name]})"
    default = fixed_default(setting)
    return "" if default is None else f" (default: {default})"


def fixed_default(setting: Setting) -> str | None:
    """The default as it is typed; None where it says nothing, or a rule stands in its place."""
    value = setting.default
    if setting.name in RULES or value is UNKNOWN or value is None or value is False or value in ("", [], -1):
        return None
    if value is True:
        return "on"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def all_lines(settings: Iterable[Setting]) -> list[str]:
    """Every setting with its text, under the class that defines it; ftkit's come first."""
    groups: dict[tuple[str, str], list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.owner, []).append(setting)
    lines = []
    for package, name in sorted(groups, key=lambda owner: owner[0] != "ftkit"):
        lines += [f"{name} of {package}:" if package != "ftkit" else f"{name}:"]
        for setting in groups[package, name]:
            lines += entry_lines(setting)
        lines.append("")
    return lines[:-1]


def entry_lines(setting: Setting) -> list[str]:
    """A setting, its values and its whole text."""
    few = setting.choices and len(setting.choices) <= 8
    sign = "|".join(setting.choices) if few else value_sign(setting)
    off = f", --no_{setting.name}" if setting.is_switch and setting.default is not False else ""
    text = setting.help + default_text(setting, setting.help)
    lines = textwrap.wrap(text, WIDTH - len(INDENT))
    return [f"  --{setting.name} {sign}".rstrip() + off, *(INDENT + line for line in lines)]


def value_sign(setting: Setting) -> str:
    """What stands for the value of a setting."""
    if setting.is_switch:
        return ""
    signs = {"int": "N", "float": "X", "list[float]": "X ...", "list[str]": "TEXT ...", "str": "TEXT"}
    return next((sign for name, sign in signs.items() if name in setting.types), "JSON")


def matching_lines(prog: str, settings: dict[str, Setting], word: str) -> list[str]:
    """The settings whose name or text holds a word, or for which people type it."""
    typed = re.sub(r"[\s-]+", "_", word.strip("-").lower())
    meant = [] if typed in settings else re.findall(r"--(\w+)", right_flag(typed, settings))
    names = {typed, *(canonical(name, settings) for name in meant)}
    found = [
        one
        for name, one in settings.items()
        if typed in name or name in names or typed.replace("_", " ") in one.help.lower()
    ]
    if not found:
        raise UserError(f'no setting of {prog} is about "{word}"; see {prog} --help all')
    return [line for setting in found for line in entry_lines(setting)]
