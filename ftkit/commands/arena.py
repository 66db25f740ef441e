"""Ranks models from votes on their answers, by people or judges, and turns the votes into rows to train on; collects a
person's votes on a local page.

ftkit arena votes.jsonl more-votes.jsonl --dpo preferences.jsonl --kto rows.jsonl
ftkit arena --serve votes.jsonl --compare base,runs/mine --file prompts.txt       # two answers side by side, blind
ftkit arena --serve votes.jsonl --answers base.jsonl --answers mine=bench/items/instructions.jsonl
"""

import sys
from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command

PERSON = "person"  # who votes where nobody is named
ONLY_SERVE = ("answers", "compare", "file", "limit", "host", "port", "template", "dtype", "trust_remote_code",
              "max_new_tokens", "temperature")  # fmt: skip
OF_MODELS = ("file", "template", "dtype", "trust_remote_code", "max_new_tokens", "temperature")


def main(argv: list[str]) -> None:
    """Parse the command line; rank the votes that there are and write rows, or collect more."""
    parser = arena_parser()
    args = parser.parse_args(argv)
    if args.serve:
        check_serving(args, parser)
        serve(args)
        return
    check(args, parser)
    from ftkit.evaluation.judge.votes import agreements, as_triples, read_votes
    from ftkit.metrics.ranking import is_connected, rank

    votes = [vote for path in args.votes for vote in read_votes(path)]
    everyone = list(dict.fromkeys(vote.voter for vote in votes))
    if unknown := [name for name in args.voter if name not in everyone]:
        raise UserError(f'--voter "{unknown[0]}": cast no vote here; voters are {", ".join(map(repr, everyone))}')
    votes = [vote for vote in votes if not args.voter or vote.voter in args.voter]
    triples = as_triples(votes)
    standings = rank(triples, [vote.question for vote in votes], seed=args.seed)
    print("\n".join(ranking_lines(standings)))
    num_questions = len({vote.question for vote in votes})
    print(
        f"\n{len(votes):,} votes on {num_questions:,} questions; Bradley-Terry on Elo's scale, intervals over "
        "questions;\neach model has half a won and half a lost vote on top, which draws few votes to 1000"
    )
    if unknown := [one.model for one in standings if one.low is None]:
        print(
            f"warning: no interval for {', '.join(unknown)}: votes on one question, all won, all lost or all alike do "
            "not show how certain a score is; vote on more questions"
        )
    if not is_connected(triples):
        print("warning: some models are linked to others by no vote; their scores can't be held against each other")
    for agreement in agreements(votes):
        print(agreement)
    write_rows_asked_for(votes, args)


def arena_parser() -> CommandParser:
    """The settings of ranking, and of the page that collects votes."""
    parser = CommandParser(
        prog="ftkit arena", examples=__doc__, description="Rank models from votes on pairs of their answers."
    )
    add = parser.add_argument
    add("votes", nargs="+", help="files of votes, as ftkit judge writes them; with --serve the one that votes go to")
    add("--voter", action="append", default=[], help="count only this voter, several times for more; or who votes")
    add("--dpo", metavar="FILE", help="write rows prompt/chosen/rejected for ftkit dpo and ftkit reward")
    add("--kto", metavar="FILE", help="write rows prompt/completion/label")
    add("--seed", type=int, default=0, help="seed of the bootstrap, of order and sides on the page, and of sampling")
    add("--serve", action="store_true", help="collect votes on a local page; the same command goes on")
    add(
        "--answers",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="answers of ftkit generate or bench, or rows",
    )
    add(
        "--compare",
        metavar="M1,M2",
        help="models that answer --file: Hub ids, folders, .gguf files, adapter run folders",
    )
    add("--file", help="questions: .txt (one per line), or rows in any format `ftkit sft` reads")
    add("--limit", type=int, help="vote only on this many questions, the first ones")
    add("--host", default="127.0.0.1", help="address to listen at; any other than this lets the network vote")
    add("--port", type=int, default=8100, help="0 takes a free one")
    add("--template", default="auto", help="of --compare: bundled name, .jinja file, or auto")
    add("--dtype", choices=["auto", "bfloat16", "float16", "float32"], help="of --compare; default: the fast one here")
    add("--trust_remote_code", action="store_true", help="run Python code that comes with a model")
    add("--max_new_tokens", type=int, default=256, help="longest answer, in tokens")
    add("--temperature", type=float, default=0.0, help="0 takes the likeliest token each time")
    return parser


def check(args, parser: CommandParser) -> None:
    """Raise UserError for files that are named twice, are there already or can't be written, for a bad seed, and for
    settings of the page."""
    for name in ONLY_SERVE:
        if getattr(args, name) != parser.get_default(name):
            raise UserError(f"--{name} has no effect without --serve; add --serve, or leave it out")
    places = [Path(path).resolve() for path in args.votes]
    for path, place in zip(args.votes, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{path}: is given twice, and would count twice; give it once")
    for flag, path in (("--dpo", args.dpo), ("--kto", args.kto)):
        if path is None:
            continue
        if Path(path).suffix != ".jsonl":
            raise UserError(f"{path}: rows are written as JSON lines; name the file something.jsonl")
        if Path(path).exists():
            raise UserError(f"{path}: exists already; choose another file")
        check_file(path, flag)
    if args.dpo and args.kto and Path(args.dpo).resolve() == Path(args.kto).resolve():
        raise UserError(f"{args.kto}: --dpo and --kto name the same file; give each its own")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}; give 0 or more")


def check_serving(args, parser: CommandParser) -> None:
    """Raise UserError for what can't be voted on, or kept, before anything is loaded."""
    if args.dpo or args.kto:
        raise UserError(
            f"--dpo and --kto write rows of votes that there are; later: {command('arena', *args.votes)} --dpo"
        )
    if len(args.votes) > 1 or len(args.voter) > 1:
        raise UserError("--serve: one person votes into one file; give one file and at most one --voter")
    if Path(args.votes[0]).suffix != ".jsonl":
        raise UserError(f"{args.votes[0]}: votes are written as JSON lines; name the file something.jsonl")
    if bool(args.answers) == bool(args.compare):
        raise UserError(
            "--serve: say whose answers: --answers FILE --answers FILE, or --compare M1,M2 --file QUESTIONS"
        )
    if args.compare and not args.file:
        raise UserError("--compare needs questions: --file prompts.txt")
    for name in () if args.compare else OF_MODELS:
        if getattr(args, name) != parser.get_default(name):
            raise UserError(f"--{name} has no effect with --answers; leave it out")
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit is {args.limit}; give at least 1")
    if not 0 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}; give a number from 0 to 65535")
    check_file(args.votes[0], "votes")


def serve(args) -> None:
    """Show the pairs on a local page until Ctrl-C, and say what came of it."""
    from ftkit.evaluation.judge.ballot import Ballot, pairs_of
    from ftkit.serving.app import address_of, check_installed, listen, run
    from ftkit.serving.local_names import is_loopback
    from ftkit.serving.voting import voting_app

    check_installed()
    with listen(args.host, args.port) as listener:
        path = Path(args.votes[0])
        ballot = Ballot(pairs_of(answers_of(args), args.seed), path, (args.voter or [PERSON])[0])
        if not is_loopback(args.host):
            print(
                f"warning: --host {args.host}: whoever reaches this machine can read the answers and vote",
                file=sys.stderr,
            )
        print(
            f"{ballot.num_cast:,} of {len(ballot.pairs):,} pairs voted on; vote at {address_of(listener)}", flush=True
        )
        print("Ctrl-C ends it; the same command goes on", file=sys.stderr, flush=True)
        run(voting_app(ballot, args.host), listener)
    num_new = ballot.num_cast - ballot.num_before
    print(
        f"\n{counted(num_new, 'new vote')}, {ballot.num_cast:,} of {len(ballot.pairs):,} pairs, in {path}",
        file=sys.stderr,
    )
    if ballot.num_cast:
        print(f"next: {command('arena', path)}", file=sys.stderr)


def answers_of(args) -> dict:
    """The answers to vote on, by model. Raises UserError where fewer than two models have any."""
    if args.answers:
        from ftkit.evaluation.judge.answer_files import read_answers

        answers = read_answers(args.answers)
        if len(answers) < 2:
            raise UserError(f"--answers holds those of {', '.join(answers)} alone; give a second file of answers")
        return {name: rows[: args.limit] for name, rows in answers.items()}
    from ftkit.data.rows.questions import read_questions
    from ftkit.evaluation.judge.making import made_answers
    from ftkit.inference.asking import ModelSettings, Sampling
    from ftkit.inference.side_by_side import models_to_compare

    models = models_to_compare(args.compare)
    settings = ModelSettings(
        next(iter(models.values())), template=args.template, dtype=args.dtype, trust_remote_code=args.trust_remote_code
    )
    sampling = Sampling(args.max_new_tokens, args.temperature, seed=args.seed)
    kept = Path(args.votes[0]).with_suffix(".answers.jsonl")
    return made_answers(models, read_questions(args.file)[: args.limit], settings, sampling, kept)


def ranking_lines(standings: list) -> list[str]:
    """A table, best first."""
    from ftkit.evaluation.verdict.text import column_lines

    rows = [("model", "score (95 %)", "won", "tied", "lost")]
    rows += [
        (
            one.model,
            f"{one.score:.0f} ({'unknown' if one.low is None else f'{one.low:.0f} to {one.high:.0f}'})",
            *map(str, (one.num_won, one.num_tied, one.num_lost)),
        )
        for one in standings
    ]
    return column_lines(rows)


def write_rows_asked_for(votes: list, args) -> None:
    """Write the training rows that the command line asks for. Raises UserError where the votes give none."""
    from ftkit.config.jsonl import write_jsonl
    from ftkit.evaluation.judge.votes import dpo_rows, kto_rows

    for path, rows_of, next_step in (
        (args.dpo, dpo_rows, f"next: {command('dpo', '--dataset_name', args.dpo, '...')}"),
        (args.kto, kto_rows, f"next: {command('kto', '--dataset_name', args.kto, '...')}"),
    ):
        if path:
            rows = rows_of(votes)
            if not rows:
                raise UserError(f"{path}: no vote tells two answers apart, so there is no row to write")
            print(f"written: {write_jsonl(Path(path), rows):,} rows to {path}; {next_step}", file=sys.stderr)
