"""Asks a judge that is loaded here, batch by batch, and tells answers that were cut off.

for index, reply in ask_local(args, conversations, repeats): ...
"""

import json
from collections.abc import Iterator
from types import SimpleNamespace

from ftkit.inference.completion import Reply
from ftkit.inference.engine import Conversant, load_conversant, sampling_settings
from ftkit.inference.generation import answer_limit, answer_text, generate_answers

REPEAT_SEEDS = 100_000  # between repeats: more than there are batches in one


def ask_local(args, conversations: list[list[dict]], repeats: list[int]) -> Iterator[tuple[int, Reply]]:
    """Yield (index, reply) of each conversation. repeats: how often each was asked before, for the seed."""
    conversant = load_conversant(args)
    for start in range(0, len(conversations), args.batch_size):
        batch = {}
        for index in range(start, min(start + args.batch_size, len(conversations))):
            if (ids := prompt_ids(conversant, conversations[index])) is None:
                yield index, Reply(failure="longer than the judge's context")
            else:
                batch[index] = ids
        seed = args.seed + start + REPEAT_SEEDS * repeats[start]
        yield from zip(batch, replies(conversant, list(batch.values()), seed, args), strict=True)


def prompt_ids(conversant: Conversant, messages: list[dict]) -> list[int] | None:
    """A request as token ids; None where the model's context leaves no room for an answer."""
    from ftkit.data.tokens.tokenization import prompt_ids

    ids = prompt_ids(messages, conversant.tokenizer, conversant.template)
    try:
        answer_limit(conversant.model, len(ids), 1)
    except ValueError:
        return None
    return ids


def replies(conversant: Conversant, prompts_ids: list[list[int]], seed: int, args) -> list[Reply]:
    """A reply to each prompt, cut off where no end token came within the limit."""
    if not prompts_ids:
        return []
    tokenizer = conversant.tokenizer
    # in place of a tokenizer, so that ids come back as text: their number tells what was cut off
    as_ids = SimpleNamespace(pad_token_id=tokenizer.pad_token_id, decode=lambda ids, **_: json.dumps(ids))
    with conversant.active():
        found = generate_answers(
            conversant.model, as_ids, prompts_ids, eos_token_ids=conversant.end_token_ids,
            batch_size=len(prompts_ids), seed=seed, **sampling_settings(args),
        )  # fmt: skip
    limits = [answer_limit(conversant.model, len(prompt), args.max_new_tokens) for prompt in prompts_ids]
    return [
        Reply(
            conversant.shown(answer_text(ids, [], tokenizer)),
            input_tokens=len(prompt),
            output_tokens=len(ids),
            finish_reason="length" if len(ids) >= limit else "stop",
        )
        for prompt, limit, ids in zip(prompts_ids, limits, map(json.loads, found), strict=True)
    ]
