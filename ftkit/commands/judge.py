"""Lets a model judge answers: scores from 0 to 100, or which of two is better, asked in both orders.

ftkit judge mine=answers.jsonl --endpoint http://127.0.0.1:11434/v1 --model_name_or_path llama3.2 --output_dir judged
ftkit judge base=before.jsonl mine=after.jsonl --adapter runs/judge --output_dir judged
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from ftkit.commands.inference import check_sampling, inference_parser
from ftkit.config.errors import UserError


def main(argv: list[str]) -> None:
    """Parse the command line, ask the judge, print what it came to, write scores or votes."""
    parser = inference_parser("ftkit judge", "Let a model judge answers, by scores or by comparing pairs.")
    parser.set_defaults(max_new_tokens=64)
    parser.add_argument(
        "answers", nargs="+", metavar="[NAME=]FILE", help="answers: of ftkit bench, ftkit generate, or rows"
    )
    parser.add_argument("--mode", choices=["score", "pair"], help="default: pair where there are several models")
    parser.add_argument(
        "--endpoint", metavar="URL", help="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
    )
    parser.add_argument(
        "--api_key_variable", default="OPENAI_API_KEY", help="environment variable with the server's key; unset: none"
    )
    parser.add_argument("--timeout_seconds", type=float, default=120.0, help="of one attempt at the server")
    parser.add_argument("--num_retries", type=int, default=4, help="after a failed attempt")
    parser.add_argument("--concurrency", type=int, default=4, help="requests to the server at once")
    parser.add_argument("--batch_size", type=int, default=8, help="requests to a local model at once")
    parser.add_argument("--limit", type=int, help="judge only so many questions")
    parser.add_argument(
        "--num_repeats", type=int, default=1, help="ask each time so often, to see how steady the judge is"
    )
    parser.add_argument("--votes", metavar="FILE", help="people's votes on the same pairs: how far the judge agrees")
    parser.add_argument("--input_price", type=float, help="of a million tokens that the judge reads")
    parser.add_argument("--output_price", type=float, help="of a million tokens that the judge writes")
    parser.add_argument("--output_dir", required=True, help="judgements, scores or votes; goes on if it was stopped")
    args = parser.parse_args(argv)
    check(args)
    from ftkit.evaluation.answer_files import read_answers
    from ftkit.evaluation.votes import read_votes

    answers = read_answers(args.answers)
    answers = {name: rows[: args.limit] for name, rows in answers.items()}
    args.mode = args.mode or ("pair" if len(answers) > 1 else "score")
    if args.mode == "pair" and len(answers) < 2:
        raise UserError("--mode pair compares models; give answers of at least two")
    people = read_votes(args.votes) if args.votes else []
    judge_name = claim_folder(args)
    lines = judged(answers, args, judge_name, people)
    print("\n".join(lines))


def check(args) -> None:
    """Raise UserError for what is missing or out of range, before anything is loaded."""
    check_sampling(args)
    if not args.model_name_or_path and not args.adapter:
        raise UserError("name the judge: --model_name_or_path M, with --endpoint URL for one on a server")
    if args.endpoint and args.adapter:
        raise UserError("--adapter is of no use with --endpoint; name the server's model by --model_name_or_path")
    if args.limit is not None and args.limit < 1 or args.num_repeats < 1 or args.batch_size < 1:
        raise UserError("--limit, --num_repeats and --batch_size start at 1")
    endpoint_of(args)


def endpoint_of(args):
    """The server of the command line; None for a local model. Raises UserError for settings out of range."""
    from ftkit.evaluation.endpoint import Endpoint

    if not args.endpoint:
        return None
    return Endpoint(
        args.endpoint, args.model_name_or_path, args.timeout_seconds, args.num_retries, args.concurrency,
        args.temperature, args.max_new_tokens, args.seed, api_key_variable=args.api_key_variable,
    )  # fmt: skip


def claim_folder(args) -> str:
    """Note in OUT who judges and how, or find it noted; return the judge's name.

    Raises UserError for a folder in use by another judging.
    """
    import json

    from ftkit.config.files import write_json

    folder = Path(args.output_dir)
    name = Path(args.adapter[0].partition("=")[2] or args.adapter[0]).name if args.adapter else args.model_name_or_path
    who = {
        "judge": name,
        "endpoint": args.endpoint,
        "mode": args.mode,
        "temperature": args.temperature,
        "seed": args.seed,
    }
    note = folder / "judge.json"
    if note.is_file():
        if json.loads(note.read_text(encoding="utf-8")) != who:
            raise UserError(f"{folder}: holds the work of another judge or mode; choose another --output_dir")
    elif folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"{folder}: is in use and holds no judgements; choose another --output_dir")
    else:
        write_json(note, who)
    return name


def judged(answers: dict, args, judge_name: str, people: list) -> list[str]:
    """Ask, write what came of it, and tell it in lines."""
    from ftkit.evaluation import judge_report
    from ftkit.evaluation.judge import judge, pair_outcomes, pair_questions, score_questions
    from ftkit.evaluation.judge_results import pair_votes, write_scores
    from ftkit.evaluation.votes import agreements, write_votes

    folder, is_pair = Path(args.output_dir), args.mode == "pair"
    questions = (pair_questions if is_pair else score_questions)(answers, args.num_repeats)
    judgements = judge(questions, asker(args), folder / "judgements.jsonl")
    lines = judge_report.failure_lines(judgements) if judgements else ["all answers are equal: nothing to ask"]
    if is_pair:
        outcomes = pair_outcomes(judgements)
        lines += judge_report.pair_lines(judgements, outcomes, answers)
        votes = pair_votes(outcomes, answers, f"judge {judge_name}")
        write_votes(folder / "votes.jsonl", votes)
        lines += [str(one) for one in agreements([*people, *votes]) if one.second.startswith("judge ")]
        next_step = f"written: {folder}/votes.jsonl; next: ftkit arena {folder}/votes.jsonl"
    else:
        lines += judge_report.score_lines(judgements, answers)
        paths = write_scores(folder, judgements, answers, judge_name)
        next_step = f"written: {', '.join(map(str, paths))}; next: ftkit compare two of them"
        if not paths:
            next_step = f"no answer got a score; the replies are in {folder}: try another judge"
    lines += judge_report.token_lines(judgements, args.input_price, args.output_price)
    return [*lines, next_step]


def asker(args):
    """A function that asks the judge many questions and yields (index, reply) as they come."""
    from tqdm import tqdm

    from ftkit.evaluation.endpoint import ask_all

    endpoint = endpoint_of(args)

    def ask(conversations: list[list[dict]]) -> Iterator:
        replies = ask_all(endpoint, conversations) if endpoint else ask_local(args, conversations)
        yield from tqdm(replies, total=len(conversations), desc="judged", disable=None, file=sys.stderr)

    return ask


def ask_local(args, conversations: list[list[dict]]) -> Iterator:
    """(index, reply) of a model that is loaded here, batch by batch."""
    from ftkit.commands.inference import load_conversant, sampling_settings
    from ftkit.evaluation.endpoint import Reply
    from ftkit.evaluation.generation import generate_answers

    conversant = load_conversant(args)
    system = [{"role": "system", "content": args.system}] if args.system else []
    for start in range(0, len(conversations), args.batch_size):
        batch = [
            conversant.prompt_ids([*system, *messages]) for messages in conversations[start : start + args.batch_size]
        ]
        with conversant.active():
            texts = generate_answers(
                conversant.model, conversant.tokenizer, batch, eos_token_ids=conversant.end_token_ids,
                batch_size=args.batch_size, seed=args.seed + start, **sampling_settings(args),
            )  # fmt: skip
        for offset, (ids, text) in enumerate(zip(batch, texts, strict=True)):
            written = len(conversant.tokenizer(text, add_special_tokens=False)["input_ids"])
            yield start + offset, Reply(conversant.shown(text), input_tokens=len(ids), output_tokens=written)
