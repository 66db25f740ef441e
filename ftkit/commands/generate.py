"""Answers prompts through the model's template, one by one or from a file.

ftkit generate --adapter runs/first --prompt "Write the plural of: mouse"
"""

import json
import sys
from pathlib import Path

from ftkit.commands.inference import check_sampling, inference_parser, load_conversant, sampling_settings
from ftkit.config.errors import UserError


def main(argv: list[str]) -> None:
    """Parse the command line, answer every prompt, print or write the answers."""
    parser = inference_parser("ftkit generate", "Answer prompts through the model's template.")
    parser.add_argument("--prompt", action="append", default=[], help="a question; may be given several times")
    parser.add_argument(
        "--file", help="prompts: .txt (one a line), or rows in any format `ftkit sft` reads (answers ignored)"
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
        conversations += read_conversations(args.file)
    if not conversations:
        raise UserError("nothing to answer; give --prompt TEXT or --file FILE")
    if args.system:
        conversations = [[{"role": "system", "content": args.system}, *messages] for messages in conversations]
    write_answers(conversations, answer_all(conversations, args), args.output_file)


def read_conversations(path: str) -> list[list[dict]]:
    """Conversations up to the last answer, from a file of prompts or of rows.

    Raises UserError as the reader and the formats do.
    """
    from ftkit.data.loading import load_rows

    rows = load_rows(path).train
    if "text" in rows[0]:
        return [[{"role": "user", "content": row["text"]}] for row in rows]
    return [row["messages"][:-1] for row in rows]


def answer_all(conversations: list[list[dict]], args) -> list[list[str]]:
    """`num_return_sequences` answers to each conversation."""
    from ftkit.evaluation.generation import generate_answers

    conversant = load_conversant(args)
    prompts = [conversant.prompt_ids(messages) for messages in conversations]
    repeated = [ids for ids in prompts for _ in range(args.num_return_sequences)]
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


def write_answers(conversations: list[list[dict]], answers: list[list[str]], output_file: str | None) -> None:
    """Print the answers, or write one JSON line for each prompt."""
    if output_file:
        with open(output_file, "x", encoding="utf-8") as file:
            for messages, texts in zip(conversations, answers, strict=True):
                record = {"prompt": messages[-1]["content"], "answers": texts}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        print(f"{len(answers)} prompts answered in {output_file}", file=sys.stderr)
        return
    for messages, texts in zip(conversations, answers, strict=True):
        if len(conversations) > 1:
            print(f"> {messages[-1]['content']}")
        print("\n---\n".join(texts))
