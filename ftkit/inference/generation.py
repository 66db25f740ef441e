"""Answers to many prompts: sorted by length, left-padded, with the shared start of the prompts computed once."""

import copy
import inspect
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from ftkit.inference.batching.text import AnswerText
from ftkit.model.context import context_size
from ftkit.model.fast.few_rows import by_all_cores

# B batch, T tokens of the longest prompt, P of the shared prefix, A of an answer, V vocabulary, K likeliest


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside, and few rows by all cores; afterwards each module has its mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # not inference_mode: FSDP2 trains on in the buffers that its first forward makes
        with torch.no_grad(), by_all_cores(model):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def generate_ids(
    model,
    tokenizer: PreTrainedTokenizerBase,
    prompts_ids: list[list[int]],
    *,
    max_new_tokens: int,
    eos_token_ids: list[int],
    batch_size: int = 32,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    share_prefix: bool = False,
    min_p: float = 0.0,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    stop_strings: Sequence[str] = (),
    streamer: "AnswerStreamer | None" = None,
) -> list[list[int]]:
    """Return the token ids of one answer per prompt, in order, up to its first end token.

    prompts_ids: token ids up to where the answer begins, template included. Greedy at temperature 0, else sampled from
    the model's distribution, `seed` making it repeatable without touching the global generators. share_prefix: compute
    the leading ids that all prompts have in common once (few-shot examples); the greedy answers are the same. It has no
    effect with beams, and where a copied cache would not be exact (sliding windows, soft prompts). stop_strings: texts
    that end an answer, which may hold what follows. A prompt has the room in the model's context that it has alone,
    whatever shares its batch; a batch that memory does not hold is answered in halves. The model's modes are restored.
    streamer: is given the ids of a single prompt's answer as they come.
    Raises ValueError for an empty prompt, one that fills the context, and numbers out of range.
    """
    check_request(prompts_ids, max_new_tokens, batch_size, temperature)
    if not prompts_ids:
        return []
    end_ids = list(dict.fromkeys(token for token in eos_token_ids if token is not None))
    pad_id = next(token for token in (tokenizer.pad_token_id, *end_ids, 0) if token is not None)
    drawing: dict = {"length_penalty": length_penalty} if num_beams > 1 else {}
    if temperature > 0:  # min_p costs a sort of the vocabulary at each token
        drawing |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p or None}
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=temperature > 0, num_beams=num_beams,
        repetition_penalty=repetition_penalty, no_repeat_ngram_size=no_repeat_ngram_size,
        eos_token_id=end_ids or None, pad_token_id=pad_id, use_cache=True, stop_strings=list(stop_strings) or None,
        **drawing,
    )  # fmt: skip
    further = ({"tokenizer": tokenizer} if stop_strings else {}) | ({"streamer": streamer} if streamer else {})
    answer_limit(model, max(map(len, prompts_ids)), max_new_tokens)  # raises before anything is answered
    with evaluation_mode(model), seeded(model, seed):
        prefix = shared_prefix(prompts_ids) if share_prefix and num_beams == 1 else []
        found = in_batches(model, prompts_ids, prefix, batch_size, settings, further)
    return [up_to_end(ids, end_ids) for ids in found]


def in_batches(
    model, prompts_ids: list[list[int]], prefix: list[int], batch_size: int, settings: GenerationConfig, further: dict
) -> list[list[int]]:
    """What the model generates after each prompt, in order. further: arguments of the model's own `generate`."""
    cache, room = prefix_cache(model, prefix) if prefix else None, settings.max_new_tokens

    def answer(indices: Sequence[int]) -> list[list[int]]:
        prompts = [prompts_ids[index] for index in indices]
        input_ids_BT, attention_mask_BT = padded(
            prompts, len(prefix) if cache else 0, settings.pad_token_id, model.device
        )
        past = {"past_key_values": expanded(cache, len(indices))} if cache else {}
        settings.max_new_tokens = answer_limit(model, input_ids_BT.shape[1], room)
        output = model.generate(
            input_ids=input_ids_BT, attention_mask=attention_mask_BT, generation_config=settings, **past, **further
        )
        return output[:, input_ids_BT.shape[1] :].tolist()

    found: list[list[int]] = [[] for _ in prompts_ids]
    fitting = -1 if uses_soft_prompt(model) else context_limit(model) - room
    for indices in batches(list(map(len, prompts_ids)), batch_size, fitting):
        for index, ids in zip(indices, in_halves(answer, indices), strict=True):
            found[index] = ids
    return found


def check_request(prompts_ids: list[list[int]], max_new_tokens: int, batch_size: int, temperature: float) -> None:
    """Raise ValueError for prompts without tokens and for impossible settings."""
    for number, ids in enumerate(prompts_ids):
        if len(ids) == 0:
            raise ValueError(f"prompt {number} has no tokens; give at least one")
    if max_new_tokens < 1 or batch_size < 1 or temperature < 0:
        raise ValueError(
            f"max_new_tokens {max_new_tokens}, batch_size {batch_size}, temperature {temperature}; "
            "the first two must be at least 1, the temperature 0 or more"
        )


def answer_limit(model, prompt_length: int, max_new_tokens: int) -> int:
    """`max_new_tokens`, or what the model's context leaves after a prompt of `prompt_length` tokens, if less.

    Raises ValueError when it leaves nothing.
    """
    context = context_limit(model)
    if prompt_length >= context:
        raise ValueError(
            f"the prompt has {prompt_length} tokens and the model's context only {context}; shorten the prompt"
        )
    return int(min(max_new_tokens, context - prompt_length))


def context_limit(model) -> float:
    """The most tokens that the model sees at once; infinity where it names no limit."""
    return context_size(model.config) or math.inf


def next_logits(model, ids: Sequence[int]) -> Tensor:
    """The logits, (V,), of the token after `ids`."""
    with evaluation_mode(model):
        return model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0, -1]


def token_log_probs(
    model, prompt: Sequence[int], answer: Sequence[int], num_top: int = 0
) -> list[tuple[float, list[tuple[int, float]]]]:
    """Of each token of an answer to a prompt: its log-probability, in nats, and (token, log-probability) of the
    `num_top` likeliest in its place. They are the model's own, before temperature and everything else of sampling."""
    if not answer:
        return []
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    num = len(answer) + 1
    kept = {"logits_to_keep": num} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}
    with evaluation_mode(model):
        ids = torch.tensor([[*prompt, *answer]], device=model.device)
        logits_AV = model(input_ids=ids, use_cache=False, **kept).logits[0, -num:-1].float()
    log_probs_AV = torch.log_softmax(logits_AV, dim=-1)
    chosen_A = log_probs_AV.gather(1, torch.tensor(answer, device=model.device)[:, None])[:, 0]
    values_AK, tokens_AK = log_probs_AV.topk(min(num_top, log_probs_AV.shape[1]))
    tops = [list(zip(*pair, strict=True)) for pair in zip(tokens_AK.tolist(), values_AK.tolist(), strict=True)]
    return list(zip(chosen_A.tolist(), tops, strict=True))


def in_halves(compute: Callable[[Sequence], list], things: Sequence) -> list:
    """`compute(things)`, which has a result for each; where memory does not hold them, of one half and then the other.

    Raises torch.OutOfMemoryError where it does not hold a single one.
    """
    try:
        return compute(things)
    except torch.OutOfMemoryError:
        if len(things) == 1:
            raise
    half = len(things) // 2  # out of the except block, whose error keeps the tensors alive
    return in_halves(compute, things[:half]) + in_halves(compute, things[half:])


@contextmanager
def seeded(model, seed: int | None) -> Iterator[None]:
    """Random draws inside depend on `seed` only, and leave no trace outside; None changes nothing."""
    if seed is None:
        yield
        return
    devices = [model.device.index or 0] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def batches(lengths: Sequence[int], batch_size: int, fitting: float) -> Iterator[list[int]]:
    """Places of the prompts that are answered together, longest first, so that memory peaks at once.

    fitting: prompts of up to so many tokens share a batch, of which the shorter are padded; longer ones share it only
    with prompts of their own length, as padding would take of the room that is left to their answers.
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    for _, group in itertools.groupby(order, key=lambda place: max(lengths[place], fitting)):
        places = list(group)
        yield from (places[start : start + batch_size] for start in range(0, len(places), batch_size))


def padded(prompts_ids: Sequence[list[int]], prefix_length: int, pad_id: int, device) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask, (B, T); padding stands left of the prompt, after a cached prefix."""
    width = max(map(len, prompts_ids))
    rows, masks = [], []
    for ids in prompts_ids:
        prefix, rest, padding = ids[:prefix_length], ids[prefix_length:], width - len(ids)
        rows.append([*prefix, *[pad_id] * padding, *rest])
        masks.append([1] * prefix_length + [0] * padding + [1] * len(rest))
    return torch.tensor(rows, device=device), torch.tensor(masks, device=device)


def uses_soft_prompt(model) -> bool:
    """Whether PEFT puts virtual tokens in front. It drops position ids then, so padding would shift the prompt."""
    return any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values())


def shared_prefix(prompts_ids: list[list[int]]) -> list[int]:
    """Leading ids that all prompts have in common; at least one id of each prompt is left over."""
    common = os.path.commonprefix([list(ids) for ids in prompts_ids])
    return list(common[: min(map(len, prompts_ids)) - 1])


def prefix_cache(model, prefix: list[int]) -> DynamicCache | None:
    """Keys and values of the prefix, batch size 1; None where a copy with padding after it would not be exact."""
    if uses_soft_prompt(model):
        return None
    cache = DynamicCache(config=model.config.get_text_config())
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    input_ids = torch.tensor([prefix], device=model.device)
    mask = torch.ones_like(input_ids)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kept = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}
    output = model(input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=True, **kept)
    return output.past_key_values


def expanded(cache: DynamicCache, batch_size: int) -> DynamicCache:
    """A copy of the cache for a batch; `generate` grows it in place."""
    grown = copy.deepcopy(cache)
    grown.batch_repeat_interleave(batch_size)
    return grown


class AnswerStreamer:
    """Hands out the text of a single answer as its tokens come, in the form that `generate` of transformers calls.

    text: turns tokens into what may be shown. end_ids: tokens that end an answer, which may be plain text to the
    tokenizer; they are not shown. write: takes each new piece. ids: what came so far.
    """

    def __init__(self, text: AnswerText, end_ids: Sequence[int], write: Callable[[str], object]):
        self.text, self.end_ids, self.write = text, end_ids, write
        self.ids: list[int] = []
        self.is_prompt = True

    def put(self, value: Tensor) -> None:
        """Take the prompt, and after it one token at a time."""
        if self.is_prompt:
            self.is_prompt = False
        elif (token := int(value[-1])) not in self.end_ids:
            self.ids.append(token)
            self.write(self.text.put(token))

    def end(self) -> None:
        """Write what was held back."""
        self.write(self.text.end())


def answer_text(ids: list[int], end_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Decode up to the first end token, which may be plain text to the tokenizer ("<|end|>" without an own token)."""
    return continuation_text(up_to_end(ids, end_ids), tokenizer).strip()


def continuation_text(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Decode what follows a text, with its white space."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def up_to_end(ids: list[int], end_ids: list[int]) -> list[int]:
    """The ids before the first end token, or all of them."""
    length = next((position for position, token in enumerate(ids) if token in end_ids), len(ids))
    return ids[:length]
