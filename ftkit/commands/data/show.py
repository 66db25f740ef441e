"""Shows a row at any stage on its way into a model: raw, messages, rendered, tokens, mask, packed.

ftkit data show rows.jsonl --row 3 --stage mask --template alpaca --model M
ftkit data show corpus --pretrain --model M

Trained tokens are green on a terminal and stand between ⟦ and ⟧ elsewhere, so that a log shows them too.
"""

import json
import sys
from itertools import islice
from pathlib import Path

from ftkit.commands.data.common import find_split, load_text_side, row_parser
from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.terminal import has_color, styled
from ftkit.data.reading.loading import Split, log_notes
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.kinds import ANSWERS, select_kind

STAGES = {  # with what they show
    "raw": "as it stands in the file", "messages": "as messages", "rendered": "as the template renders it",
    "tokens": "as tokens", "mask": "what is trained", "packed": "the documents in it",
}  # fmt: skip
NUM_PACKED_ROWS = 1000  # from which packed sequences are made
SEPARATOR = "─" * 40


def main(argv: list[str]) -> None:
    """Print the row, or with --html write it to a page."""
    args = parse(argv)
    if args.pretrain:
        print(block_text(args))
        return
    parts = (packed_parts if args.stage == "packed" else row_parts)(find_split(args), args)
    if args.html:
        print(f"written: {write_html(Path(args.html).expanduser(), args, parts)}")
        return
    from ftkit.data.tokens.receipt_text import marked, printable

    color = has_color(sys.stdout)
    for title, spans in parts:
        print(styled(title, "bold", color) if color else f"{SEPARATOR} {title}")
        print("".join(marked(printable(text), color) if trained else printable(text) for text, trained in spans))


def write_html(path: Path, args, parts: list[tuple[str, list]]) -> Path:
    """Write the parts as a page, with trained text marked; return its path."""
    from ftkit.data.tokens.receipt_text import printable
    from ftkit.evaluation.pages.page import write_page

    shown = [(title, [(printable(text), trained) for text, trained in spans]) for title, spans in parts]
    is_marked = any(trained for _, spans in parts for _, trained in spans)
    note = "marked text is trained, all other text is context" if is_marked else ""
    what = f"Packed sequence {args.row}" if args.stage == "packed" else f"Row {args.row}"
    title = f"{what} of {Path(args.data).name}: {STAGES[args.stage]}"
    return write_page(path, "rows.html", title=title, subtitles=["ftkit data show", note], parts=shown)


def parse(argv: list[str]):
    """The settings; UserError where they contradict each other."""
    parser = row_parser("show", "Show a row at any stage on its way into a model.", __doc__)
    parser.add_argument("--row", type=int, default=1, help="number of the row, from 1; of the sequence, if packed")
    parser.add_argument("--stage", choices=STAGES, help="what to show; mask with a model, else messages")
    parser.add_argument("--model", help="Hub id, folder or .gguf file whose tokenizer is used")
    parser.add_argument("--template", default="auto", help="prompt template, as in ftkit sft")
    parser.add_argument("--max_length", type=int, help="tokens that a row or packed sequence is cut to, as in training")
    parser.add_argument("--pretrain", action="store_true", help="show raw text as ftkit pretrain sees it, block --row")
    parser.add_argument("--block_size", type=int, default=64, help="with --pretrain: tokens of a block")
    parser.add_argument("--html", help="page to write instead of printing")
    args = parser.parse_args(argv)
    if args.pretrain and (args.stage or args.html):
        raise UserError("--pretrain shows blocks, which have no stages and no page; drop --stage and --html")
    args.stage = args.stage or ("mask" if args.model else "messages")
    if args.row < 1:
        raise UserError(f"--row is {args.row}; rows are counted from 1")
    if args.pretrain and not args.model:
        raise UserError("--pretrain needs --model: its tokenizer decides what a block holds; add --model M")
    if args.stage not in ("raw", "messages") and not args.model:
        raise UserError(f"--stage {args.stage} needs --model: its tokenizer decides what a row becomes; add --model M")
    if args.html:
        check_file(Path(args.html).expanduser(), "--html")
    return args


def block_text(args) -> str:
    """The input/target pairs of one block, one per line, as pretraining joins the documents in their order."""
    from ftkit.data.reading.documents import load_documents
    from ftkit.data.tokens.blocks import format_block, join_blocks, tokenized

    tokenizer, _ = load_text_side(args.model, None)
    texts = (row["text"] for row in load_documents(args.data, train_split=args.split, config=args.dataset_config).train)
    blocks = join_blocks((ids for ids, _ in tokenized(texts, tokenizer)), args.block_size)
    block = next(islice(blocks, args.row - 1, None), None)
    if block is None:
        raise UserError(
            f"{args.data}: the text makes fewer than {args.row} blocks of {args.block_size} tokens; lower --row"
        )
    return format_block(block, tokenizer, num_tokens=args.block_size)


def row_parts(split: Split, args) -> list[tuple[str, list]]:
    """(title, [[text, trained], ...]) of each part of one row at args.stage: one, or two for a pair of answers."""
    filled = (record for record in split.open() if not record.is_blank)
    record = next(islice(filled, args.row - 1, None), None)
    if record is None:
        raise UserError(f"{split.label}: there is no row {args.row}; give a smaller --row")
    title = f"{record.where(split.label)} {args.stage}"
    if args.stage == "raw":
        return [(title, [[json.dumps(record.values, ensure_ascii=False, indent=2, default=str), False]])]
    checker = RowChecker(split.label, select_kind(args.format))
    (row,) = checker.rows([record])
    log_notes(checker)
    if args.stage == "messages":
        shown = {name: value for name, value in row.items() if name != "source"}
        return [(title, [[json.dumps(shown, ensure_ascii=False, indent=2), False]])]
    side = text_side(row, args)
    return [(f"{title} {name}".rstrip(), stage_spans(part, *side, args.stage)) for name, part in sequences(row)]


def text_side(row: dict, args) -> tuple:
    """Tokenizer, template (plain text has none) and the longest row in tokens, as the trainer of such rows has them."""
    if not {"messages", "rejected", "completion", "text"} & row.keys():
        raise UserError(f"{row['source']}: rows of this kind are not rendered; show them with --stage raw or messages")
    from ftkit.data.templates.templates import install_template
    from ftkit.runs.row_check import recipe_for
    from ftkit.runs.row_check import text_side as text_side_of

    recipe = recipe_for("preference" if "rejected" in row else "kto" if "completion" in row else "conversation")
    tokenizer, limit = text_side_of(recipe, args.model, args.max_length)
    return tokenizer, None if "text" in row else install_template(tokenizer, args.template), limit


def sequences(row: dict) -> list[tuple[str, dict]]:
    """What goes through the model for a row: itself, or the prompt with each of two answers."""
    names = ANSWERS if "rejected" in row else ("completion",) if "completion" in row else ()
    if not names:
        return [("", row)]
    from ftkit.data.tokens.preferences import conversation

    titles = names if "rejected" in row else ("wanted" if row["label"] else "unwanted",)
    return [(title, conversation(row, name)) for title, name in zip(titles, names, strict=True)]


def stage_spans(row: dict, tokenizer, info, limit: int | None, stage: str) -> list[list]:
    """The row as rendered text, as tokens one per line, or as text with the trained tokens marked."""
    from ftkit.data.templates.templates import plain_text_info
    from ftkit.data.tokens.receipt_text import runs
    from ftkit.data.tokens.tokenization import IGNORE_INDEX, render_row, tokenize_rows

    if stage == "rendered":
        return [[render_row(row, tokenizer, info or plain_text_info(tokenizer)).text, False]]
    (tokens,) = tokenize_rows([row], tokenizer, info, limit).rows
    ids, trained = tokens["input_ids"], [label != IGNORE_INDEX for label in tokens["labels"]]
    if stage == "mask":
        return runs(ids, trained, tokenizer)
    lines = []
    for position, (token, is_trained) in enumerate(zip(ids, trained, strict=True)):
        lines.append([f"{position:>5} {token:>7}  ", False])
        lines.append([repr(tokenizer.decode([token])), is_trained])
        lines.append(["\n", False])
    return lines


def packed_parts(split: Split, args) -> list[tuple[str, list]]:
    """The documents of one packed sequence, as a trainer packs the first rows in their order."""
    from datasets import Dataset
    from trl import pack_dataset

    from ftkit.data.tokens.receipt import documents
    from ftkit.data.tokens.receipt_text import runs
    from ftkit.data.tokens.tokenization import IGNORE_INDEX, tokenize_rows

    checker = RowChecker(split.label, select_kind(args.format))
    rows = list(checker.rows(islice(split.open(), NUM_PACKED_ROWS)))
    if "messages" not in rows[0] and "text" not in rows[0]:
        raise UserError(f"{rows[0]['source']}: only conversations and text are packed; choose another --stage")
    tokenizer, info, limit = text_side(rows[0], args)
    tokenized = tokenize_rows(rows, tokenizer, info, limit)
    packed = pack_dataset(Dataset.from_list(tokenized.rows), limit or max(tokenized.lengths), "bfd")
    if args.row > len(packed):
        made = f"the first {len(rows)} rows make {len(packed)} packed sequences"
        raise UserError(f"{split.label}: {made}; give a smaller --row")
    sequence = packed[args.row - 1]
    parts = []
    for number, (ids, labels) in enumerate(documents(sequence), start=1):
        title = f"packed sequence {args.row} of {len(packed)}, document {number}: {len(ids)} tokens"
        parts.append((title, runs(ids, [label != IGNORE_INDEX for label in labels], tokenizer)))
    return parts
