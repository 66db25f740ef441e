"""How the items of each kind of task are answered: in units that do not depend on what was answered before.

A unit is computed as a whole, so that its numbers are the same, to the bit, in a run that was killed and went on, and
in one process or several.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftkit.config.errors import UserError
from ftkit.data.rows.thoughts import THOUGHT, is_thought_alone, split_thought
from ftkit.evaluation.bench.retrieval import RetrievalRun
from ftkit.evaluation.bench.task_file import Task
from ftkit.evaluation.bench.task_items import TaskItem, conversation, plain_prompt
from ftkit.evaluation.results import Item
from ftkit.inference.asking import Sampling
from ftkit.inference.log_likelihood import (
    Question,
    checked,
    common_prefix,
    encode,
    encode_question,
    plan_packs,
    prefix_token,
    rolling_windows,
)
from ftkit.metrics.likelihood import likeliest

PACK_TOKENS = {"cpu": 512, "cuda": 8192}  # tokens of one forward: from there on no faster
BATCH_SIZE = {"cpu": 32, "cuda": 128}  # answers generated at once
NO_NUMBERS = "the model's log-likelihoods are not numbers; do its weights hold NaN?"


@dataclass
class Subject:
    """What is benchmarked: an engine, whose first voice answers, or an endpoint in its place.

    samples: how often each item is answered, a `sampled.Samples`; None for one greedy answer. retriever: finds the
    passages that stand in front of a question, and is what a retrieval task asks. supports: whether sources support a
    sentence, as a judge says; None: by words.
    """

    engine: Any = None
    endpoint: Any = None
    max_batch_tokens: int | None = None
    batch_size: int | None = None
    samples: Any = None
    retriever: Any = None
    supports: Any = None

    def __post_init__(self):
        if self.engine is not None:
            self.tokenizer, self.template = self.engine.voice().tokenizer, self.engine.voice().template
            self.device = "cuda" if self.engine.model.device.type == "cuda" else "cpu"
            self.scorer = self.engine.scorer()
            self.max_batch_tokens = self.max_batch_tokens or PACK_TOKENS[self.device]
            self.batch_size = self.batch_size or BATCH_SIZE[self.device]
        self.is_checked = False

    def check_logits(self, ids: list[int]) -> None:
        """Raise ValueError, the first time, if the model answers `ids` with what is no number."""
        if not self.is_checked and bool(self.engine.next_logits(ids).isnan().any()):
            raise ValueError(NO_NUMBERS)
        self.is_checked = True


class MultipleChoiceRun:
    """Items whose likeliest choice is the answer."""

    def __init__(self, task: Task, items: list[TaskItem], subject: Subject):
        if subject.endpoint:
            raise UserError(f"task {task.name} needs log-likelihoods, which an endpoint does not give; load its model")
        self.task, self.items, self.subject = task, items, subject
        self.questions = [[self.question(item, prompt) for prompt in item.prompts] for item in items]
        self.prefixes = {}
        self.units = []
        for group in dict.fromkeys(item.group for item in items):
            places = [place for place, item in enumerate(items) if item.group == group]
            self.prefixes[group] = common_prefix([question for place in places for question in self.questions[place]])
            sizes = [
                sum(question.num_tokens - len(self.prefixes[group]) for question in self.questions[place])
                for place in places
            ]
            self.units += [[places[i] for i in pack] for pack in plan_packs(sizes, subject.max_batch_tokens)]
        context = subject.scorer.max_length
        self.num_cut = sum(any(one.longest > context + 1 for one in questions) for questions in self.questions)
        self.cut = f"do not fit the context of {context:,}; their beginning is cut"

    def question(self, item: TaskItem, prompt: str) -> Question:
        """Context and choices as token ids, through the chat template where the task asks for one."""
        task, tokenizer, template = self.task, self.subject.tokenizer, self.subject.template
        try:
            if task.template and template:
                from ftkit.data.tokens.tokenization import prompt_ids

                context = prompt_ids(conversation(item, prompt), tokenizer, template)
                choices = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in item.choices]
                question = checked(Question(context, choices), item.choices)
            else:
                context = plain_prompt(task, item, prompt)
                delimiter = task.target_delimiter if context else ""
                question = encode_question(tokenizer, context, [delimiter + text for text in item.choices])
        except ValueError as error:
            raise misfit(task, item, error) from error
        longest, context = max(map(len, question.continuations)), self.subject.scorer.max_length
        if longest > context:
            reason = f"a choice has {longest:,} tokens and the model's context only {context:,}; leave the row out"
            raise misfit(task, item, reason)
        return question

    def run(self, unit: list[int]) -> list[Item]:
        """The items of one unit, scored."""
        questions = [question for place in unit for question in self.questions[place]]
        found = iter(self.subject.scorer.score(questions, self.prefixes[self.items[unit[0]].group]))
        return [self.record(self.items[place], [next(found) for _ in self.questions[place]]) for place in unit]

    def record(self, item: TaskItem, log_likelihoods: list[list[float]]) -> Item:
        """One item. log_likelihoods: of each prompt, of each choice."""
        if not all(math.isfinite(value) for row in log_likelihoods for value in row):
            raise misfit(self.task, item, NO_NUMBERS)
        lengths = [len(text) for text in item.choices]
        chosen = [likeliest(row) for row in log_likelihoods]
        chosen_normed = [likeliest(row, lengths) for row in log_likelihoods]
        right = [float(place == item.answer) for place in chosen]
        normed = [float(place == item.answer) for place in chosen_normed]
        scores = {
            "acc": mean(right),
            "acc_norm": mean(normed),
            "acc_worst": min(right),
            "consistency": float(len(set(chosen)) == 1),
            "stereotype_share": mean(right),
        }
        shown = chosen_normed if self.task.metrics[0] == "acc_norm" else chosen  # what the main metric scores
        prediction = item.choices[shown[0]]
        extra = {"log_likelihoods": log_likelihoods if len(log_likelihoods) > 1 else log_likelihoods[0]}
        return Item(
            item.item_id, {name: scores[name] for name in self.task.metrics}, item.prompts[0], prediction,
            item.reference, extra=noted(extra, item),
        )  # fmt: skip


class PerplexityRun:
    """Texts whose every token is scored, as by lm-eval: where the tokenizer itself begins a text with bos, that one is
    scored, too, after the bos that stands in front of all."""

    num_cut, cut = 0, ""

    def __init__(self, task: Task, items: list[TaskItem], subject: Subject):
        if subject.endpoint:
            raise UserError(f"task {task.name} needs log-likelihoods, which an endpoint does not give; load its model")
        self.task, self.items, self.subject = task, items, subject
        self.windows = [self.windows_of(item) for item in items]
        sizes = [sum(len(window) for window, _ in windows) for windows in self.windows]
        self.units = plan_packs(sizes, subject.max_batch_tokens)

    def windows_of(self, item: TaskItem) -> list[tuple[list[int], int]]:
        """The windows of an item's text; UserError for a text without tokens."""
        tokenizer = self.subject.tokenizer
        ids, first = encode(tokenizer, item.prompts[0]), prefix_token(tokenizer)
        if not ids:
            raise misfit(self.task, item, "the text is empty; leave the row out")
        if first is None:
            raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no bos or eos token to begin a text with")
        return rolling_windows(ids, first, self.subject.scorer.max_length)

    def run(self, unit: list[int]) -> list[Item]:
        """The items of one unit, scored."""
        found = iter(self.subject.scorer.score_windows([window for place in unit for window in self.windows[place]]))
        return [self.record(place, math.fsum(next(found) for _ in self.windows[place])) for place in unit]

    def record(self, place: int, log_likelihood: float) -> Item:
        """One item with its scores. log_likelihood: of its text, in nats."""
        item = self.items[place]
        if not math.isfinite(log_likelihood):
            raise misfit(self.task, item, NO_NUMBERS)
        text = item.prompts[0]
        num_bytes, num_tokens = len(text.encode()), sum(count for _, count in self.windows[place])
        scores = {
            "bits_per_byte": -log_likelihood / num_bytes / math.log(2),
            "perplexity": math.exp(min(-log_likelihood / num_tokens, 700.0)),
        }
        extra = {"log_likelihood": log_likelihood, "num_tokens": num_tokens, "num_bytes": num_bytes}
        return Item(
            item.item_id, {name: scores[name] for name in self.task.metrics}, text, weight=float(num_bytes),
            extra=noted(extra, item),
        )  # fmt: skip


class GenerationRun:
    """Items that are answered in text, and compared with what was wanted."""

    num_cut, cut = 0, ""  # of an endpoint not known

    def __init__(self, task: Task, items: list[TaskItem], subject: Subject):
        self.task, self.items, self.subject = task, items, subject
        self.num_tokens: dict[int, int] = {}  # of each answer, by the place of its item
        self.sources: dict[str, list] = {}
        if "faithfulness" in task.metrics and not subject.retriever:
            raise UserError(f"task {task.name}: faithfulness is about sources; give them: --index FOLDER")
        if subject.retriever and not task.template:
            raise UserError(f"task {task.name} asks no question in a chat; run it without --index")
        if subject.endpoint:
            size = subject.endpoint.concurrency
            self.units = [list(range(start, len(items)))[:size] for start in range(0, len(items), size)]
            return
        self.prompts = [self.prompt_ids(item) for item in items]
        self.settle_lengths()
        self.units = []
        for group in dict.fromkeys(item.group for item in items):
            places = [place for place, item in enumerate(items) if item.group == group]
            places.sort(key=lambda place: -len(self.prompts[place]))
            self.units += [
                places[start : start + subject.batch_size] for start in range(0, len(places), subject.batch_size)
            ]

    def settle_lengths(self) -> None:
        """Count the prompts that leave an answer less than its room. Raises UserError for those that leave none."""
        from ftkit.inference.generation import context_limit

        context, room = context_limit(self.subject.engine.model), self.task.max_new_tokens
        self.num_cut = sum(len(ids) + room > context for ids in self.prompts)
        self.cut = f"leave the answer less than {room:,} tokens of the context of {context:,}"
        too_long = [place for place, ids in enumerate(self.prompts) if len(ids) >= context]
        if not too_long:
            return
        first = too_long[0]
        reason = (
            f"the prompt has {len(self.prompts[first]):,} tokens and the model's context only {context:,} "
            f"({len(too_long):,} of {len(self.items):,} prompts do not fit)"
        )
        raise misfit(self.task, self.items[first], f"{reason}; {self.way_to_fit([self.items[i] for i in too_long])}")

    def way_to_fit(self, items: list[TaskItem]) -> str:
        """What a person can do about prompts that are too long: ask with the most examples that fit, if any do."""
        from ftkit.inference.generation import context_limit

        for num in reversed(range(len(items[0].examples))):
            shorter = (dataclasses.replace(item, examples=item.examples[:num]) for item in items)
            if all(len(self.prompt_ids(item)) < context_limit(self.subject.engine.model) for item in shorter):
                return f"with {num} examples all do: --num_fewshot {num}"
        return "leave those rows out"

    @property
    def by_template(self) -> bool:
        """Whether items are asked through the model's chat template."""
        return self.task.template and bool(self.subject.template)

    def prompt_ids(self, item: TaskItem) -> list[int]:
        """An item's prompt as token ids."""
        tokenizer = self.subject.tokenizer
        if self.by_template:
            from ftkit.data.tokens.tokenization import prompt_ids

            return prompt_ids(self.asked(item), tokenizer, self.subject.template)
        return encode(tokenizer, plain_prompt(self.task, item, item.prompts[0]))

    def asked(self, item: TaskItem) -> list[dict]:
        """The conversation of an item, with the passages for its question where there is an index."""
        messages = conversation(item, item.prompts[0])
        if self.subject.retriever:
            messages, self.sources[item.item_id] = self.subject.retriever.sourced(messages)
        return messages

    def run(self, unit: list[int]) -> list[Item]:
        """The items of one unit, answered and scored. A text that ends an answer ends no thought before it."""
        replies, stop = self.replies(unit, self.task.stop), self.task.stop
        if again := [place for place, reply in zip(unit, replies, strict=True) if stop and is_thought_alone(reply)]:
            whole = dict(zip(again, self.replies(again, []), strict=True))
            replies = [whole.get(place, reply) for place, reply in zip(unit, replies, strict=True)]
        return [self.record(self.items[place], reply) for place, reply in zip(unit, replies, strict=True)]

    def replies(self, unit: list[int], stop: Sequence[str]) -> list[str]:
        """What the model or the server says to the items of a unit, up to the first of the texts `stop`."""
        return self.ask(unit, stop) if self.subject.endpoint else self.generate(unit, stop)

    def generate(self, unit: list[int], stop: Sequence[str]) -> list[str]:
        """The model's replies."""
        subject = self.subject
        prompts = [self.prompts[place] for place in unit]
        try:
            subject.check_logits(prompts[-1])
            found = subject.engine.counted_texts(
                prompts,
                Sampling(max_new_tokens=self.task.max_new_tokens),
                is_plain=not self.by_template,
                batch_size=subject.batch_size,
                share_prefix=True,
                stop_strings=stop,
            )
        except ValueError as error:
            raise UserError(f"task {self.task.name}: {error}") from error
        self.num_tokens |= {place: number for place, (_, number) in zip(unit, found, strict=True)}
        return [text for text, _ in found]

    def ask(self, unit: list[int], stop: Sequence[str]) -> list[str]:
        """The server's replies."""
        conversations = [self.asked(self.items[place]) for place in unit]
        return self.subject.endpoint.answers(conversations, self.task.max_new_tokens, stop)

    def scores_of(self, answer: str, item: TaskItem) -> dict[str, float]:
        """The scores of an answer to an item."""
        texts = [one.passage.text for one in self.sources.get(item.item_id, ())]
        return answer_scores(self.task.metrics, answer, item, texts, self.subject.supports)

    def record(self, item: TaskItem, reply: str) -> Item:
        """One item with the scores of its answer, apart from the thought before it. reply: as it came."""
        thought, answer = split_thought(reply)
        answer = cut_at_stop(answer, self.task.stop).strip()
        scores = self.scores_of(answer, item)
        extra = noted({} if thought is None else {THOUGHT: thought}, item)
        if item.item_id in self.sources:
            extra["sources"] = [found.passage.id for found in self.sources[item.item_id]]
        return Item(item.item_id, scores, item.prompts[0], answer, item.reference, extra=extra)


RUNS = {
    "multiple_choice": MultipleChoiceRun, "perplexity": PerplexityRun, "generation": GenerationRun,
    "retrieval": RetrievalRun,
}  # fmt: skip


def mean(values: Sequence[float]) -> float:
    """The mean of some numbers."""
    return sum(values) / len(values)


def noted(extra: dict, item: TaskItem) -> dict:
    """What is recorded of an item beside its answer: its bare question and its group, where it has them."""
    named = {"question": item.question, "group": item.group}
    return extra | {name: text for name, text in named.items() if text}


def misfit(task: Task, item: TaskItem, reason) -> UserError:
    """The mistake of an item that a task can't ask."""
    return UserError(f"{item.source or item.item_id}: task {task.name}: {reason}")


def cut_at_stop(answer: str, stop: Sequence[str]) -> str:
    """The answer up to the first text that ends it."""
    ends = [answer.index(text) for text in stop if text in answer]
    return answer[: min(ends)] if ends else answer


def answer_scores(
    metrics: Sequence[str], answer: str, item: TaskItem, sources: Sequence[str] = (), supports: Any = None
) -> dict[str, float]:
    """An answer by each of the task's metrics; of BLEU and chrF its own, of which the corpus' is no mean.

    sources: the passages that it was answered from. supports: see `Subject`.
    """
    from ftkit.metrics import constraints, faithfulness, overlap, refusal, text_match

    simple = {
        "exact_match": text_match.is_exact, "contains": text_match.contains, "token_f1": text_match.token_f1,
        "numeric_match": text_match.numeric_match, "refusal": refusal.refusal, "bleu": overlap.sentence_bleu,
        "chrf": overlap.sentence_chrf,
    }  # fmt: skip
    scores = {}
    for name in metrics:
        if name in overlap.ROUGE_TYPES:
            scores[name] = overlap.rouge(answer, item.target)[name]
        elif name in ("constraints", "each_constraint"):
            kept = constraints.constraints_kept(answer, item.constraints)
            scores[name] = float(all(kept)) if name == "constraints" else mean(kept)
        elif name == "faithfulness":
            scores[name] = faithfulness.faithfulness(answer, sources, supports)
        elif name in ("final_answer", "quoted"):
            from ftkit.metrics import quoting

            of = {"final_answer": (quoting.final_answer, item.target), "quoted": (quoting.quoted, item.prompts[0])}
            scores[name] = of[name][0](answer, of[name][1])
        else:
            scores[name] = simple[name](answer, item.target)
    return scores
