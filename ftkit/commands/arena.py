"""Ranks models from votes on their answers, by people or judges, and turns the votes into rows to train on.

ftkit arena votes.jsonl more-votes.jsonl --dpo preferences.jsonl --kto rows.jsonl
"""

import sys
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command


def main(argv: list[str]) -> None:
    """Parse the command line, print the ranking and how far voters agree, write rows."""
    parser = CommandParser(
        prog="ftkit arena", examples=__doc__, description="Rank models from votes on pairs of their answers."
    )
    parser.add_argument("votes", nargs="+", help="files of votes, as ftkit judge writes them")
    parser.add_argument(
        "--voter", action="append", default=[], help="count only this voter; may be given several times"
    )
    parser.add_argument("--dpo", metavar="FILE", help="write rows prompt/chosen/rejected for ftkit dpo")
    parser.add_argument("--kto", metavar="FILE", help="write rows prompt/completion/label")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    args = parser.parse_args(argv)
    check(args)
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
            "not tell how sure a score is; vote on more questions"
        )
    if not is_connected(triples):
        print("warning: some models are linked to others by no vote; their scores can't be held against each other")
    for agreement in agreements(votes):
        print(agreement)
    write_rows_asked_for(votes, args)


def check(args) -> None:
    """Raise UserError for files that are named twice, are there already or can't be written, and for a bad seed."""
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
        (args.kto, kto_rows, "next: TRL's KTO trainer reads it"),
    ):
        if path:
            rows = rows_of(votes)
            if not rows:
                raise UserError(f"{path}: no vote tells two answers apart, so there is no row to write")
            print(f"written: {write_jsonl(Path(path), rows):,} rows to {path}; {next_step}", file=sys.stderr)
