"""Answers prompts through the model's template, one by one or from a file; by several models side by side.

ftkit generate --adapter runs/first --prompt "Write the plural of: mouse"
ftkit generate --adapter a=runs/first --adapter b=runs/second --file prompts.txt
ftkit generate --compare SmolLM2-135M-Instruct.Q4_1.gguf,runs/first --prompt "Write the plural of: mouse"
"""

import sys
from pathlib import Path

from ftkit.commands.comparison import each_model, side_by_side
from ftkit.config.errors import UserError
from ftkit.config.jsonl import write_jsonl
from ftkit.inference.engine import check_sampling, inference_parser, load_conversants, sampling_settings


def main(argv: list[str]) -> None:
    """Parse the command line, answer every prompt, print or write the answers."""
    parser = inference_parser("ftkit generate", "Answer prompts through the model's template.")
    parser.add_argument("--prompt", action="append", default=[], help="a question; may be given several times")
    parser.add_argument(
        "--file", help="prompts: .txt (one a line), or rows in any format `ftkit sft` reads, answers ignored or missing"
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
    check_sampling(args)
    if args.num_return_sequences > 1 and args.temperature == 0:
        raise UserError("--num_return_sequences above 1 gives equal answers without sampling; add --temperature 0.7")
    if args.output_file and Path(args.output_file).exists():
        raise UserError(f"{args.output_file}: exists already; choose another --output_file")
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
    if args.compare:
        return {name: answer_all(conversant, conversations, args) for name, conversant in each_model(args)}
    conversants = load_conversants(args)
    return {name: answer_all(conversant, conversations, args) for name, conversant in conversants.items()}


def answer_all(conversant, conversations: list[list[dict]], args) -> list[list[str]]:
    """`num_return_sequences` answers to each conversation."""
    from ftkit.inference.generation import generate_answers

    prompts = [conversant.prompt_ids(messages) for messages in conversations]
    repeated = [ids for ids in prompts for _ in range(args.num_return_sequences)]
    with conversant.active():
        answers = generate_answers(
            conversant.model,
            conversant.tokenizer,
            repeated,
            eos_token_ids=conversant.end_token_ids,
            batch_size=args.batch_size,
            seed=args.seed,
            **sampling_settings(args),
        )
    answers = [conversant.shown(answer) for answer in answers]
    num = args.num_return_sequences
    return [answers[start : start + num] for start in range(0, len(answers), num)]


def write_answers(
    conversations: list[list[dict]], answers: dict[str, list[list[str]]], output_file: str | None
) -> None:
    """Print the answers, or write one JSON line for each prompt; those of several models stand by name."""
    rows = [
        (messages[-1]["content"], {name: texts[number] for name, texts in answers.items()})
        for number, messages in enumerate(conversations)
    ]
    is_alone = len(answers) == 1
    if output_file:
        records = (
            {"prompt": prompt, "answers": next(iter(named.values())) if is_alone else named} for prompt, named in rows
        )
        write_jsonl(Path(output_file), records)
        print(f"{len(rows)} prompts answered in {output_file}", file=sys.stderr)
        return
    for prompt, named in rows:
        if len(rows) > 1 or not is_alone:
            print(f"> {prompt}")
        print("\n---\n".join(next(iter(named.values()))) if is_alone else side_by_side(named))
