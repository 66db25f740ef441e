"""Answers prompts through the model's template, one by one or from a file; by several models side by side.

ftkit generate --adapter runs/first --prompt "Write the plural of: mouse"
ftkit generate --adapter a=runs/first --adapter b=runs/second --file prompts.txt
ftkit generate --compare SmolLM2-135M-Instruct.Q4_1.gguf,runs/first --prompt "Write the plural of: mouse"
"""

import sys
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.jsonl import write_or_print
from ftkit.inference.asking import asking_parser, model_settings, sampling_of


def main(argv: list[str]) -> None:
    """Parse the command line, answer every prompt, print or write the answers."""
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
    parser.add_argument("--output_file", help="write JSON lines with prompt and answers instead of printing")
    parser.add_argument("--num_return_sequences", type=int, default=1, help="answers to each prompt")
    parser.add_argument("--batch_size", type=int, default=16, help="prompts answered at once")
    args = parser.parse_args(argv)
    sampling_of(args)
    if args.num_return_sequences < 1 or args.batch_size < 1:
        raise UserError("--num_return_sequences and --batch_size start at 1")
    if args.num_return_sequences > 1 and args.temperature == 0:
        raise UserError("--num_return_sequences above 1 gives equal answers without sampling; add --temperature 0.7")
    if args.output_file and Path(args.output_file).exists():
        raise UserError(f"{args.output_file}: exists already; choose another --output_file")
    if args.output_file:
        check_file(args.output_file, "--output_file")
    conversations = [[{"role": "user", "content": prompt}] for prompt in args.prompt]
    if args.file:
        from ftkit.data.rows.questions import read_conversations

        conversations += read_conversations(args.file)
    if not conversations:
        raise UserError("nothing to answer; give --prompt TEXT or --file FILE")
    if args.system:
        conversations = [[{"role": "system", "content": args.system}, *messages] for messages in conversations]
    write_answers(conversations, answers_by_name(conversations, args), args.output_file)


def answers_by_name(conversations: list[list[dict]], args) -> dict[str, list[list[str]]]:
    """For each model or adapter by name, `num_return_sequences` answers to each conversation."""
    from ftkit.inference.engine import Engine
    from ftkit.inference.side_by_side import each_engine, models_to_compare

    if not args.compare:
        engine = Engine.load(model_settings(args))
        return {name: answer_all(engine, name, conversations, args) for name in engine.voices}
    if args.adapter or args.model_name_or_path:
        raise UserError("--compare names the models itself; drop --model_name_or_path and --adapter")
    models = models_to_compare(args.compare)
    settings = model_settings(args, model_name_or_path=next(iter(models.values())))
    return {name: answer_all(engine, None, conversations, args) for name, engine in each_engine(models, settings)}


def answer_all(engine, name: str | None, conversations: list[list[dict]], args) -> list[list[str]]:
    """`num_return_sequences` answers of a voice to each conversation."""
    num = args.num_return_sequences
    repeated = [messages for messages in conversations for _ in range(num)]
    answers = engine.answers(repeated, sampling_of(args), name, batch_size=args.batch_size)
    return [answers[start : start + num] for start in range(0, len(answers), num)]


def write_answers(
    conversations: list[list[dict]], answers: dict[str, list[list[str]]], output_file: str | None
) -> None:
    """Print the answers, or write one JSON line for each prompt; those of several models stand by name."""
    from ftkit.inference.side_by_side import side_by_side

    rows = [
        (messages[-1]["content"], {name: texts[number] for name, texts in answers.items()})
        for number, messages in enumerate(conversations)
    ]
    is_alone = len(answers) == 1
    if output_file:
        records = (
            {"prompt": prompt, "answers": next(iter(named.values())) if is_alone else named} for prompt, named in rows
        )
        write_or_print(Path(output_file), records)
        print(f"{len(rows)} prompts answered in {output_file}", file=sys.stderr)
        return
    for prompt, named in rows:
        if len(rows) > 1 or not is_alone:
            print(f"> {prompt}")
        print("\n---\n".join(next(iter(named.values()))) if is_alone else side_by_side(named))
