"""Answers prompts through the model's template, one by one or from a file; by several models side by side.

ftkit generate --adapter runs/first --prompt "Write the plural of: mouse"
ftkit generate --adapter a=runs/first --adapter b=runs/second --file prompts.txt --output_file answers.jsonl
ftkit generate --compare SmolLM2-135M-Instruct.Q4_1.gguf,runs/first --prompt "Write the plural of: mouse"
ftkit generate --adapter runs/first --file prompts.txt --num_samples 8 --temperature 0.7 --choose majority
ftkit generate --adapter runs/first --index runs/index --prompt "Which plan has backups?"     # from your documents
ftkit generate --model_name_or_path base --template none --prompt "The king"     # continues the text
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.terminal import has_color, resumable
from ftkit.data.reading.read_as import add_reading_flags
from ftkit.inference.answer_file import check_answer_file
from ftkit.inference.asking import (
    PLAIN,
    add_drawing_flags,
    asking_parser,
    check_choosing,
    check_plain,
    check_text,
    model_settings,
    sampling_of,
)
from ftkit.inference.retrieval.prompting import source_lines, source_records
from ftkit.inference.retrieval.retriever import add_index_flags, check_sources, retriever_of

# Flags that say the same in other words, or how answers are shown; the questions and the weights are compared instead.
NOT_ASKED = ("prompt", "file", "columns", "encoding", "system", "adapter", "model_name_or_path", "output_file")
Named = Mapping[str, Sequence[Any]]  # the replies to one prompt, by the name of who gave them


def main(argv: list[str]) -> None:
    """Parse the command line, answer every prompt, print or write the answers as they come."""
    args = parse(argv)
    questions = questions_of(args)
    with resumable() if args.output_file else nullcontext():
        cost = answer_all(questions, args)
    if cost.num_cut and args.template != PLAIN:
        advice = f"raise --max_new_tokens {args.max_new_tokens}"
        print(f"{cost.num_cut} of {cost.num_answers} answers were cut: {advice}", file=sys.stderr)
    if args.choose:
        print(cost.line(args.num_samples), file=sys.stderr)


def answer_all(questions: list, args) -> "Cost":
    """Answer every question, and print or keep the answers; what an earlier command answered stays."""
    from ftkit.inference.shown import shown

    choosing, cost = chooser_of(args), Cost()
    found, file = compared(questions, args) if args.compare else answered(questions, args)
    num_done = len(file.records) if file and not args.compare else 0
    if num_done:
        print(f"{num_done} of {len(questions)} prompts are answered already", file=sys.stderr)
        cost.add_ended(file.finish_reasons)
    try:
        for question, named in zip(questions[num_done:], found, strict=True):
            choices = chosen(question, named, choosing)
            if file is None:
                show(question, named, choices, args, partial(shown, **looks(args)), is_only=len(questions) == 1)
            elif not args.compare:  # whose file is written
                file.add(record_of(question, named, choices))
            num_done += 1
            cost.add([reply for given in named.values() for reply in given], choices)
    finally:
        if file and num_done:
            of_all = "" if num_done == len(questions) else f" of {len(questions)}"
            print(f"{num_done}{of_all} prompts answered in {args.output_file}", file=sys.stderr)
    if file:
        file.finish()
    return cost


def looks(args) -> dict:
    """How a reply is printed."""
    is_terminal = sys.stdout.isatty()
    return {
        "fold": is_terminal and not args.show_thoughts, "color": has_color(sys.stdout), "with_tokens": args.show_tokens
    }  # fmt: skip


class Asked(NamedTuple):
    """A question: its place, the conversation that is asked, its text alone, and its passages with --index."""

    source: str
    messages: list[dict]
    text: str
    sources: list | None = None


@dataclass
class Cost:
    """What the answers cost in tokens, and how many of them were cut."""

    num_read: int = 0
    num_written: int = 0
    num_scored: int = 0
    num_answers: int = 0
    num_cut: int = 0

    def add(self, replies: Sequence, choices: Mapping) -> None:
        """Count the answers to a prompt, and what was read to choose one."""
        self.add_ended([reply.finish_reason for reply in replies])
        self.num_read += sum(reply.input_tokens for reply in replies)
        self.num_written += sum(reply.output_tokens for reply in replies)
        self.num_scored += sum(choice.num_tokens for choice in choices.values())

    def add_ended(self, finish_reasons: Sequence[str]) -> None:
        """Count answers by what ended them."""
        self.num_answers += len(finish_reasons)
        self.num_cut += finish_reasons.count("length")

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
        "--output_file",
        help="write JSON lines as they come: prompt, answers, what ended each (stop, length); killed, it goes on",
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
    parser.add_argument(
        "--judge", metavar="MODEL@URL", help="a judge on a server, or a model's folder, for --choose best"
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        default=16,
        help="answers made at once; in bfloat16 a greedy answer may depend on it, with --dtype float32 it does not",
    )
    parser.add_argument("--show_tokens", action="store_true", help="each token of an answer, with its log-probability")
    parser.add_argument(
        "--top_logprobs", type=int, default=0, metavar="N", help="with --show_tokens: the N likeliest in its place"
    )
    parser.add_argument("--show_thoughts", action="store_true", help="print thoughts whole at a terminal too")
    add_drawing_flags(parser)
    add_index_flags(parser)
    add_reading_flags(parser)
    args = parser.parse_args(argv)
    sampling_of(args)
    check_plain(args)
    check_sources(args)
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
    if args.top_logprobs < 0 or args.top_logprobs and not args.show_tokens:
        raise UserError("--top_logprobs is a number of tokens that --show_tokens shows; add that, or leave it out")
    if args.show_thoughts and args.output_file:
        raise UserError("--show_thoughts has no effect with --output_file, which holds thoughts whole; drop one")
    unused = [name for name, none in (("top_k", 0), ("top_p", 1), ("min_p", 0)) if getattr(args, name) != none]
    if unused and args.temperature == 0:
        raise UserError(f"--{unused[0]} has no effect at --temperature 0; give --temperature 0.7, or drop it")
    if args.output_file:
        check_answer_file(Path(args.output_file))
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
    retriever, found = retriever_of(args), []
    for source, messages in questions:
        sourced, sources = retriever.sourced(messages) if retriever else (messages, None)
        found.append(Asked(source, [*system, *sourced], messages[-1]["content"], sources))
    return found


def answered(questions: list, args) -> tuple[Iterator[Named], Any]:
    """The replies of one model, or of each of its adapters, to each question that the file lacks; and the file."""
    from ftkit.inference.engine import Engine

    engine = Engine.load(model_settings(args))
    file = file_of(questions, args, {name: voice.digest for name, voice in engine.voices.items()})
    return replies_of(engine, questions, args, start=len(file.records) if file else 0), file


def replies_of(engine, questions: list, args, *, start: int = 0) -> Iterator[Named]:
    """The replies of an engine's voices to each question from a place on, as they come."""
    from ftkit.inference.answering import answer_each

    return answer_each(
        engine, questions, sampling_of(args), num_answers=args.num_samples, batch_size=args.batch_size, start=start,
        num_top=args.top_logprobs if args.show_tokens else None,
    )  # fmt: skip


def file_of(questions: list, args, voices: Mapping | None = None):
    """The file of the answers, which may have some already; None where they are printed. voices: digests by name."""
    from ftkit.inference.answer_file import AnswerFile, questions_digest

    if not args.output_file:
        return None
    asked = {name: value for name, value in vars(args).items() if name not in NOT_ASKED}
    asked |= {"questions": questions_digest(questions), "models": voices}
    return AnswerFile.of(Path(args.output_file), asked)


def compared(questions: list, args) -> tuple[list[Named], Any]:
    """The replies of several models to each question; what one has answered is written before the next is loaded."""
    from ftkit.inference.side_by_side import each_engine, models_to_compare

    models, file = models_to_compare(args.compare), file_of(questions, args)
    settings = model_settings(args, model_name_or_path=next(iter(models.values())))
    found: dict[str, list] = {name: list(file.replies.get(name, ())) if file else [] for name in models}
    to_ask = {name: model for name, model in models.items() if len(found[name]) < len(questions)}
    for name, engine in each_engine(to_ask, settings) if to_ask else ():
        for replies in replies_of(engine, questions, args, start=len(found[name])):
            found[name].append(next(iter(replies.values())))
            if file:
                file.add_replies(name, found[name][-1])
        if file:
            so_far = {name: replies for name, replies in found.items() if len(replies) == len(questions)}
            file.write(record_of(*pair, {}) for pair in zip(questions, by_question(so_far), strict=True))
    return by_question(found), file


def by_question(found: Mapping[str, list]) -> list[Named]:
    """Replies of each model to all questions, as those of all models to each question."""
    return [dict(zip(found, replies, strict=True)) for replies in zip(*found.values(), strict=True)]


def show(question, named: Named, choices: Mapping, args, shown, *, is_only: bool) -> None:
    """Print the answers to one question; those of several models stand by name. shown: what is printed of a reply."""
    from ftkit.inference.side_by_side import side_by_side

    texts = {name: list(map(shown, kept(replies, choices.get(name)))) for name, replies in named.items()}
    is_alone = len(texts) == 1
    if not (is_only and is_alone):
        print(f"> {question.text}")
    print("\n---\n".join(next(iter(texts.values()))) if is_alone else side_by_side(texts), flush=True)
    if question.sources is not None:
        print("\n".join(["", *(source_lines(question.sources) or ["nothing was found"])]), flush=True)


def kept(replies: Sequence, choice) -> list:
    """The replies that are shown: all, or the one that was chosen."""
    return list(replies) if choice is None else [replies[choice.place]]


def record_of(question, named: Named, choices: Mapping) -> dict:
    """What is written of one question: the answers and what ended each, by name where several models answered.

    Where one sample was chosen, all of them follow, each with its votes or its score; with --index the passages do.
    """
    from ftkit.inference.shown import token_records

    shown = {name: kept(replies, choices.get(name)) for name, replies in named.items()}
    found: dict[str, Any] = {
        "answers": {name: [reply.text for reply in replies] for name, replies in shown.items()},
        "finish_reasons": {name: [reply.finish_reason for reply in replies] for name, replies in shown.items()},
    }
    if any(reply.tokens for replies in shown.values() for reply in replies):
        found["tokens"] = {name: list(map(token_records, replies)) for name, replies in shown.items()}
    if choices:
        found["samples"] = {name: [reply.text for reply in replies] for name, replies in named.items()}
        found["weights"] = {name: choice.weights for name, choice in choices.items()}
    if len(named) == 1:
        found = {key: next(iter(values.values())) for key, values in found.items()}
    if question.sources is not None:
        found["sources"] = source_records(question.sources)
    return {"prompt": question.text, **found}
