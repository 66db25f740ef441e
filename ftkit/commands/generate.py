"""Answers prompts through the model's template, one by one or from a file; by several models side by side.

ftkit generate --adapter runs/first --prompt "Write the plural of: mouse"
ftkit generate --adapter a=runs/first --adapter b=runs/second --file prompts.txt --output_file answers.jsonl
ftkit generate --compare SmolLM2-135M-Instruct.Q4_1.gguf,runs/first --prompt "Write the plural of: mouse"
ftkit generate --adapter runs/first --file prompts.txt --num_samples 8 --temperature 0.7 --choose majority
ftkit generate --model_name_or_path base --template none --prompt "The king"     # continues the text
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.jsonl import append_or_print, write_or_print
from ftkit.data.reading.read_as import add_reading_flags
from ftkit.inference.asking import (
    EMPTY_ANSWER,
    PLAIN,
    asking_parser,
    check_choosing,
    check_plain,
    check_text,
    model_settings,
    sampling_of,
)

Named = Mapping[str, Sequence[Any]]  # the replies to one prompt, by the name of who gave them


def main(argv: list[str]) -> None:
    """Parse the command line, answer every prompt, print or write the answers as they come."""
    args = parse(argv)
    questions = questions_of(args)
    found = compared(questions, args) if args.compare else answered(questions, args)
    choosing, cost = chooser_of(args), Cost()
    num_done = num_cut = num_answers = 0
    try:
        for question, named in zip(questions, found, strict=True):
            choices = chosen(question, named, choosing)
            keep(question, named, choices, args, is_only=len(questions) == 1)
            replies = [reply for given in named.values() for reply in given]
            num_done, num_answers = num_done + 1, num_answers + len(replies)
            num_cut += sum(reply.finish_reason == "length" for reply in replies)
            cost.add(replies, choices)
    finally:
        if args.output_file and num_done:
            of_all = "" if num_done == len(questions) else f" of {len(questions)}"
            print(f"{num_done}{of_all} prompts answered in {args.output_file}", file=sys.stderr)
    if num_cut and args.template != PLAIN:
        advice = f"raise --max_new_tokens {args.max_new_tokens}"
        print(f"{num_cut} of {num_answers} answers were cut: {advice}", file=sys.stderr)
    if args.choose:
        print(cost.line(args.num_samples), file=sys.stderr)


@dataclass
class Cost:
    """What samples cost in tokens."""

    num_read: int = 0
    num_written: int = 0
    num_scored: int = 0

    def add(self, replies: Sequence, choices: Mapping) -> None:
        """Count the samples of a prompt, and what was read to choose one."""
        self.num_read += sum(reply.input_tokens for reply in replies)
        self.num_written += sum(reply.output_tokens for reply in replies)
        self.num_scored += sum(choice.num_tokens for choice in choices.values())

    def line(self, num_samples: int) -> str:
        """The cost in one line."""
        tokens = f"{self.num_written:,} tokens written, {self.num_read:,} read"
        tokens += f", {self.num_scored:,} to choose" if self.num_scored else ""
        each = f"one sample writes {self.num_written / num_samples:,.0f}"
        return f"cost: {num_samples} samples per prompt, {tokens}; {each}"


def chooser_of(args):
    """What chooses one of the samples; None where all are shown."""
    if not args.choose:
        return None
    from ftkit.evaluation.best_of import chooser_of

    return chooser_of(args.choose, args.reward_model, args.judge, args.vote_on)


def chosen(question, named: Named, chooser) -> dict:
    """The choice of each model's samples, by name; {} where all are shown."""
    if chooser is None:
        return {}
    texts = ([reply.text for reply in replies] for replies in named.values())
    return {name: chooser.choose([question.messages], [own])[0] for name, own in zip(named, texts, strict=True)}


def parse(argv: list[str]):
    """The settings of the command line, checked as far as they can be without the model."""
    parser = asking_parser("ftkit generate", "Answer prompts through the model's template.", __doc__)
    parser.add_argument("--prompt", action="append", default=[], help="a question; may be given several times")
    parser.add_argument(
        "--file",
        help="prompts: .txt (one per line), or rows in any format `ftkit sft` reads, answers ignored or missing",
    )
    parser.add_argument(
        "--compare",
        metavar="M1,M2",
        help="answers of whole models side by side, loaded in turn: Hub ids, folders, .gguf files, adapter run folders",
    )
    parser.add_argument(
        "--output_file", help="write JSON lines as they come: prompt, answers, and what ended each (stop, or length)"
    )
    parser.add_argument(
        "--num_return_sequences", "--num_samples", dest="num_samples", type=int, default=1, metavar="N",
        help="answers to each prompt",
    )  # fmt: skip
    parser.add_argument(
        "--choose", choices=["majority", "best"], help="keep one: what most say, or the one scored highest"
    )
    parser.add_argument(
        "--vote_on", choices=["text", "number"], default="text", help="of a majority: number is the last one"
    )
    parser.add_argument("--reward_model", help="output folder of ftkit reward, for --choose best")
    parser.add_argument("--judge", metavar="MODEL@URL", help="on an OpenAI-compatible server, for --choose best")
    parser.add_argument(
        "--batch_size",
        type=int,
        default=16,
        help="answers made at once; in bfloat16 a greedy answer may depend on it, with --dtype float32 it does not",
    )
    add_reading_flags(parser)
    args = parser.parse_args(argv)
    sampling_of(args)
    check_plain(args)
    check_output(args)
    return args


def check_output(args) -> None:
    """Raise UserError for answers that can't be asked for or kept."""
    if not args.file and (args.columns or args.encoding):
        raise UserError("--columns and --encoding say how --file is read; give --file FILE, or drop them")
    if args.num_samples < 1 or args.batch_size < 1:
        raise UserError("--num_return_sequences and --batch_size start at 1")
    check_choosing(args)
    if args.choose and args.compare:
        raise UserError("--choose with --compare: let each model answer in a command of its own")
    if args.choose and args.template == PLAIN:
        raise UserError(f"--choose is about answers, and --template {PLAIN} continues a text; drop one of them")
    if args.vote_on != "text" and args.choose != "majority":
        raise UserError("--vote_on has no effect without --choose majority; add that, or leave it out")
    if args.compare and (args.adapter or args.model_name_or_path):
        raise UserError("--compare names the models itself; drop --model_name_or_path and --adapter")
    if args.output_file and Path(args.output_file).exists():
        raise UserError(f"{args.output_file}: exists already; choose another --output_file")
    if args.output_file:
        check_file(args.output_file, "--output_file")


def questions_of(args) -> list:
    """The prompts of the command line and of --file, each with its place. Raises UserError where there are none."""
    for text in args.prompt:
        check_text(text, "--prompt")
    check_text(args.system or "", "--system")
    if not args.prompt and not args.file:
        raise UserError("nothing to answer; give --prompt TEXT or --file FILE")
    from ftkit.data.reading.read_as import ReadAs
    from ftkit.data.rows.questions import Question, read_questions

    questions = [Question("--prompt", [{"role": "user", "content": prompt}]) for prompt in args.prompt]
    questions += read_questions(args.file, ReadAs.of(args.columns, args.encoding)) if args.file else []
    system = [{"role": "system", "content": args.system}] if args.system else []
    return [Question(source, [*system, *messages]) for source, messages in questions]


def answered(questions: list, args) -> Iterator[Named]:
    """The replies of one model, or of each of its adapters, to each question as they come."""
    from ftkit.inference.engine import Engine

    return replies_of(Engine.load(model_settings(args)), questions, args)


def replies_of(engine, questions: list, args) -> Iterator[Named]:
    """The replies of an engine's voices to each question as they come."""
    from ftkit.inference.answering import answer_each

    batching = {"num_answers": args.num_samples, "batch_size": args.batch_size}
    return answer_each(engine, questions, sampling_of(args), **batching)


def compared(questions: list, args) -> list[Named]:
    """The replies of several models to each question; what one has answered is written before the next is loaded."""
    from ftkit.inference.side_by_side import each_engine, models_to_compare

    models = models_to_compare(args.compare)
    settings = model_settings(args, model_name_or_path=next(iter(models.values())))
    found: list[dict] = [{} for _ in questions]
    for name, engine in each_engine(models, settings):
        for named, replies in zip(found, replies_of(engine, questions, args), strict=True):
            named[name] = next(iter(replies.values()))
        if args.output_file:
            write_or_print(
                Path(args.output_file), (record_of(*pair, {}) for pair in zip(questions, found, strict=True))
            )
    return found


def keep(question, named: Named, choices: Mapping, args, *, is_only: bool) -> None:
    """Write the answers to one question as a line of JSON, or print them; those of several models stand by name."""
    from ftkit.inference.side_by_side import side_by_side

    if args.output_file:
        if not args.compare:  # whose file is written
            append_or_print(Path(args.output_file), record_of(question, named, choices))
        return
    shown = {
        name: [reply.text or EMPTY_ANSWER for reply in kept(replies, choices.get(name))]
        for name, replies in named.items()
    }
    is_alone = len(shown) == 1
    if not (is_only and is_alone):
        print(f"> {question.messages[-1]['content']}")
    print("\n---\n".join(next(iter(shown.values()))) if is_alone else side_by_side(shown), flush=True)


def kept(replies: Sequence, choice) -> list:
    """The replies that are shown: all, or the one that was chosen."""
    return list(replies) if choice is None else [replies[choice.place]]


def record_of(question, named: Named, choices: Mapping) -> dict:
    """What is written of one question: the answers and what ended each, by name where several models answered.

    Where one sample was chosen, all of them follow, each with its votes or its score.
    """
    shown = {name: kept(replies, choices.get(name)) for name, replies in named.items()}
    found = {
        "answers": {name: [reply.text for reply in replies] for name, replies in shown.items()},
        "finish_reasons": {name: [reply.finish_reason for reply in replies] for name, replies in shown.items()},
    }
    if choices:
        found["samples"] = {name: [reply.text for reply in replies] for name, replies in named.items()}
        found["weights"] = {name: choice.weights for name, choice in choices.items()}
    if len(named) == 1:
        found = {key: next(iter(values.values())) for key, values in found.items()}
    return {"prompt": question.messages[-1]["content"], **found}
