"""Makes documents searchable: passages by headings and paragraphs, found by their words and by their meaning.

ftkit index manual/ faq.jsonl --output_dir runs/index                              # by words (BM25)
ftkit index manual/ --embedding_model all-MiniLM-L6-v2 --output_dir runs/index     # by meaning too
ftkit index runs/index --search "Which plan has backups?"
ftkit index manual/ --store postgresql://me@host/db --output_dir runs/index        # passages in PostgreSQL (pgvector)
"""

from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.config.terminal import printable
from ftkit.inference.retrieval.retriever import add_search_flags, open_retriever

SHOWN_LETTERS = 300  # of a passage that is found


def main(argv: list[str]) -> None:
    """Parse the command line, and make the index or search it."""
    args = parser().parse_args(argv)
    if args.search is not None:
        search(args)
        return
    if not args.documents or not args.output_dir:
        raise UserError("give the documents and --output_dir, or an index and --search; ftkit index --help shows both")
    from ftkit.inference.retrieval.building import index_documents

    outcome = index_documents(
        args.output_dir, args.documents, embedder=args.embedding_model, max_tokens=args.max_tokens,
        store=args.store or "",
    )  # fmt: skip
    print("\n".join(report(outcome)))
    following = command("index", args.output_dir, "--search", "...")
    print(f"done: {args.output_dir}; next: {following}")


def parser() -> CommandParser:
    """The settings."""
    found = CommandParser(prog="ftkit index", examples=__doc__, description="Make documents searchable; search them.")
    add = found.add_argument
    add(
        "documents", nargs="*", metavar="DOCS",
        help="files and folders: .txt, .md, .rst, .html, .pdf, .docx, and .jsonl with a text per row; with --search: "
        "the folder of an index",
    )  # fmt: skip
    add("--output_dir", help="folder of the index; run again, it takes up what changed and leaves the rest")
    add("--embedding_model", metavar="M", help="folder or Hub id of a sentence encoder; without one words alone count")
    add("--max_tokens", type=int, help="longest passage; default: 200, by the encoder's tokens, else words and signs")
    add("--store", metavar="URL", help="keep passages in PostgreSQL with pgvector: postgresql://USER@HOST/DATABASE")
    add("--search", metavar="QUESTION", help="show what an index finds")
    add_search_flags(found)
    return found


def report(outcome) -> list[str]:
    """What became of the documents, in a few lines."""
    files = {"added": outcome.num_added, "changed": outcome.num_changed, "kept as they were": outcome.num_kept,
             "gone": outcome.num_removed}  # fmt: skip
    done = ", ".join(f"{num:,} {what}" for what, num in files.items() if num)
    passages = f"{counted(outcome.num_passages, 'passage')}, {outcome.num_new_passages:,} of them new"
    return [*outcome.skipped, f"files      {done or 'none'}", f"passages   {passages}"]


def search(args) -> None:
    """Print what an index finds."""
    from ftkit.inference.retrieval.prompting import source_lines

    if len(args.documents) != 1:
        raise UserError("--search looks into one index; name its folder: ftkit index FOLDER --search QUESTION")
    given = [name for name in ("output_dir", "embedding_model", "max_tokens", "store") if getattr(args, name)]
    if given:
        raise UserError(f"--{given[0]} has no effect with --search; drop it")
    found = open_retriever(str(Path(args.documents[0])), args).find(args.search)
    if not found:
        print("nothing was found")
    for line, one in zip(source_lines(found), found, strict=True):
        text = " ".join(one.passage.text.split())
        print(f"{line}  ({one.score:.4g})")
        print(printable(f"    {text[:SHOWN_LETTERS]}{'...' if len(text) > SHOWN_LETTERS else ''}"))
