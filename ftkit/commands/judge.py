"""Lets a model judge answers: scores from 0 to 100, or which of two is better, asked in both orders.

ftkit judge mine=answers.jsonl --endpoint http://127.0.0.1:11434/v1 --model_name_or_path llama3.2 --output_dir judged
ftkit judge base=before.jsonl mine=after.jsonl --adapter runs/judge --output_dir judged
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_folder
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.config.terminal import Progress, resumable
from ftkit.data.reading.read_as import add_reading_flags
from ftkit.inference.asking import (
    add_endpoint_flags,
    asking_parser,
    check_endpoint_flags,
    model_settings,
    parse_adapters,
    sampling_of,
)

JUDGE_SETTINGS = (
    "mode", "model_name_or_path", "adapter", "endpoint", "system", "temperature", "top_p", "top_k",
    "repetition_penalty", "seed", "template", "dtype", "load_in_4bit", "ftgpt",
)  # fmt: skip  # those that change a judgement; max_new_tokens changes none, as a reply that it cuts off is none


def main(argv: list[str]) -> None:
    """Parse the command line, ask the judge, print what it came to, write scores or votes."""
    parser = judge_parser()
    args = parser.parse_args(argv)
    check(args, parser)
    from ftkit.config.output_folder import held
    from ftkit.data.reading.read_as import ReadAs
    from ftkit.evaluation.judge.answer_files import read_answers
    from ftkit.evaluation.judge.folder import check_models, claim, forget
    from ftkit.evaluation.judge.votes import read_votes

    answers = read_answers(args.answers, ReadAs.of(args.columns, args.encoding))
    check_models(list(answers))
    answers = {name: rows[: args.limit] for name, rows in answers.items()}
    args.mode = args.mode or ("pair" if len(answers) > 1 else "score")
    if args.mode == "pair" and len(answers) < 2:
        raise UserError("--mode pair compares models; give answers of at least two")
    if args.mode == "score" and args.votes:
        raise UserError("--votes are on pairs of answers; give --mode pair, with answers of at least two models")
    people = read_votes(args.votes) if args.votes else []
    settings = judge_settings(args)
    questions = questions_of(answers, args)
    folder = Path(args.output_dir)
    with held(folder):
        if args.overwrite:
            forget(folder, answers)
        claim(folder, settings, answers)
        with resumable():
            report(questions, answers, people, settings, args)


def judge_parser() -> CommandParser:
    """The settings of the judge, of asking, and of what is reported."""
    parser = asking_parser("ftkit judge", "Let a model judge answers, by scores or by comparing pairs.", __doc__)
    parser.set_defaults(max_new_tokens=64)
    parser.add_argument(
        "answers", nargs="+", metavar="[NAME=]FILE", help="answers: of ftkit bench, ftkit generate, or rows"
    )
    add_reading_flags(parser)
    parser.add_argument("--mode", choices=["score", "pair"], help="default: pair where there are several models")
    add_endpoint_flags(parser)
    parser.add_argument("--batch_size", type=int, default=8, help="requests to a local model at once")
    parser.add_argument("--limit", type=int, help="judge only this many questions")
    parser.add_argument(
        "--num_repeats",
        type=int,
        default=1,
        help="ask each question this many times, to see how steady the judge is; needs a --temperature",
    )
    parser.add_argument("--votes", metavar="FILE", help="people's votes on the same pairs: how far the judge agrees")
    parser.add_argument("--output_dir", required=True, help="judgements, scores or votes; goes on if it was stopped")
    parser.add_argument("--overwrite", action="store_true", help="start over: remove the judging in --output_dir")
    return parser


def check(args, parser: CommandParser) -> None:
    """Raise UserError for what is missing or out of range, before anything is loaded."""
    from ftkit.inference.endpoint import endpoint_of

    sampling_of(args)
    if not args.model_name_or_path and not args.adapter:
        raise UserError("name the judge: --model_name_or_path M, with --endpoint URL for one on a server")
    if args.limit is not None and args.limit < 1 or args.num_repeats < 1 or args.batch_size < 1:
        raise UserError("--limit, --num_repeats and --batch_size start at 1")
    if args.num_repeats > 1 and args.temperature == 0:
        raise UserError(
            "--num_repeats at temperature 0 would bring each reply again; give --temperature too, such as 0.7"
        )
    check_endpoint_flags(args, parser)
    endpoint_of(args)
    check_folder(args.output_dir)


def judge_settings(args) -> dict:
    """What changes a judgement, as it is noted: paths in full, the address without a slash at its end."""
    settings = {name: getattr(args, name) for name in JUDGE_SETTINGS}
    settings["adapter"] = [whole_path(path) for path in parse_adapters(args.adapter).values()]
    if args.endpoint:
        settings["endpoint"] = args.endpoint.rstrip("/")
    elif args.model_name_or_path:
        settings["model_name_or_path"] = whole_path(args.model_name_or_path)
    return settings


def whole_path(name: str) -> str:
    """A path from the root; a Hub id as it is."""
    return str(Path(name).resolve()) if os.path.exists(name) else name


def judge_name(args) -> str:
    """What the judge is called in votes."""
    if args.adapter:
        return Path(next(iter(parse_adapters(args.adapter).values()))).name
    return args.model_name_or_path


def questions_of(answers: dict, args) -> list:
    """What the judge is asked. Raises UserError for models that answered other questions."""
    from ftkit.evaluation.judge.judge import pair_questions, score_questions

    return (pair_questions if args.mode == "pair" else score_questions)(answers, args.num_repeats)


def report(questions: list, answers: dict, people: list, settings: dict, args) -> None:
    """Ask, print what came of it as far as it came, and write it. Raises UserError where no judgement did, or the
    server gave out."""
    from ftkit.evaluation.judge import summary
    from ftkit.evaluation.judge.folder import JUDGEMENTS
    from ftkit.evaluation.judge.judge import judge
    from ftkit.inference.cost import token_line

    folder = Path(args.output_dir)
    judging = judge(questions, asker(args), folder / JUDGEMENTS)
    lines = summary.failure_lines(judging.judgements) if questions else ["all answers are equal: nothing to ask"]
    lines.append(token_line(judging.replies, args.input_price, args.output_price))
    print("\n".join(lines))
    if judging.is_empty:
        reason = Counter(one.failure for one in judging.judgements).most_common(1)[0][0]
        raise UserError(
            judging.given_up or f"nothing was judged ({reason}); the replies are in {folder / JUDGEMENTS}, look at them"
        )
    results = pair_results if args.mode == "pair" else score_results
    print("\n".join(results(judging.judgements, answers, people, settings, args)))
    if not judging.is_whole:
        raise UserError(judging.given_up)


def score_results(judgements: list, answers: dict, people: list, settings: dict, args) -> list[str]:
    """Write each model's scores; return them as lines."""
    from ftkit.evaluation.judge.summary import score_lines
    from ftkit.evaluation.judge.writing import write_scores

    paths = write_scores(Path(args.output_dir), judgements, answers, settings)
    next_step = f"written: {', '.join(map(str, paths))}; next: ftkit compare two of them"
    return [*score_lines(judgements, answers), next_step if paths else "no question has a score for every model"]


def pair_results(judgements: list, answers: dict, people: list, settings: dict, args) -> list[str]:
    """Write the votes; return them as lines, with how people's votes agree with them."""
    from ftkit.evaluation.judge.folder import VOTES
    from ftkit.evaluation.judge.judge import pair_outcomes
    from ftkit.evaluation.judge.summary import pair_lines
    from ftkit.evaluation.judge.votes import agreement_lines, write_votes
    from ftkit.evaluation.judge.writing import pair_votes

    outcomes = pair_outcomes(judgements)
    votes = pair_votes(outcomes, answers, f"judge {judge_name(args)}")
    path = Path(args.output_dir) / VOTES
    write_votes(path, votes)
    lines = pair_lines(judgements, outcomes, answers) + (agreement_lines(people, votes) if people else [])
    return [*lines, f"written: {path}; next: {command('arena', path)}"]


def asker(args):
    """A function that asks the judge many questions and yields (index, reply) as they come."""
    from ftkit.inference.endpoint import ask_all, endpoint_of

    endpoint = endpoint_of(args)
    system = [{"role": "system", "content": args.system}] if args.system else []

    def ask(questions: list) -> Iterator:
        conversations = [[*system, *question.messages] for question in questions]
        if endpoint:
            replies = ask_all(endpoint, conversations, [args.seed + question.repeat for question in questions])
        else:
            from ftkit.evaluation.judge.local import ask_local
            from ftkit.inference.engine import Engine

            engine, repeats = Engine.load(model_settings(args)), [question.repeat for question in questions]
            replies = ask_local(engine, conversations, repeats, sampling_of(args), batch_size=args.batch_size)
        with Progress(len(questions), "judged", "replies") as progress:
            for reply in replies:
                yield reply
                progress.advance()

    return ask
