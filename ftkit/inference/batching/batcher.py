"""Batcher: the engine of a server. One thread runs the model; whatever is asked meanwhile joins at the next token.

    batcher = Batcher.load(ModelSettings("smollm2", adapters={"first": "runs/a"}), Limits(num_slots=8))
    with batcher.registry.pinned("first") as version:
        ticket = batcher.submit(Request(version, version.voice.render(messages)), on_event)
    batcher.close()

A step reads a few blocks of the prompts that wait, the oldest first, then writes one token of every answer: base and
adapters together, each row with the parts of its own version. An answer keeps its version to the end, whatever its name
points to by then.
"""

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from ftkit.config.hardware import use_all_cores
from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching.answer import OF_ONE_ANSWER, Answer, written
from ftkit.inference.batching.prompts import PromptReader
from ftkit.inference.batching.registry import Registry
from ftkit.inference.batching.request import Drawn, Event, Limits, QueueFull, Request
from ftkit.inference.batching.slots import Slots
from ftkit.inference.batching.version import Version
from ftkit.inference.end_tokens import end_token_ids
from ftkit.inference.generation import context_limit, token_log_probs
from ftkit.model.adapters.parts import Parts
from ftkit.model.fast.few_rows import by_all_cores

GIB = 2**30
BLOCKS_A_STEP = 8  # of prompts, before the answers that are being written go on
NO_PARTS: Parts = {}


@dataclass
class Stats:
    """What a batcher has done, and does. num_steps: forwards that wrote a token of each answer. finished: by reason."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generated_tokens: int = 0
    num_steps: int = 0
    finished: Counter = field(default_factory=Counter)
    running: int = 0
    waiting: int = 0
    cache_bytes: int = 0


class Batcher:
    """See the first lines. context: tokens of prompt and answer together. failure: what ended the thread, if any."""

    def __init__(self, model: Any, registry: Registry, limits: Limits):
        self.model, self.registry, self.limits = model, registry, limits
        self.context = int(min(context_limit(model), limits.max_length or context_limit(model)))
        self.slots, self.router = Slots(model), registry.router
        self.reader = PromptReader(model, limits.prefix_gib * GIB)
        self.mail: queue.SimpleQueue = queue.SimpleQueue()
        self.waiting: deque[Answer] = deque()
        self.running: list[Answer] = []  # by the row that they have in the slots
        self.num_open, self.lock = 0, threading.Lock()
        self.counted = Stats()
        self.failure: BaseException | None = None
        self.is_closed = False
        registry.on_engine = lambda work: self.do(work).result()
        self.thread = threading.Thread(target=self.run, name="ftkit engine", daemon=True)
        self.thread.start()

    @classmethod
    def load(cls, settings: ModelSettings, limits: Limits | None = None) -> "Batcher":
        """The model and the adapters of the settings, checked. Raises UserError where one can't be served."""
        limits = limits or Limits()
        registry = Registry.load_base(settings, limits)
        return cls(registry.model, registry, limits)

    @property
    def is_alive(self) -> bool:
        """Whether it answers."""
        return self.thread.is_alive() and self.failure is None

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> Answer:
        """Take a request, from any thread; `on_event` is called on the engine's thread, and must not block it.

        Raises QueueFull where too many wait, ValueError for a prompt that is empty or leaves no room for an answer.
        """
        if not 0 < len(request.prompt_ids) < self.context:
            raise ValueError(
                f"the prompt has {len(request.prompt_ids)} tokens, of {self.context} that prompt and answer can have"
            )
        template = None if request.is_plain else request.version.voice.template
        own = self.model.generation_config.eos_token_id
        end_ids = end_token_ids(request.version.voice.tokenizer, template, own)
        answer = Answer(request, on_event, end_ids, self.model, self.context)
        with self.lock:
            self.check_open()
            if self.num_open >= self.limits.num_slots + self.limits.max_waiting:
                raise QueueFull(f"{self.num_open} requests are open")
            self.num_open += 1
            self.mail.put(answer)
        return answer

    def check_open(self) -> None:
        """Raise RuntimeError where nobody reads the mail any more."""
        if self.is_closed:
            raise RuntimeError(f"the engine has stopped{f': {self.failure}' if self.failure else ''}")

    def score(self, version: Version, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]) -> Future:
        """A Future of the log-probability, in nats, of each token of each continuation of the prompt."""
        return self.do(lambda: [[value for value, _ in self.after(version, prompt_ids, ids)] for ids in continuations])

    def read(self, version: Version, ids: Sequence[int], num_top: int = 0) -> Future:
        """A Future of each token of a text with its log-probability, in nats, and those of the likeliest in its place.

        The first token has none.
        """

        def work() -> list[Drawn]:
            scored = self.after(version, ids[:1], ids[1:], num_top)
            further = (Drawn(token, value, tuple(top)) for token, (value, top) in zip(ids[1:], scored, strict=True))
            return [Drawn(ids[0]), *further]

        return self.do(work)

    def do(self, work: Callable[[], Any]) -> Future:
        """A Future of what `work` gives, which the engine's thread does between two steps."""
        future: Future = Future()
        with self.lock:
            self.check_open()
            self.mail.put((future, work))
        return future

    def stats(self) -> Stats:
        """What was done so far, and what is being done."""
        self.counted.running, self.counted.waiting = len(self.running), len(self.waiting)
        self.counted.cache_bytes = self.reader.num_bytes
        return self.counted

    def close(self) -> None:
        """Cancel everything, and end the thread."""
        self.mail.put(None)
        self.thread.join()

    def run(self) -> None:
        """What the thread does until `close`."""
        use_all_cores()
        try:
            with torch.inference_mode(), by_all_cores(self.model):
                while self.take_mail():
                    self.read_prompts()
                    self.write_tokens()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.end_all()

    def end_all(self) -> None:
        """Tell everyone who waits that there will be no answer."""
        with self.lock:
            self.is_closed = True
        while not self.mail.empty():
            left = self.mail.get()
            if isinstance(left, Answer):
                self.waiting.append(left)
            elif left is not None:
                left[0].cancel()
        failed = None if self.failure is None else f"{type(self.failure).__name__}: {self.failure}"
        for answer in (*self.running, *self.waiting):
            self.tell(answer, answer.ended("error" if failed else "cancelled", error=failed))

    def take_mail(self) -> bool:
        """Take what has come, or wait for it where there is nothing to do; False once it is the end."""
        is_idle = not (self.waiting or self.running)
        while is_idle or not self.mail.empty():
            is_idle, letter = False, self.mail.get()
            if letter is None:
                return False
            if isinstance(letter, Answer):
                self.waiting.append(letter)
            else:
                fulfil(*letter)
        return True

    def read_prompts(self) -> None:
        """Read some blocks of the prompts that wait, and begin the answers of those that are read."""
        for answer in [answer for answer in self.waiting if answer.is_cancelled]:
            self.waiting.remove(answer)
            self.tell(answer, answer.ended("cancelled"))
        for _ in range(BLOCKS_A_STEP):
            if not self.waiting or len(self.running) == self.limits.num_slots:
                return
            answer = self.waiting[0]
            try:
                with self.router.routes(routing([answer])):
                    is_read = self.fitting(lambda: self.reader.read(answer.prompt))  # noqa: B023
            except OF_ONE_ANSWER as error:
                self.waiting.popleft()
                self.tell(answer, answer.failed(error))
                continue
            if is_read:
                self.waiting.popleft()
                self.begin(answer)

    def fitting(self, work: Callable[[], Any]) -> Any:
        """What `work` gives; where memory does not hold it, without the blocks of prompts that were kept."""
        try:
            return work()
        except torch.OutOfMemoryError:
            self.reader.forget()
        return work()

    def begin(self, answer: Answer) -> None:
        """The first token of an answer, and a row for the others."""
        prompt = answer.prompt
        self.counted.prompt_tokens += len(prompt.ids)
        self.counted.cached_prompt_tokens += prompt.num_cached
        (event,) = written(prompt.logits_V[None], [answer])
        if event.finish_reason is None:
            self.slots.append(prompt.cache)
            self.running.append(answer)
        prompt.cache = prompt.logits_V = None
        self.tell(answer, event)

    def write_tokens(self) -> None:
        """One more token of every answer."""
        for row in reversed(range(len(self.running))):
            if self.running[row].is_cancelled:
                self.end(row, self.running[row].ended("cancelled"))
        if not self.running:
            return
        tokens_B = torch.tensor([answer.pen.ids[-1] for answer in self.running], device=self.model.device)
        with self.router.routes(routing(self.running)):
            logits_BV = self.fitting(lambda: self.slots.step(tokens_B))
        self.counted.num_steps += 1
        events = written(logits_BV, self.running)
        for row, event in reversed(list(enumerate(events))):
            if event.finish_reason is None:
                self.tell(self.running[row], event)
            else:
                self.end(row, event)

    def end(self, row: int, event: Event) -> None:
        """Give a row's place to the last one, and say that its answer ended."""
        answer = self.running[row]
        self.slots.remove(row)
        last = self.running.pop()
        if last is not answer:
            self.running[row] = last
        self.tell(answer, event)

    def tell(self, answer: Answer, event: Event) -> None:
        """Pass an event on."""
        self.counted.generated_tokens += len(event.tokens)
        if event.finish_reason is not None:
            self.counted.finished[event.finish_reason] += 1
            with self.lock:
                self.num_open -= 1
        answer.on_event(event)

    def after(
        self, version: Version, prompt: Sequence[int], answer: Sequence[int], num_top: int = 0
    ) -> list[tuple[float, list[tuple[int, float]]]]:
        """`token_log_probs` of a version; on the engine's thread."""
        with self.router.routes([(version.parts or NO_PARTS, slice(0, 1))]):
            return token_log_probs(self.model, prompt, answer, num_top)


def fulfil(future: Future, work: Callable[[], Any]) -> None:
    """Do what was asked of the engine's thread."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except (RuntimeError, ValueError) as error:  # of this work alone: it is for who asked
            future.set_exception(error)


def routing(answers: Sequence[Answer]) -> list[tuple[Parts, slice]]:
    """The parts of each run of rows that are answered by one adapter."""
    found: list[tuple[Parts, slice]] = []
    for row, answer in enumerate(answers):
        parts = answer.request.version.parts
        if not parts:
            continue
        if found and found[-1][0] is parts and found[-1][1].stop == row:
            found[-1] = (parts, slice(found[-1][1].start, row + 1))
        else:
            found.append((parts, slice(row, row + 1)))
    return found
