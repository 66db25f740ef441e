"""Trains a byte-level BPE tokenizer, or takes GPT-2's, and shows how well it compresses held-out text.

ftkit tokenizer --files corpus --vocab_size 4096 --output_dir runs/tokenizer
"""

import itertools
import random
from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command

HELD_OUT_SHARE = 0.01  # of the documents, where no split is held out
MAX_HELD_OUT_BYTES = 1_000_000  # enough for three digits


def main(argv: list[str]) -> None:
    """Parse the command line, make the tokenizer, save it and say what it is worth."""
    args = parse(argv)
    from ftkit.config.files import check_folder, staged_folder
    from ftkit.config.output_folder import check_new_folder
    from ftkit.config.quiet import quiet_libraries
    from ftkit.data.tokens.bpe import control_tokens, load_gpt2, train_bpe

    quiet_libraries()
    check_folder(args.output_dir)
    check_new_folder(args.output_dir)
    train, held_out = read_texts(args)
    tokens = control_tokens(args.control_tokens)
    if args.gpt2 is not None:
        tokenizer = load_gpt2(args.gpt2, tokens)
    else:
        tokenizer = train_bpe(train, args.vocab_size, tokens)
    if args.context:
        tokenizer.model_max_length = args.context
    with staged_folder(args.output_dir) as staging:
        tokenizer.save_pretrained(staging)
    print("\n".join(report(tokenizer, held_out, args.compare)))
    following = command("pretrain", "--tokenizer", args.output_dir, "--dataset_name", "D", "--output_dir", "OUT")
    print(f"saved: {args.output_dir}; next: {following}")


def parse(argv: list[str]):
    """The settings; UserError where they contradict each other."""
    parser = CommandParser(
        prog="ftkit tokenizer", examples=__doc__, description="Train a byte-level BPE tokenizer, or take GPT-2's."
    )
    parser.add_argument("--files", nargs="+", default=[], help="text files, folders, jsonl, parquet, bundled names")
    parser.add_argument("--vocab_size", type=int, help="tokens in all, special ones included")
    parser.add_argument(
        "--gpt2", nargs="?", const="", metavar="FOLDER",
        help="take GPT-2's vocabulary, the bundled one or that of a folder (vocab.json, merges.txt or OpenAI's names)",
    )  # fmt: skip
    parser.add_argument("--output_dir", required=True, help="folder to make; must not exist, or be empty")
    parser.add_argument("--control_tokens", nargs="+", default=[], help="templates whose control tokens are reserved")
    parser.add_argument("--context", type=int, help="longest input the model will take, noted in the tokenizer")
    parser.add_argument("--encoding", help="encoding of text files that are not UTF-8, such as cp1252")
    parser.add_argument("--document_separator", help="text that ends a document within a text file")
    parser.add_argument(
        "--compare", nargs="*", default=[], help="other tokenizers to compare with: folders, .gguf files"
    )
    args = parser.parse_args(argv)
    if (args.gpt2 is not None) == bool(args.vocab_size):
        raise UserError("give --vocab_size to train a vocabulary, or --gpt2 to take GPT-2's, not both")
    if args.vocab_size and not args.files:
        raise UserError("--vocab_size needs texts to learn from; give --files")
    return args


def read_texts(args) -> tuple[list[str], list[str]]:
    """Texts to learn from, and held-out ones: the validation or test splits, else a share of the documents."""
    from ftkit.data.reading.documents import load_documents, text_files
    from ftkit.data.reading.read_as import ReadAs

    train, held_out, read_as = [], [], ReadAs.of(encoding=args.encoding)
    for name in args.files:
        is_text = bool(text_files(Path(name).expanduser()))
        rows = load_documents(name, separator=args.document_separator if is_text else None, read_as=read_as)
        train += [row["text"] for row in rows.train]
        held_out += [row["text"] for row in rows.test or []]
    if not held_out and len(train) > 1:
        random.Random(0).shuffle(train)
        cut = max(1, round(len(train) * HELD_OUT_SHARE))
        train, held_out = train[cut:], train[:cut]
    sizes = itertools.accumulate(len(text.encode()) for text in held_out)
    return train, [text for text, size in zip(held_out, sizes, strict=True) if size <= MAX_HELD_OUT_BYTES]


def report(tokenizer, held_out: list[str], others: list[str]) -> list[str]:
    """The size, and bytes per token on held-out text beside SmolLM2's, where it is installed, and those of `others`."""
    from ftkit.data.tokens.bpe import bytes_per_token
    from ftkit.model.loading import find_bundled_smollm2, load_tokenizer

    lines = [f"vocabulary {len(tokenizer)} tokens; the first: {', '.join(tokenizer.convert_ids_to_tokens(range(3)))}"]
    if not held_out:
        return [*lines, "no text is held out, so nothing is measured; give more documents"]
    size = sum(len(text.encode()) for text in held_out)
    lines.append(f"held out   {counted(len(held_out), 'document')}, {size / 1e6:.2f} MB")
    named = {"this tokenizer": tokenizer}
    smollm2 = find_bundled_smollm2()
    named |= {"SmolLM2": load_tokenizer(smollm2)} if smollm2 else {}
    named |= {Path(name).name or name: other_tokenizer(name) for name in others}
    for name, each in named.items():
        lines.append(f"  {bytes_per_token(each, held_out):5.2f} bytes per token  {name} ({len(each)} tokens)")
    return lines


def other_tokenizer(name: str):
    """A tokenizer to compare with: a folder of GPT-2's two files, or whatever `load_tokenizer` takes."""
    from ftkit.data.tokens.bpe import GPT2_FILES, load_gpt2
    from ftkit.model.loading import load_tokenizer

    folder = Path(name).expanduser()
    is_gpt2 = any(all((folder / file).is_file() for file in files) for files in GPT2_FILES)
    return load_gpt2(folder) if is_gpt2 and not (folder / "tokenizer.json").is_file() else load_tokenizer(name)
