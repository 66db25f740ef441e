"""Engine: one base, many named adapters, the locked template of each; their answers, losses and log-probabilities.

engine = Engine.load(ModelSettings(adapters={"a": "runs/a", "b": "runs/b"}), with_base=True)
engine.answers([[{"role": "user", "content": "Name a bird."}]], Sampling(), "b")
Engine.of(trainer.model, tokenizer, template).answers(...)      # of what is loaded already
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ftkit.config.errors import UserError
from ftkit.config.hardware import probe, use_all_cores
from ftkit.config.launch import local_rank
from ftkit.config.quiet import quiet_libraries
from ftkit.data.templates.lock import read_lock, verify_lock
from ftkit.data.templates.templates import TemplateInfo, install_template, restore
from ftkit.data.tokens.tokenization import prompt_ids
from ftkit.inference.asking import BASE, PLAIN, ModelSettings, Sampling
from ftkit.inference.batching.text import AnswerText
from ftkit.inference.completion import AnswerToken, Reply
from ftkit.inference.end_tokens import end_token_ids
from ftkit.inference.generation import (
    AnswerStreamer,
    answer_limit,
    answer_text,
    context_limit,
    continuation_text,
    generate_ids,
    next_logits,
    token_log_probs,
)
from ftkit.inference.log_likelihood import LikelihoodScorer
from ftkit.model.adapters.embeddings import replaced_weight
from ftkit.model.adapters.files import (
    adapter_fingerprint,
    base_fingerprint,
    read_adapter_config,
    resolve_base,
    tokenizer_folder,
)
from ftkit.model.adapters.loading import put_adapter
from ftkit.model.adapters.methods import four_bit_config
from ftkit.model.alike import check_alike
from ftkit.model.fast.bit_linear import round_once
from ftkit.model.loading import (
    load_model,
    load_tokenizer,
    local_adapter_folder,
    local_model_folder,
)


@dataclass(frozen=True)
class Voice:
    """Who answers: the bare base or one adapter, with the tokenizer and template it was trained with.

    template: None for text that is continued as it is. folder: of the base or adapter, None for a model that was handed
    over. peft_name: PEFT's name of the adapter; None is the base.
    """

    name: str
    tokenizer: Any
    template: TemplateInfo | None
    folder: str | None = None
    peft_name: str | None = None

    @cached_property
    def digest(self) -> str | None:
        """SHA-256 that names this version: its tensors, configuration and template; None for a model handed over."""
        if self.folder is None:
            return None
        template = self.template.fingerprint if self.template else PLAIN
        weights = (base_fingerprint if self.peft_name is None else adapter_fingerprint)(self.folder)
        return hashlib.sha256(f"{template}\0{weights}".encode()).hexdigest()

    def shown(self, answer: str) -> str:
        """An answer as a person should read it, without the invisible letters that keep text from being structure."""
        return restore(answer, self.template) if self.template else answer

    def render(self, messages: list[dict]) -> list[int]:
        """Token ids of a conversation up to where the answer starts; without a template, of a single text."""
        if self.template:
            return prompt_ids(messages, self.tokenizer, self.template)
        if len(messages) > 1:
            raise UserError(f"--template {PLAIN} continues one text and knows no turns; name a template")
        ids = self.tokenizer(messages[0]["content"])["input_ids"]
        start = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id
        return ids or [token for token in (start,) if token is not None]  # nothing yet: the start of a document

    def text_of(self, ids: list[int]) -> str:
        """What a person reads of an answer's token ids; of a text that is continued, with the white space around it."""
        if self.template is None:
            return continuation_text(ids, self.tokenizer)
        return self.shown(answer_text(ids, [], self.tokenizer))


class Engine:
    """A base in memory with the voices that it answers in; methods take a voice's name, None for the first.

    folder: of the base, None for a model that was handed over.
    A voice is fixed once it is loaded: what an answer depends on is its `digest`, the prompt and the sampling.
    """

    def __init__(self, model: Any, voices: Sequence[Voice], folder: str | None = None):
        self.model, self.folder = model, folder
        self.voices = {voice.name: voice for voice in voices}

    @classmethod
    def of(cls, model: Any, tokenizer: Any, template: TemplateInfo | None = None) -> "Engine":
        """The engine of a model that is loaded already, as it stands, such as one that is being trained."""
        return cls(model, [Voice(BASE, tokenizer, template)])

    @classmethod
    def load(cls, settings: ModelSettings, *, with_base: bool = False) -> "Engine":
        """Load the model, its adapters and templates: by name, all on one set of base weights.

        Without adapters the model stands alone, under the name "base". with_base: put the model without adapters
        first, rendered by its own template where it has one, else by the first adapter's; left out where the adapters
        have tokens that it was never trained on, or replace its embedding.
        Raises UserError when one can't be loaded, renders other tokens than in training, or can't share the base.
        """
        quiet_libraries()
        use_all_cores()
        adapters = {name: local_adapter_folder(path) for name, path in settings.adapters.items()}
        folder = base_folder(settings, adapters)
        texts = text_sides(settings, adapters, folder, with_base=with_base)
        model = load_weights(settings, folder)
        replaced = {path: key for path in adapters.values() if (key := replaced_weight(model, path))}
        if replaced and len(adapters) > 1:
            path, key = next(iter(replaced.items()))
            raise UserError(f"{path}: replaces the base's {key}, which others share; load it alone")
        if replaced:
            texts.pop(BASE, None)
        peft_names = {}
        for number, (name, path) in enumerate(adapters.items()):
            peft_names[name] = f"adapter_{number:04d}"  # PEFT forbids dots, and confuses names that hold one another
            model = put_adapter(model, path, texts[name][0], name=peft_names[name], base_folder=folder)
        model = model.eval().to(probe().device)
        voices = [
            Voice(name, tokenizer, template, adapters.get(name, folder), peft_names.get(name))
            for name, (tokenizer, template) in texts.items()
        ]
        return cls(model, voices, folder)

    def voice(self, name: str | None = None) -> Voice:
        """The voice of a name, or the first."""
        return self.voices[name] if name is not None else next(iter(self.voices.values()))

    @contextmanager
    def speaking(self, name: str | None = None) -> Iterator[Voice]:
        """Inside, the model answers as this voice: with its adapter, or with the bare weights."""
        voice = self.voice(name)
        if voice.peft_name is not None:
            self.model.set_adapter(voice.peft_name)
        if voice.peft_name is None and voice.folder is not None and hasattr(self.model, "peft_config"):
            with self.model.disable_adapter():
                yield voice
        else:  # also a model that was handed over, which stays as it is
            yield voice

    def end_token_ids(self, name: str | None = None, *, is_plain: bool = False) -> list[int]:
        """Tokens that end an answer. is_plain: to a prompt that was not rendered by the template."""
        voice = self.voice(name)
        template = None if is_plain else voice.template
        return end_token_ids(voice.tokenizer, template, self.model.generation_config.eos_token_id)

    def prompt_ids(self, messages: list[dict], name: str | None = None) -> list[int]:
        """Token ids of a conversation up to the point where the answer starts.

        Messages are text, rendered by the voice's own template: after a swap the whole history is read as the new one
        would have been asked it, others' answers included.
        Raises UserError when nothing is left of the model's context for an answer.
        """
        ids = self.voice(name).render(messages)
        if not ids:
            raise UserError("the prompt is empty and the tokenizer has no token that begins a text; write something")
        if not self.has_room(ids):
            raise UserError(
                f"the prompt has {len(ids)} tokens and the model's context only {context_limit(self.model)}; shorten "
                "the prompt or start over"
            )
        return ids

    def has_room(self, prompt: Sequence[int]) -> bool:
        """Whether the model's context leaves room for an answer to a prompt of token ids."""
        return len(prompt) < context_limit(self.model)

    def generate(
        self, prompts_ids: list[list[int]], sampling: Sampling, name: str | None = None, *, is_plain=False, **batching
    ) -> list[list[int]]:
        """Token ids of an answer to each prompt, up to its end token. batching: further settings of `generate_ids`."""
        with self.speaking(name) as voice:
            return generate_ids(
                self.model, voice.tokenizer, prompts_ids,
                eos_token_ids=self.end_token_ids(name, is_plain=is_plain), **dataclasses.asdict(sampling), **batching,
            )  # fmt: skip

    def texts(
        self, prompts_ids: list[list[int]], sampling: Sampling, name: str | None = None, *, is_plain=False, **batching
    ) -> list[str]:
        """What `generate` gives, as text to be read."""
        return [text for text, _ in self.counted_texts(prompts_ids, sampling, name, is_plain=is_plain, **batching)]

    def counted_texts(
        self, prompts_ids: list[list[int]], sampling: Sampling, name: str | None = None, *, is_plain=False, **batching
    ) -> list[tuple[str, int]]:
        """The same, each with its number of tokens."""
        voice = self.voice(name)
        found = self.generate(prompts_ids, sampling, name, is_plain=is_plain, **batching)
        texts = [answer_text(ids, [], voice.tokenizer) for ids in found]
        shown = texts if is_plain else [voice.shown(text) for text in texts]
        return list(zip(shown, map(len, found), strict=True))

    def answers(
        self, conversations: Sequence[list[dict]], sampling: Sampling, name: str | None = None, **batching
    ) -> list[str]:
        """The answer to each conversation, in order."""
        prompts = [self.prompt_ids(messages, name) for messages in conversations]
        return self.texts(prompts, sampling, name, **batching)

    def replies(
        self,
        prompts_ids: list[list[int]],
        sampling: Sampling,
        name: str | None = None,
        *,
        batch_size: int = 0,
        num_top: int | None = None,
    ) -> list[Reply]:
        """A reply to each prompt, all at once at batch size 0, marked where no end token came within the limit.

        num_top: give each token too, with so many of the likeliest in its place; None for none.
        """
        found = self.generate(prompts_ids, sampling, name, batch_size=batch_size or max(1, len(prompts_ids)))
        replies = [self.reply(*pair, sampling, name) for pair in zip(prompts_ids, found, strict=True)]
        if num_top is not None:
            for reply, prompt, ids in zip(replies, prompts_ids, found, strict=True):
                reply.tokens = self.answer_tokens(prompt, ids, num_top, name)
        return replies

    def answer_tokens(
        self, prompt: list[int], ids: list[int], num_top: int, name: str | None = None
    ) -> list[AnswerToken]:
        """The tokens of an answer, each with its log-probability after the prompt and the answer so far."""
        with self.speaking(name) as voice:
            scored = token_log_probs(self.model, prompt, ids, num_top)
        texts = [voice.tokenizer.decode([token]) for token in ids]
        return [
            AnswerToken(text, value, [(voice.tokenizer.decode([token]), other) for token, other in top])
            for text, (value, top) in zip(texts, scored, strict=True)
        ]

    def stream(
        self, messages: list[dict], sampling: Sampling, name: str | None = None, *, write: Callable[[str], object]
    ) -> Reply:
        """Hand an answer to `write` as it comes, that of beams at its end; return it, or what Ctrl-C left of it."""
        prompt, voice = self.prompt_ids(messages, name), self.voice(name)
        text = AnswerText(voice, is_stripped=voice.template is not None)
        streamer = AnswerStreamer(text, self.end_token_ids(name), write)
        try:
            ids = self.generate([prompt], sampling, name, streamer=streamer if sampling.num_beams == 1 else None)[0]
        except KeyboardInterrupt:
            streamer.end()
            return dataclasses.replace(self.reply(prompt, streamer.ids, sampling, name), finish_reason="cancelled")
        reply = self.reply(prompt, ids, sampling, name)
        if sampling.num_beams > 1:
            write(reply.text)
        return reply

    def reply(self, prompt: list[int], ids: list[int], sampling: Sampling, name: str | None = None) -> Reply:
        """The token ids of an answer, as text, with what ended it."""
        is_cut = len(ids) >= answer_limit(self.model, len(prompt), sampling.max_new_tokens)
        return Reply(
            self.voice(name).text_of(ids), input_tokens=len(prompt), output_tokens=len(ids),
            finish_reason="length" if is_cut else "stop",
        )  # fmt: skip

    def next_logits(self, ids: Sequence[int], name: str | None = None) -> torch.Tensor:
        """The logits, (V,), of the token after `ids`."""
        with self.speaking(name):
            return next_logits(self.model, ids)

    def scorer(self, name: str | None = None) -> LikelihoodScorer:
        """What scores continuations; to be used while the voice is `speaking`, where there are several."""
        return LikelihoodScorer(self.model, self.voice(name).tokenizer.pad_token_id or 0)


def base_folder(settings: ModelSettings, adapters: dict[str, str]) -> str:
    """The local folder of the model that is named, or of the adapters' one base."""
    for path in adapters.values():
        read_adapter_config(path)
    if adapters:
        return resolve_base(next(iter(adapters.values())), settings.model_name_or_path, ftgpt=settings.ftgpt)
    return local_model_folder(str(settings.model_name_or_path), ftgpt=settings.ftgpt)


def load_weights(settings: ModelSettings, folder: str) -> Any:
    """The base on the CPU, in the precision asked for, and in each process of a launcher its own GPU chosen."""
    dtype = settings.dtype or ("bfloat16" if probe().bf16 else "float32")
    if probe().device == "cuda":
        torch.cuda.set_device(local_rank())
    model = load_model(
        folder,
        dtype=dtype,
        quantization_config=four_bit_config(dtype) if settings.load_in_4bit else None,
        trust_remote_code=settings.trust_remote_code,
    )
    round_once(model)
    return model


def text_sides(settings: ModelSettings, adapters: dict[str, str], folder: str, *, with_base: bool) -> dict[str, tuple]:
    """(tokenizer, template) by voice, each held against its lock before weights are read."""
    if not adapters:
        is_gguf = str(settings.model_name_or_path).endswith(".gguf")  # its lock lies beside the file
        return {BASE: text_side(folder, settings, str(settings.model_name_or_path) if is_gguf else folder)}
    texts = {name: text_side(str(tokenizer_folder(path, folder)), settings, path) for name, path in adapters.items()}
    owners = {f"adapter {name}": tokenizer for name, (tokenizer, _) in texts.items()}
    check_alike(owners, templates=False, fix="start one command for each")  # they share the base's embeddings
    return with_base_side(texts, folder, settings) if with_base else texts


def text_side(folder: str, settings: ModelSettings, owner: str) -> tuple:
    """Tokenizer and template of a folder; UserError where `owner`, a model or adapter, was trained with others."""
    tokenizer = load_tokenizer(folder, trust_remote_code=settings.trust_remote_code)
    template = template_of(tokenizer, settings.template, may_lack=settings.may_lack_template)
    if template:
        verify_lock(owner, tokenizer)
    return tokenizer, template


def template_of(tokenizer: Any, name: str, *, may_lack: bool = False) -> TemplateInfo | None:
    """The template of a name, put on the tokenizer; None for "none" and, with `may_lack`, for "auto" without one."""
    if name == PLAIN or (may_lack and name == "auto" and not tokenizer.chat_template):
        return None
    return install_template(tokenizer, name)


def with_base_side(texts: dict[str, tuple], folder: str, settings: ModelSettings) -> dict[str, tuple]:
    """`texts` of adapters with the base's tokenizer and template in front, unless an adapter added tokens."""
    first = next(iter(texts.values()))
    try:
        tokenizer = load_tokenizer(folder, trust_remote_code=settings.trust_remote_code)
    except UserError:  # a base without a tokenizer has only the adapters'
        return {BASE: first, **texts}
    if first[0].get_vocab() != tokenizer.get_vocab():
        return texts
    try:
        template = template_of(tokenizer, settings.template)
    except UserError:  # the base has no template: it is asked as its first adapter is
        return {BASE: first, **texts}
    if template and read_lock(folder):
        verify_lock(folder, tokenizer)
    return {BASE: (tokenizer, template), **texts}
