"""Distillation: rows and teacher made ready, the teacher asked or kept, and the trainer of each way."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from accelerate.utils import broadcast_object_list
from datasets import Dataset
from peft import get_peft_model

from ftkit.config.amounts import counted
from ftkit.config.disk import size_text
from ftkit.config.errors import UserError
from ftkit.config.settings.distill import ROWS, STUDENT, TEACHER
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.tokens.receipt import build_receipt
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.data.tokens.tokenization import IGNORE_INDEX
from ftkit.inference.end_tokens import end_token_ids
from ftkit.model.adapters.methods import peft_config
from ftkit.model.context import context_size
from ftkit.training.callbacks import tell
from ftkit.training.distill.divergence import Loss
from ftkit.training.distill.kept import Asked, Kept
from ftkit.training.distill.offline import FTOfflineTrainer, RowCollator
from ftkit.training.distill.on_policy import FTOnPolicyTrainer
from ftkit.training.distill.teacher import Teacher
from ftkit.training.distill.written import Written
from ftkit.training.first_process import on_first_process
from ftkit.training.method import Method, Run
from ftkit.training.preparation import (
    PreparedData,
    describe_rows,
    load_trained,
    prepare_data,
    read_rows,
    row_facts,
)
from ftkit.training.samples import row_questions


@dataclass
class DistillData(PreparedData):
    """Rows, and who teaches. kept: what the teacher says of them, training rows first."""

    teacher: Teacher = field(kw_only=True)
    kept: Kept | None = field(default=None, repr=False)

    @property
    def num_tokens(self) -> int:
        """Of the vocabulary: what either head has beyond the other's, padding, is left out."""
        return min(self.config.get_text_config().vocab_size, self.teacher.num_rows)

    @property
    def all_rows(self) -> list[dict]:
        """The tokenized rows, training rows first."""
        return self.train.rows + (self.test.rows if self.test else [])


def prepare(settings) -> DistillData:
    """The rows, tokenized, and the teacher held against them."""
    teacher = Teacher.named(settings)
    if settings.training.answers == TEACHER:
        kind = CONVERSATIONS._replace(unfold=written_answers(settings, teacher).answered)
        return DistillData(**vars(prepare_data(settings, kind)), teacher=teacher)
    data = DistillData(**vars(prepare_data(settings)), teacher=teacher)
    check_other(settings, data)
    teacher.check_same_tokens(data.tokenizer, data.template)
    teacher.check_rows(data.all_rows)
    if settings.training.answers == STUDENT:
        check_prompts(settings, data)
    return data


def check_other(settings, data: DistillData) -> None:
    """Raise UserError where the student is its own teacher: the gradient is rounding, which Adam makes steps of."""
    teacher = data.teacher
    is_same = Path(teacher.folder).samefile(data.folder) and teacher.adapter == settings.model.adapter
    if is_same and not settings.training.hard_label_weight:
        raise UserError(f"--teacher {teacher.name} is the student, who learns nothing from itself; name another model")


def written_answers(settings, teacher: Teacher) -> Written:
    """What the teacher writes to all rows' questions, by the first process; with --plan what it has written so far."""
    written = Written(teacher, settings.training.max_completion_length)
    if settings.training.plan:
        return written

    def write() -> None:
        rows = read_rows(settings, CONVERSATIONS)
        if rows.format == "text":
            raise UserError(f"{rows.source}: rows of text ask nothing, and the teacher has to answer; give questions")
        written.write(rows.train + (rows.test or []), shown=not settings.training.disable_tqdm)

    on_first_process(settings.training, write)
    return Written(teacher, written.max_new_tokens)


def prompt_of(row: dict) -> list[int]:
    """Token ids of a tokenized row up to its last answer."""
    trained = [place for place, label in enumerate(row["labels"]) if label != IGNORE_INDEX]
    start = next(place for place in reversed(trained) if place == 0 or row["labels"][place - 1] == IGNORE_INDEX)
    return row["input_ids"][:start]


def check_prompts(settings, data: DistillData) -> None:
    """Raise UserError where the student can't answer: without a template or an end token, or without room."""
    if data.template is None:
        raise UserError("--answers student: rows of text ask nothing; give rows with questions")
    room, sizes = settings.training.max_completion_length, (context_size(data.config), data.teacher.context)
    context = min((size for size in sizes if size), default=None)
    longest = max(len(prompt_of(row)) for row in data.all_rows)
    if context and longest + room > context:
        raise UserError(
            f"a prompt of {longest} tokens and an answer of --max_completion_length {room} are more than the context "
            f"of {context}; lower it to {max(1, context - longest)}, or shorten the prompts"
        )


def facts(settings, data: DistillData, hardware):
    """What decisions rest on: with --answers student rows as long as they may become."""
    found = row_facts(settings, data, hardware)
    if settings.training.answers != STUDENT:
        return found
    room = settings.training.max_completion_length
    return dataclasses.replace(found, lengths=[len(prompt_of(row)) + room for row in data.train.rows])


def keep(run: Run) -> Kept | None:
    """What is to be kept of the teacher; None where its whole distribution is asked in each step, or labels alone."""
    data, training = run.data, run.settings.training
    if training.answers != ROWS or not training.teacher_top_k or training.hard_label_weight == 1:
        return None
    if data.kept is None:
        asked = Asked(training.teacher_top_k, training.temperature, data.num_tokens)
        data.kept = Kept(f"{data.teacher.digest()} {run.decided.own['teacher_dtype']}", asked, data.all_rows)
    return data.kept


def build_trainer(run: Run, model):
    """The trainer of --answers; what the teacher says is computed where it is not kept yet."""
    data = run.data
    data.teacher.settings = dataclasses.replace(data.teacher.settings, dtype=run.decided.own["teacher_dtype"])
    return (build_on_policy if run.settings.training.answers == STUDENT else build_offline)(run, model)


def build_offline(run: Run, model) -> FTOfflineTrainer:
    """The trainer on the rows' answers, or on those that the teacher has written."""
    data, training = run.data, run.settings.training
    kept = keep(run)
    weight = training.hard_label_weight if training.answers == ROWS else 1.0
    numbered = [row | {"row": number} for number, row in enumerate(data.all_rows)]
    num_train = len(data.train.rows)
    trainer = FTOfflineTrainer(
        model=with_adapter(run, model),
        args=run.config,
        train_dataset=Dataset.from_list(numbered[:num_train]),
        eval_dataset=Dataset.from_list(numbered[num_train:]) if data.test else None,
        data_collator=RowCollator(data.tokenizer.pad_token_id, kept),
        processing_class=data.tokenizer,
        loss=Loss(run.decided.own["beta"], training.temperature, weight, data.num_tokens),
        teacher=data.teacher.model("cpu") if kept is None and weight < 1 else None,
    )
    if kept:
        fill(run, trainer, kept)
    return trainer


def build_on_policy(run: Run, model) -> FTOnPolicyTrainer:
    """The trainer on the student's samples."""
    data = run.data
    train, test = (
        Dataset.from_list([{"prompt": prompt_of(row)} for row in part.rows]) if part else None
        for part in (data.train, data.test)
    )
    return FTOnPolicyTrainer(
        model=model,
        args=run.config,
        train_dataset=train,
        eval_dataset=test,
        processing_class=data.tokenizer,
        peft_config=peft_config(run.settings.model, model, data.template.added_tokens),
        teacher=data.teacher.model("cpu"),
        num_tokens=data.num_tokens,
        end_ids=end_token_ids(data.tokenizer, data.template, model.generation_config.eos_token_id),
    )


def with_adapter(run: Run, model):
    """The model with a new adapter on it, where one is asked for."""
    settings = run.settings
    if settings.model.use_peft and not settings.model.adapter:
        added = run.data.template.added_tokens if run.data.template else []
        model = get_peft_model(model, peft_config(settings.model, model, added))
    if settings.model.use_peft and run.decided.activation_checkpointing:
        model.enable_input_require_grads()
    return model


def fill(run: Run, trainer, kept: Kept) -> None:
    """Ask the teacher about the rows that are not kept yet, shared by the processes of the run."""
    accelerator, data = trainer.accelerator, run.data
    missing = [kept.missing]
    broadcast_object_list(missing)
    own = missing[0][accelerator.process_index :: accelerator.num_processes]
    if own:
        with data.teacher.loaded(accelerator.device) as model:
            shown = accelerator.is_main_process and not run.config.disable_tqdm
            kept.make(model, own, data.tokenizer.pad_token_id, run.config.per_device_eval_batch_size, shown=shown)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        how = "computed, and kept in" if missing[0] else "read from"
        tell(f"teacher    what it says of {kept.num_tokens:,} tokens {how} {kept.folder}")


def receipt(run: Run, trainer) -> dict:
    """What is trained on, counted from the rows, and who teaches; with --answers student, what is asked."""
    data, training = run.data, run.settings.training
    teacher = {"name": data.teacher.name, "digest": data.teacher.digest(), "answers": training.answers}
    rows, is_asked, origins = data.train.rows, training.answers == STUDENT, list(data.origins())
    if is_asked:
        origins = [(prompt_of(row), source) for row, (_, source) in zip(rows, origins, strict=True)]
        rows = [{"input_ids": ids, "labels": [IGNORE_INDEX] * len(ids)} for ids, _ in origins]
    found = build_receipt(
        rows,
        data.tokenizer,
        data.template,
        data.train,
        origins=origins,
        batch_size=run.config.per_device_train_batch_size,
        copies=data.copies,
    )
    if is_asked:  # nothing of the rows is trained, the end token neither
        found |= {"num_end_tokens_trained": 0, "mean_tokens": found["num_tokens"] / len(rows)}
        del found["end_of_turn_id"], found["end_of_turn"]
    return found | {"teacher": teacher}


def describe(run: Run, receipt: dict | None) -> list[str]:
    """As for rows of any kind, with what is learnt from the teacher."""
    lines, training = describe_rows(run, receipt), run.settings.training
    if receipt and training.answers == STUDENT:
        lines = [line for line in lines if not line.startswith("plan ")]
        asked = f"{receipt['num_tokens']:,} tokens of prompts per pass, each answered by up to {room(training)}"
        updates = counted(run.num_updates, "update")
        lines.append(f"plan       {updates}; {asked}; learning rate {run.decided.learning_rate:g}")
    return [*lines, f"teacher    {run.data.teacher.name}, {teacher_line(run)}"]


def room(training) -> str:
    """Tokens of an answer that is written."""
    return counted(training.max_completion_length, "token")


def teacher_line(run: Run) -> str:
    """What is learnt, and what that costs."""
    data, training, own = run.data, run.settings.training, run.decided.own
    if training.answers == TEACHER:
        return f"which wrote the answers, up to {room(training)} each; trained as labels"
    kept, beta, weight = keep(run), own["beta"], training.hard_label_weight
    kind = {0: "KL(teacher || student)", 1: "KL(student || teacher)"}.get(beta, f"Jensen-Shannon, beta {beta:g}")
    softened = f" at temperature {training.temperature:g}" if training.temperature != 1 else ""
    mixed = f", {weight:g} of the loss from labels" if weight else ""
    what = f"the whole distribution of {data.num_tokens:,} tokens, asked in each step"
    if training.answers == STUDENT:
        what = f"of the student's own answers, up to {room(training)} each"
    elif kept:
        state = f"{size_text(kept.num_bytes)} in {kept.folder}" if kept.missing else f"read from {kept.folder}"
        what = f"its {kept.asked.num} likeliest of {data.num_tokens:,} tokens, all others as one; {state}"
    return f"{own['teacher_dtype']}: {kind}{softened}{mixed}; {what}"


METHOD = Method(prepare, facts, load_trained, build_trainer, receipt, describe, format_receipt, row_questions)
