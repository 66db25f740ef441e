"""What a command asks an index for: the passages for a conversation, as --index and its flags say.

retriever = retriever_of(args)                       # None without --index
messages, found = retriever.sourced(messages)        # found: for `source_lines`
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.inference.asking import PLAIN
from ftkit.inference.retrieval.ranking import METHODS

USUAL = {"num_sources": 5, "search_method": METHODS[0], "reranker": None}  # flag: its default


@dataclass(frozen=True)
class Retriever:
    """An index, and how it is asked."""

    index: Any
    num_sources: int = 5
    method: str = METHODS[0]

    def identity(self) -> dict[str, Any]:
        """What answers from it depend on, for a record of them."""
        index = self.index
        return {
            "index": str(index.folder), "index_hash": index.fingerprint(), "search_method": self.method,
            "num_sources": self.num_sources, "reranker": index.reranker_name,
        }  # fmt: skip

    def find(self, question: str) -> list:
        """The passages for a question, the best first."""
        return self.index.search(question, self.num_sources, self.method)

    def sourced(self, messages: Sequence[dict]) -> tuple[list[dict], list]:
        """The conversation with the passages for its last question in front of that, and those passages."""
        from ftkit.inference.retrieval.prompting import last_question, with_sources

        found = self.find(last_question(messages))
        return with_sources(messages, found), found


def add_index_flags(parser: CommandParser) -> None:
    """Add --index and how it is searched."""
    parser.add_argument("--index", metavar="FOLDER", help="answer from the passages of an index of ftkit index")
    add_search_flags(parser, "of --index: ")


def add_search_flags(parser: CommandParser, whose: str = "") -> None:
    """Add how an index is searched."""
    add = parser.add_argument
    add("--num_sources", type=int, default=USUAL["num_sources"], metavar="N", help=f"{whose}passages for a question")
    add(
        "--search_method", choices=METHODS, default=USUAL["search_method"],
        help=f"{whose}bm25: by words, dense: by meaning, hybrid: both, as far as the index has an encoder",
    )  # fmt: skip
    add("--reranker", metavar="M", help=f"{whose}folder or Hub id of a cross-encoder that orders what was found")


def retriever_of(args: argparse.Namespace) -> Retriever | None:
    """The index that parsed flags name, open; None where they name none. Raises UserError for flags without it."""
    if args.index:
        return open_retriever(args.index, args)
    for name, usual in USUAL.items():
        if getattr(args, name) != usual:
            raise UserError(f"--{name} has no effect without --index; add --index FOLDER, or drop it")
    return None


def check_sources(args: argparse.Namespace) -> None:
    """Raise UserError for passages where text is continued as it is (--template none)."""
    if args.index and args.template == PLAIN:
        raise UserError(f"--index with --template {PLAIN}: a text that is continued asks no question; drop one of them")


def open_retriever(folder: str, args: argparse.Namespace) -> Retriever:
    """The index of a folder, asked as parsed flags say."""
    if args.num_sources < 1:
        raise UserError(f"--num_sources is {args.num_sources}; give at least 1")
    from ftkit.inference.retrieval.index import Index

    return Retriever(Index.open(folder, reranker=args.reranker), args.num_sources, args.search_method)
