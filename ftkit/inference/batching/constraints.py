"""Answers held to a form, token by token: a JSON schema, a regular expression, one of several texts, a call of a tool.

    grammars = Grammars()
    constraint = grammars.constraint(schema_form({"type": "integer"}), tokenizer, stop_ids)   # one for each answer

A grammar is compiled by xgrammar, first in a process of its own: what takes its time or memory does no harm there.
"""

import hashlib
import importlib.util
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from ftkit.config.errors import LimitError, UserError
from ftkit.config.foreign import foreign, tried
from ftkit.inference.batching.json_schemas import checked_schema, subschemas

LITERAL, SCHEMA, REGEX = "literal", "schema", "regex"
MAX_PATTERN, MAX_GROUPS, MAX_COUNT = 2000, 32, 1000  # letters, nested groups, and the count in {1000}
MAX_BYTES = 256 * 2**20  # of compiled grammars that are kept
COMPILE_SECONDS = 5  # of the processor
FIX = "simplify it"
BITS = 32  # of a word of the mask
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")
JSON_STRING = "json_string=true"  # how xgrammar writes a pattern whose matches are held to be JSON


class Piece(NamedTuple):
    """A part of an answer. kind: how its text is meant."""

    kind: str
    text: str


Form = tuple[tuple[Piece, ...], ...]  # alternatives, each of pieces that follow one another


def schema_form(schema: Any) -> Form:
    """An answer that meets a JSON schema. Raises UserError for one that can't be enforced."""
    text = checked_schema(schema)
    for pattern in patterns_of(text):
        regex_form(pattern)
    return ((Piece(SCHEMA, text),),)


def patterns_of(schema: str) -> set[str]:
    """The patterns of texts in a checked schema."""
    return {node["pattern"] for node, _ in subschemas(json.loads(schema), 0) if "pattern" in node}


def object_form() -> Form:
    """An answer that is any JSON object."""
    return schema_form({"type": "object"})


def choice_form(texts: Sequence[str]) -> Form:
    """An answer that is one of these texts."""
    return tuple((Piece(LITERAL, text),) for text in texts)


def regex_form(pattern: str) -> Form:
    """An answer that a regular expression matches as a whole. Raises UserError for one that is too large, or none."""
    depth = deepest = 0
    for letter in re.sub(r"\\.|\[(?:\\.|[^]\\])*\]", "", pattern, flags=re.DOTALL):
        depth += (letter == "(") - (letter == ")")
        deepest = max(deepest, depth)
    counts = [int(count) for count in re.findall(r"[{,](\d{1,9})(?=\d*[,}])", pattern)]
    if len(pattern) > MAX_PATTERN or deepest > MAX_GROUPS or max(counts, default=0) > MAX_COUNT:
        raise UserError(
            f"the regular expression has more than {MAX_PATTERN:,} letters, {MAX_GROUPS} groups in each other, or "
            f"counts above {MAX_COUNT:,}; {FIX}"
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"the regular expression is none ({error}); correct it") from error
    return ((Piece(REGEX, pattern),),)


def check_xgrammar() -> None:
    """Raise UserError without the package that compiles grammars."""
    if importlib.util.find_spec("xgrammar") is None:
        raise UserError("answers of a given form need xgrammar; pip install 'ftkit[serve]'")


class Grammars:
    """Compiled grammars by tokenizer and form; those that were not asked for longest make room."""

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes, self.lock = max_bytes, threading.Lock()
        self.vocabularies: dict[str, Vocabulary] = {}  # by the digest of a tokenizer
        self.compiled: OrderedDict[tuple[str, Form], Any] = OrderedDict()

    def constraint(self, form: Form, tokenizer, stop_ids: Sequence[int]) -> "GrammarConstraint":
        """A constraint for one answer. stop_ids: tokens that may end it.

        Raises UserError for a form that no grammar can be made of, or only in more time or memory than it may take.
        """
        check_xgrammar()
        digest = vocabulary_digest(tokenizer)
        key = (digest, form)
        with self.lock:
            if digest not in self.vocabularies:
                self.vocabularies[digest] = vocabulary_of(tokenizer)
            vocabulary = self.vocabularies[digest]
            if key not in self.compiled:
                self.compiled[key] = compile_form(form, vocabulary.compiler)
            self.compiled.move_to_end(key)
            while len(self.compiled) > 1 and self.num_bytes() > self.max_bytes:
                self.compiled.popitem(last=False)
            return GrammarConstraint(self.compiled[key], stop_ids, vocabulary.never(form))

    def num_bytes(self) -> int:
        """Memory of the grammars that are kept."""
        return sum(grammar.memory_size_bytes for grammar in self.compiled.values())


@lru_cache(maxsize=32)
def vocabulary_digest(tokenizer) -> str:
    """What names a tokenizer: two adapters with copies of one share their grammars."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


class Vocabulary(NamedTuple):
    """A tokenizer as grammars need it. special_V, control_V: (V,) bool: special tokens, and those with a control
    character other than a line feed."""

    compiler: Any
    special_V: torch.Tensor
    control_V: torch.Tensor

    def never(self, form: Form) -> torch.Tensor:
        """(V,) bool: tokens that are in no answer of this form, whatever xgrammar allows.

        Special tokens are no text; and its texts of a given length may hold control characters, which JSON's can't.
        """
        holds_json = any(piece.kind == SCHEMA for pieces in form for piece in pieces)
        return self.special_V | self.control_V if holds_json else self.special_V


def vocabulary_of(tokenizer) -> Vocabulary:
    """The vocabulary of a tokenizer, with xgrammar's compiler for it."""
    import xgrammar

    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))
    control_V = torch.tensor([bool(CONTROL.search(token)) for token in info.decoded_vocab])
    special_V = torch.zeros(len(tokenizer), dtype=torch.bool)
    special_V[[id for id, token in tokenizer.added_tokens_decoder.items() if token.special]] = True
    compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    return Vocabulary(compiler, special_V, control_V)


def compile_form(form: Form, compiler) -> Any:
    """The compiled grammar of a form, after a trial in a child process."""

    def work() -> Any:
        return compiler.compile_grammar(grammar_of(form))

    what = "the form of the answer (JSON schema, regular expression or tools)"
    try:
        tried(work, what, FIX, cpu_seconds=COMPILE_SECONDS, wall_seconds=COMPILE_SECONDS * 4)
    except LimitError as error:
        raise UserError(str(error)) from error
    with foreign(what, "can't be made a grammar", FIX):
        return work()


def grammar_of(form: Form) -> Any:
    """xgrammar's grammar of a form."""
    from xgrammar import Grammar

    alternatives = []
    for pieces in form:
        parts = [piece_grammar(piece) for piece in pieces]
        alternatives.append(Grammar.concat(*parts) if len(parts) > 1 else parts[0])
    return Grammar.union(*alternatives) if len(alternatives) > 1 else alternatives[0]


def piece_grammar(piece: Piece) -> Any:
    """xgrammar's grammar of a piece; JSON is written on one line, so that it can't go on with white space for ever."""
    from xgrammar import Grammar

    if piece.kind == SCHEMA:
        for pattern in patterns_of(piece.text):  # xgrammar writes some as they are, quotes and all
            if JSON_STRING not in str(Grammar.from_json_schema(json.dumps({"type": "string", "pattern": pattern}))):
                raise UserError(
                    f"the pattern {json.dumps(pattern[:40])} needs letters that JSON escapes; leave them out"
                )
        return Grammar.from_json_schema(piece.text, any_whitespace=False, strict_mode=True)
    if piece.kind == REGEX:
        return Grammar.from_regex(piece.text)
    letters = "".join(f"\\U{ord(letter):08X}" if not letter.isalnum() else letter for letter in piece.text)
    return Grammar.from_ebnf(f'root ::= "{letters}"')


class GrammarConstraint:
    """One answer that follows a compiled grammar (`ftkit.inference.batching.request.Constraint`)."""

    def __init__(self, compiled, stop_ids: Sequence[int], never_V: torch.Tensor):
        import xgrammar

        self.matcher = xgrammar.GrammarMatcher(compiled, override_stop_tokens=list(stop_ids))
        self.stop_ids, self.never_V = list(stop_ids), never_V.clone()
        self.never_V[self.stop_ids] = False
        self.words = xgrammar.allocate_token_bitmask(1, len(never_V))
        self.allowed_V: torch.Tensor | None = None  # of the next token, once it was asked for
        self.has_ended = False

    def allowed(self) -> torch.Tensor:
        """(V,) bool: the tokens that may come next; those that end an answer where nothing else may."""
        if self.allowed_V is None:
            self.matcher.fill_next_token_bitmask(self.words)
            bits = self.words[0][:, None] >> torch.arange(BITS, dtype=torch.int32)
            self.allowed_V = (bits & 1).bool().flatten()[: len(self.never_V)] & ~self.never_V
            if not self.allowed_V.any():
                self.allowed_V[self.stop_ids] = True
        return self.allowed_V

    def mask(self, logits_V: torch.Tensor) -> None:
        """Set the logits of all tokens that may not come next to minus infinity, in place."""
        allowed_V = self.allowed()[: len(logits_V)].to(logits_V.device)
        logits_V[: len(allowed_V)].masked_fill_(~allowed_V, -torch.inf)
        logits_V[len(allowed_V) :] = -torch.inf  # the model's head may be wider than the vocabulary
        if not torch.isfinite(logits_V).any():  # what may come next was ruled out before, such as an end too early
            logits_V[self.stop_ids] = 0

    def accept(self, token: int) -> None:
        """Go on by a token that was drawn."""
        self.allowed_V = None
        if token in self.stop_ids or not self.matcher.accept_token(token):
            self.has_ended = True

    def is_complete(self) -> bool:
        """Whether the answer may end here, and nothing else may follow."""
        if self.has_ended:
            return True
        allowed_V = self.allowed()
        return int(allowed_V.sum()) == int(allowed_V[self.stop_ids].sum())
