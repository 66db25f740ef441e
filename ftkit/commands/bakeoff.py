"""A bake-off on your rows: prompt, few-shot, retrieval, soft prompt, LoRA, QLoRA, all weights, RAFT; which one to take.

ftkit bakeoff rows.csv --model smollm2 --output_dir runs/bakeoff
ftkit bakeoff rows.csv --docs manual/ --model smollm2 --budget 10min --output_dir runs/bakeoff
ftkit bakeoff rows.csv --model smollm2 --skip qlora,full --sft_config lora=lora.yaml --output_dir runs/bakeoff
"""

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.data.reading.read_as import add_reading_flags, add_turns_flag


def main(argv: list[str]) -> None:
    """Parse the command line, run the bake-off, print the table and the recommendation."""
    args = parser().parse_args(argv)
    asked = asked_of(args)
    from ftkit.config.terminal import resumable
    from ftkit.evaluation.bakeoff.text import table_lines
    from ftkit.runs.bakeoff.bakeoff import PAGE, run_bakeoff
    from ftkit.runs.bakeoff.work import Workers

    with resumable(), Workers() as work:
        standing, recommendation = run_bakeoff(asked, work)
    print("\n".join([*table_lines(standing, asked.price_per_hour), "", recommendation.sentence]))
    best = standing.best.contestant.name
    other = best if best != "prompt" else standing.entries[-1].contestant.name
    pair = asked.folder / "prompt", asked.folder / other
    print(f"done: {asked.folder / PAGE}; next: {command('compare', *pair)}")


def parser() -> CommandParser:
    """The settings."""
    found = CommandParser(
        prog="ftkit bakeoff", examples=__doc__,
        description="Try every way to have your questions answered, on one split and one budget; a killed run goes on.",
    )  # fmt: skip
    add = found.add_argument
    add("rows", help="questions with answers: a file, a folder, a bundled name or a Hub id")
    add("--model_name_or_path", required=True, help="Hub id, local folder or .gguf file")
    add("--output_dir", required=True, help="folder for all contestants, the table and the page")
    add("--docs", action="append", default=[], metavar="DOCS", help="file or folder of documents that hold the answers")
    add("--budget", default="5min", help="training of each contestant: 10min, 2h, or 5e5tokens")
    add("--skip", default="", metavar="NAME,...", help="contestants to leave out, such as qlora,full")
    add("--template", default="auto", help="bundled name, .jinja file, or auto: the model's own, else alpaca")
    add("--num_test", type=int, default=200, help="held-out rows")
    add("--num_examples", type=int, default=3, help="training rows in the prompt of few-shot")
    add("--top_k", type=int, default=3, help="passages in front of a question")
    add("--passage_tokens", type=int, default=128, help="longest passage, in tokens of the model")
    add("--embedder", help="folder of a sentence encoder, for a search by meaning beside words")
    add("--metric", choices=("exact_match", "contains", "token_f1", "chrf"), help="what decides; default: by the rows")
    add("--margin", type=float, default=0.05, help="smallest difference that matters, as a share")
    add("--forgetting_limit", type=int, default=20, help="questions of each subject of the probe; 0: no probe")
    add("--max_epochs", type=float, default=10.0, help="passes over the rows that the budget is spent on at most")
    add("--sft_config", action="append", default=[], metavar="NAME=FILE", help="settings of ftkit sft for a contestant")
    add("--price_per_hour", type=float, help="of this machine, for the cost of a thousand answers")
    add("--batch_size", type=int, help="answers generated at once; default: what is fast on this device")
    add("--seed", type=int, default=0, help="seed of the split and of training")
    add_reading_flags(found)
    add_turns_flag(found)
    return found


def asked_of(args):
    """The settings of the command line. Raises UserError for those that do not fit together."""
    from ftkit.runs.bakeoff.asked import Asked, Budget

    taken = (
        "rows", "output_dir", "template", "num_test", "num_examples", "top_k", "passage_tokens", "embedder", "metric",
        "margin", "forgetting_limit", "max_epochs", "price_per_hour", "batch_size", "seed", "columns", "encoding",
        "join_turns",
    )  # fmt: skip
    return Asked(
        model=args.model_name_or_path, budget=Budget.of(args.budget), docs=tuple(args.docs),
        skip=tuple(filter(None, (name.strip() for name in args.skip.split(",")))),
        sft_configs=dict(map(config_of, args.sft_config)), **{name: getattr(args, name) for name in taken},
    )  # fmt: skip


def config_of(text: str) -> tuple[str, str]:
    """The contestant and file of NAME=FILE."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UserError(f'--sft_config "{text}": write NAME=FILE, such as lora=lora.yaml')
    return name, path
