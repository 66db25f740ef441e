"""The command `ftkit`: lists the commands and hands over to one of them; imports nothing heavy itself."""

import importlib
import sys

from ftkit import __version__
from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.parser import run
from ftkit.runs.recipes import TRAINERS

# name: (module with main(argv), what it does)
COMMANDS = {
    "try": ("ftkit.commands.demo", "fine-tune on bundled or your own rows, and see before and after"),
    "sft": TRAINERS["sft"],
    "dpo": TRAINERS["dpo"],
    "classify": TRAINERS["classify"],
    "data": ("ftkit.commands.data.data", "check, show, convert, clean, split and compare rows"),
    "pretrain": TRAINERS["pretrain"],
    "tokenizer": ("ftkit.commands.tokenizer", "train a byte-level BPE tokenizer, or take GPT-2's"),
    "generate": ("ftkit.commands.generate", "answer prompts, from the command line or a file"),
    "chat": ("ftkit.commands.chat", "talk to a model, or to adapters that you swap"),
    "bench": ("ftkit.commands.bench", "benchmark a model: multiple choice, generation, perplexity; resumes by itself"),
    "compare": ("ftkit.commands.compare", "the verdict: did it get better, and what did it forget"),
    "judge": ("ftkit.commands.judge", "let a model judge answers: scores, or pairs in both orders"),
    "arena": ("ftkit.commands.arena", "rank models from votes, and turn votes into training rows"),
    "adapters": ("ftkit.commands.adapters.adapters", "list, inspect and merge adapters"),
    "export": ("ftkit.commands.export", "plain folder, .gguf or Ollama model for other engines, proven equal"),
    "check": ("ftkit.commands.check", "kill a short piece of a run, and see that it goes on, bit for bit"),
    "push": ("ftkit.commands.push", "publish a run or an export on the Hub, by an allow-list"),
}


def usage() -> str:
    """The text of `ftkit --help`."""
    lines = [f"  ftkit {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            f"ftkit {__version__}: fine-tune a GPT you can read, and prove every step",
            "",
            *lines,
            "",
            "ftkit COMMAND --help shows the settings of a command; --config FILE.yaml sets those of a training.",
        ]
    )


def dispatch(argv: list[str]) -> None:
    """Run the command that `argv` names."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if argv[0] == "--version":
        print(f"ftkit {__version__}")
        return
    name, *rest = argv
    if name not in COMMANDS:
        raise UserError(f'unknown command "{name}"{did_you_mean(name, COMMANDS)}; ftkit --help lists the commands')
    importlib.import_module(COMMANDS[name][0]).main(rest)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(dispatch))


if __name__ == "__main__":
    main()
