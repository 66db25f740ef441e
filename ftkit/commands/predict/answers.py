"""`ftkit reward --predict`: scores the answers of a file by a reward model.

ftkit reward --predict answers.jsonl --model_name_or_path runs/reward > scored.jsonl

Rows are pairs (chosen, rejected) or conversations, in any form that ftkit trains on. One line of JSON per row: its
messages with "score", or the prompt with both answers and "chosen_score" and "rejected_score". Of pairs, how many are
in the right order is shown on stderr.
"""

from ftkit.commands.predict.common import check_settings, loading, predicting_parser, read_file, report, write
from ftkit.config.errors import UserError

FILE = "of pairs or conversations, as ftkit trains on"


def main(argv: list[str]) -> None:
    """Load, score, write."""
    args = parse(argv)
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.inference.reward_model import load_reward_model

    rows = read_answers(args)
    quiet_libraries()
    use_all_cores()
    model = load_reward_model(args.model_name_or_path, **loading(args))
    talks = [talk for row in rows for talk in conversations(row)]
    scores = iter(model.scores(talks, batch_size=args.batch_size))
    scored = [{name: value for name, value in row.items() if name != "source"} | named(row, scores) for row in rows]
    write(args, scored)
    right = [row["chosen_score"] > row["rejected_score"] for row in scored if "rejected_score" in row]
    report(args, f"{len(scored)} rows scored", right, "pairs are in the right order")


def parse(argv: list[str]):
    """The settings of the command line, checked as far as they can be without the model."""
    parser = predicting_parser(
        "reward", "Score the answers of a file by a reward model.", __doc__, file=FILE,
        model="any classifier with one label", unit="conversations",
    )  # fmt: skip
    args = parser.parse_args(argv)
    check_settings(args, "reward", FILE)
    return args


def read_answers(args) -> list[dict]:
    """The rows of the file. Raises UserError with file and line for one without an answer."""
    from ftkit.data.rows.kinds import asking_kind

    rows = read_file(args, asking_kind())
    for row in rows:
        if "messages" in row and row["messages"][-1]["role"] != "assistant":
            raise UserError(f"{row['source']}: does not end with the assistant's turn; add the answer")
    return rows


def conversations(row: dict) -> list[list[dict]]:
    """What is scored of a row: both answers of a pair, else its one answer."""
    from ftkit.data.rows.conversion import answered

    if "messages" in row:
        return [row["messages"]]
    names = ("chosen", "rejected") if "rejected" in row else ("completion",)
    return [answered(row["prompt"], row[name])["messages"] for name in names]


def named(row: dict, scores) -> dict[str, float]:
    """The next scores, by the name that a row has for them."""
    names = ("chosen_score", "rejected_score") if "rejected" in row else ("score",)
    return {name: next(scores) for name in names}
