"""Log-likelihoods of continuations, in nats, with every token that several of them share computed once.

Questions that begin alike (few-shot examples) share the keys and values of that beginning; the questions themselves and
the continuations of each stand in one sequence without padding, and a mask lets each see its own question only. Where a
model can't do that exactly, which is checked, continuations are scored by plain forwards.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from ftkit.inference.generation import evaluation_mode, in_halves, prefix_cache, shared_prefix, uses_soft_prompt
from ftkit.inference.scoring import HEAD_TOLERANCE, choose_scorer
from ftkit.model.context import context_size

# B batch, T tokens of a row, P tokens of the shared prefix, S tokens of a pack, N scored positions, V vocabulary

DEFAULT_CONTEXT = 2048  # tokens, of a model that names no limit, as in lm-eval
MASKABLE_ATTENTION = ("sdpa", "eager")  # attention that takes any mask
CHECKED_TOKENS = 64  # of a context, when shared and plain computing are held against each other
LOGITS_BYTES = 2**30  # at most, of one plain forward


# A plain forward's input, and its targets: token ids that its last positions predict, all equally many.
Row = tuple[list[int], list[list[int]]]


@dataclass(frozen=True)
class Question:
    """Token ids: a context, which is not empty, and the continuations to be scored after it, none of them empty."""

    context: list[int]
    continuations: list[list[int]]

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward sees: the last one of a continuation is only predicted."""
        return len(self.context) + sum(len(ids) - 1 for ids in self.continuations)

    @property
    def longest(self) -> int:
        """Tokens of the context and the longest continuation."""
        return len(self.context) + max(map(len, self.continuations))


def encode_question(tokenizer: PreTrainedTokenizerBase, context: str, continuations: Sequence[str]) -> Question:
    """Token ids by the rules of lm-eval: spaces that end the context move to the continuation, both are encoded as one
    text and cut where the context alone would end; an empty context is the model's first token.

    Raises ValueError for a continuation that has no token of its own.
    """
    stripped = context.rstrip()
    moved = context[len(stripped) :]
    if not stripped:  # nothing stands in front but the token every text begins with
        first = prefix_token(tokenizer)
        prefix = [] if first is None else [first]
        encoded = [encode(tokenizer, moved + text) for text in continuations]
        ids = [row[1:] if row[:1] == prefix else row for row in encoded]
        return checked(Question(prefix, ids), continuations)
    head = encode(tokenizer, stripped)
    return checked(
        Question(head, [encode(tokenizer, stripped + moved + text)[len(head) :] for text in continuations]),
        continuations,
    )


def checked(question: Question, continuations: Sequence[str]) -> Question:
    """The question, or ValueError if a continuation has no tokens."""
    for ids, text in zip(question.continuations, continuations, strict=True):
        if not ids:
            raise ValueError(f"continuation {text!r} has no token of its own after its context; change one of them")
    return question


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids with the tokenizer's own special tokens, unless the text begins with the first of them already."""
    first = prefix_token(tokenizer)
    starts = first is not None and text.startswith(tokenizer.decode([first]))
    return tokenizer(text, add_special_tokens=not starts)["input_ids"]


def prefix_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that stands in front of a text: bos, else eos."""
    return tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id


def context_length(model) -> int:
    """The most tokens that the model sees at once."""
    return context_size(model.config) or DEFAULT_CONTEXT


def rolling_windows(ids: Sequence[int], first: int, max_length: int) -> list[tuple[list[int], int]]:
    """(window, number of its last tokens that are scored), so that every token of a text is scored exactly once.

    The first window begins with the token `first`; each further one holds as much text as fits, of which only what was
    not scored yet is scored after one token of context (as lm-eval scores a text, which keeps no further context).
    """
    windows, done = [], 0
    while done < len(ids):
        scored = min(len(ids) - done, max_length)
        context = [first] if done == 0 else [ids[done - 1]]
        windows.append((context + list(ids[done : done + scored]), scored))
        done += scored
    return windows


def plan_packs(sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Places of what is computed together, largest first; a pack has at most `max_tokens` tokens, or one place."""
    packs: list[list[int]] = []
    filled = 0
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        if not packs or filled + sizes[index] > max_tokens:
            packs.append([])
            filled = 0
        packs[-1].append(index)
        filled += sizes[index]
    return packs


class LikelihoodScorer:
    """Scores questions with one model; keeps the keys and values of the last shared prefix."""

    def __init__(self, model, pad_token_id: int):
        self.model, self.pad_token_id = model, pad_token_id
        self.max_length = context_length(model)
        self.shares = can_share(model)  # until a check says otherwise
        self.is_checked = False
        self.prefix: list[int] = []
        self.cache: DynamicCache | None = None
        self.plain: Callable | None = None

    def score(self, questions: Sequence[Question], prefix: list[int]) -> list[list[float]]:
        """The log-likelihood of each continuation of each question. prefix: ids with which all contexts begin.

        A continuation that does not fit after its context is scored after the context's end.
        """
        with evaluation_mode(self.model):
            fits = all(question.longest <= self.max_length for question in questions)
            if not (fits and self.shares and self.keep_prefix(prefix)):
                return self.score_plainly(questions)
            if not self.is_checked:
                self.check(min(questions, key=lambda question: question.num_tokens))
            return self.score_packed(questions) if self.shares else self.score_plainly(questions)

    def score_windows(self, windows: Sequence[tuple[list[int], int]]) -> list[float]:
        """The log-likelihood of the last tokens of each window of `rolling_windows`."""
        rows = [(ids[:-1], [ids[-count:]]) for ids, count in windows]
        with evaluation_mode(self.model):
            values = plain_log_likelihoods(self.plain_scorer(rows[0][0]), rows, self.pad_token_id, self.model)
        return [value for (value,) in values]

    def keep_prefix(self, prefix: list[int]) -> bool:
        """Have the keys and values of `prefix` at hand; False where a copy of them would not be exact."""
        if prefix != self.prefix:
            self.cache = prefix_cache(self.model, prefix) if prefix else None
            self.prefix = prefix
        return not prefix or self.cache is not None

    def score_packed(self, questions: Sequence[Question]) -> list[list[float]]:
        """`score` by packed forwards after the kept prefix."""
        return in_halves(lambda some: packed_log_likelihoods(self.model, self.cache, len(self.prefix), some), questions)

    def score_plainly(self, questions: Sequence[Question]) -> list[list[float]]:
        """`score` by plain forwards of padded rows."""
        places: dict[tuple, int] = {}
        rows: list[Row] = []  # continuations that differ in their last token only are rows of one forward
        for question in questions:
            for tokens in question.continuations:
                ids = (question.context + tokens)[-(self.max_length + 1) :]
                place = places.setdefault((tuple(ids[:-1]), len(tokens)), len(rows))
                if place == len(rows):
                    rows.append((ids[:-1], []))
                rows[place][1].append(ids[-len(tokens) :])
        values = plain_log_likelihoods(self.plain_scorer(rows[0][0]), rows, self.pad_token_id, self.model)
        by_row = [iter(row) for row in values]
        return [
            [
                next(by_row[places[(tuple((question.context + tokens)[-(self.max_length + 1) : -1]), len(tokens))]])
                for tokens in question.continuations
            ]
            for question in questions
        ]

    def plain_scorer(self, ids: list[int]):
        """What computes logits by plain forwards, chosen on the first ids."""
        self.plain = self.plain or choose_scorer(self.model, ids[-self.max_length :])
        return self.plain

    def check(self, question: Question) -> None:
        """Stop sharing if it does not give what a plain forward gives, of two questions that begin alike."""
        context = question.context[-CHECKED_TOKENS:]
        prefix = context[: len(context) // 2]
        continuations = [ids[: CHECKED_TOKENS // 8] for ids in question.continuations]
        pair = [Question(context, continuations), Question(prefix + context[:1], continuations)]
        cache = prefix_cache(self.model, prefix) if prefix else None
        found = packed_log_likelihoods(self.model, cache, len(prefix), pair)
        is_full = self.model.dtype in (torch.float32, torch.float64)
        resolution = HEAD_TOLERANCE if is_full else 4 * torch.finfo(self.model.dtype).eps
        self.shares = all(
            abs(a - b) <= resolution * max(1.0, abs(b), len(ids))
            for shared, plain in zip(found, self.score_plainly(pair), strict=True)
            for a, b, ids in zip(shared, plain, continuations, strict=True)
        )
        self.is_checked = True


def can_share(model) -> bool:
    """Whether the model takes any mask, positions of our own, and logits at chosen positions."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = inspect.signature(base.forward).parameters
    takes = all(name in parameters for name in ("position_ids", "logits_to_keep", "past_key_values"))
    return takes and base.config._attn_implementation in MASKABLE_ATTENTION and not uses_soft_prompt(model)


def packed_log_likelihoods(
    model, cache: DynamicCache | None, prefix_length: int, questions: Sequence[Question]
) -> list[list[float]]:
    """Log-likelihoods of all continuations by one forward of all questions in one row, after the cached prefix."""
    ids: list[int] = []
    positions: list[int] = []
    trees: list[int] = []
    branches: list[int] = []
    places: list[list[int]] = []  # of each continuation: the positions in the pack that predict its tokens
    for tree, question in enumerate(questions):
        context = question.context[prefix_length:]
        behind = len(ids) + len(context) - 1
        for branch, part in enumerate([context, *(tokens[:-1] for tokens in question.continuations)]):
            if branch:
                places.append([behind, *range(len(ids), len(ids) + len(part))])
            start = prefix_length if branch == 0 else len(question.context)
            ids += part
            positions += range(start, start + len(part))
            trees += [tree] * len(part)
            branches += [branch] * len(part)
    kept = sorted({place for row in places for place in row})
    tensor = {"device": model.device}
    output = model(
        input_ids=torch.tensor([ids], **tensor),
        position_ids=torch.tensor([positions], **tensor),
        attention_mask=tree_mask(torch.tensor(trees), torch.tensor(branches), prefix_length, model),
        past_key_values=branch_off(cache),
        use_cache=cache is not None,
        logits_to_keep=torch.tensor(kept, **tensor),
    )
    order = {place: number for number, place in enumerate(kept)}
    rows = torch.tensor([order[place] for row in places for place in row], **tensor)
    targets = [token for question in questions for tokens in question.continuations for token in tokens]
    logits_NV = widened(output.logits[0])
    values = logits_NV[rows, torch.tensor(targets, **tensor)] - logits_NV.logsumexp(dim=-1)[rows]
    sums = iter(part.sum().item() for part in values.double().cpu().split([len(row) for row in places]))
    return [[next(sums) for _ in question.continuations] for question in questions]


def widened(logits: Tensor) -> Tensor:
    """In float32 at least, in which the softmax is taken."""
    return logits if logits.dtype == torch.float64 else logits.float()


def tree_mask(tree_S: Tensor, branch_S: Tensor, prefix_length: int, model) -> Tensor:
    """(1, 1, S, P + S), added to attention scores: a token sees the prefix, its question, and its own continuation."""
    same_tree = tree_S[:, None] == tree_S[None, :]
    same_branch = (branch_S[None, :] == 0) | (branch_S[:, None] == branch_S[None, :])
    visible_SS = (same_tree & same_branch).tril()
    lowest = torch.finfo(model.dtype).min
    mask_SS = torch.zeros(visible_SS.shape, dtype=model.dtype).masked_fill(~visible_SS, lowest)
    return torch.nn.functional.pad(mask_SS, (prefix_length, 0))[None, None].to(model.device)


def branch_off(cache: DynamicCache | None) -> DynamicCache | None:
    """A cache that grows without the given one growing; the tensors are shared, as layers replace them to grow."""
    if cache is None:
        return None
    branch = copy.copy(cache)
    branch.layers = [copy.copy(layer) for layer in cache.layers]
    return branch


def plain_log_likelihoods(scorer, rows: Sequence[Row], pad_token_id: int, model) -> list[list[float]]:
    """Log-likelihood of each target of each row, by plain forwards of padded rows."""
    values: list[list[float]] = [[] for _ in rows]
    vocabulary = model.config.get_text_config().vocab_size
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index][0]))
    start = 0
    while start < len(order):
        width = len(rows[order[start]][0])
        batch = order[start : start + max(1, LOGITS_BYTES // (4 * width * vocabulary))]
        start += len(batch)
        scored = in_halves(lambda some: forward(scorer, some, pad_token_id, model.device), [rows[i] for i in batch])
        for index, sums in zip(batch, scored, strict=True):
            values[index] = sums
    return values


def forward(scorer, rows: Sequence[Row], pad_token_id: int, device) -> list[list[float]]:
    """The log-likelihoods of the targets of rows by a single forward. rows: the longest first."""
    tensors = padded_targets(rows, len(rows[0][0]), pad_token_id)
    ids_BT, mask_BT, kept_BT, targets_NK = (tensor.to(device) for tensor in tensors)
    parts = []
    for logits_NV, targets_nK in scorer(ids_BT, mask_BT, kept_BT, targets_NK):
        logits_NV = widened(logits_NV)
        parts.append(logits_NV.gather(1, targets_nK) - logits_NV.logsumexp(dim=-1, keepdim=True))
    scored = torch.cat(parts).double().cpu().split(kept_BT.sum(dim=1).tolist())
    return [part_nK.sum(dim=0)[: len(row[1])].tolist() for row, part_nK in zip(rows, scored, strict=True)]


def padded_targets(rows: Sequence[Row], width: int, pad_token_id: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ids (B, T), mask (B, T), which positions are scored (B, T), and the tokens scored there (N, targets of a row)."""
    ids_BT, mask_BT = torch.full((len(rows), width), pad_token_id), torch.zeros(len(rows), width, dtype=torch.long)
    kept_BT = torch.zeros(len(rows), width, dtype=torch.bool)
    num_targets = max(len(targets) for _, targets in rows)
    scored: list[tuple[int, ...]] = []
    for number, (ids, targets) in enumerate(rows):
        ids_BT[number, : len(ids)] = torch.tensor(ids)
        mask_BT[number, : len(ids)] = 1
        kept_BT[number, len(ids) - len(targets[0]) : len(ids)] = True
        scored += zip(*targets, *[targets[0]] * (num_targets - len(targets)), strict=True)
    return ids_BT, mask_BT, kept_BT, torch.tensor(scored)


def common_prefix(questions: Sequence[Question]) -> list[int]:
    """Ids with which all contexts begin; at least one id of each context is left over."""
    return shared_prefix([question.context for question in questions])
