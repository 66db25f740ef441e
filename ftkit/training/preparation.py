"""Rows and weights made ready for a trainer; rows are tokenized first, so that their mistakes come first."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

import ftkit.model  # noqa: F401  (registers FTGPT)
from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.hardware import Hardware, probe
from ftkit.data.cleaning.overlap import copies_of_test_rows
from ftkit.data.reading.loading import Rows, load_rows
from ftkit.data.reading.read_as import ReadAs
from ftkit.data.reading.streaming import RowStream, tokenized_stream
from ftkit.data.rows.columns import RowKind
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.templates.lock import read_lock, verify_lock, verify_tokenizer
from ftkit.data.templates.templates import TemplateInfo, install_template
from ftkit.data.tokens.labelled_answers import TokenizedAnswers
from ftkit.data.tokens.preferences import TokenizedPairs
from ftkit.data.tokens.receipt import Allowed, build_receipt, check_rows
from ftkit.data.tokens.tokenization import IGNORE_INDEX, TokenizedRows, tokenize_rows
from ftkit.model.adapters.files import named_base, run_settings, tokenizer_folder
from ftkit.model.adapters.loading import check_adapter_folder, put_adapter
from ftkit.model.adapters.methods import freeze_layers, keep_four_bit_gradients, quantization_config
from ftkit.model.context import context_size
from ftkit.model.fast.packed_attention import use_packed_attention
from ftkit.model.fast.varlen_attention import use_varlen_attention
from ftkit.model.loading import check_vocabulary, load_config, load_model, load_tokenizer, local_model_folder
from ftkit.model.weights.ternary import is_packed
from ftkit.training.decided import Facts
from ftkit.training.facts import model_facts, timed_head
from ftkit.training.packing import GPU_LIBRARIES, PACKED_ATTENTION, VARLEN_ATTENTION
from ftkit.training.plan import row_limit
from ftkit.training.ternary import go_ternary

STREAM_SAMPLE = 1000  # first rows of a stream, from which the plan is made and the receipt is counted
SHUFFLE_BUFFER = 1000  # rows of a stream that are mixed

FEW_UPDATES = 50  # with fewer, most of a run is warm-up and the loss has hardly moved


@dataclass
class PreparedData:
    """What training needs of the data.

    folder, config: of the model, local. tokenizer: with the template on it. template: None for plain text. rows: as
    read. train, test: tokenized; test is None when nothing is held out. copies: (training row, test row) of equal
    content. stream: the training rows as a datasets.IterableDataset where they are streamed; `rows` and `train` are
    then the first STREAM_SAMPLE, `stream_counts` what the stream has given so far, `stream_sources` where the rows that
    were read last are from.
    """

    folder: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    template: TemplateInfo | None
    rows: Rows
    train: TokenizedRows | TokenizedPairs | TokenizedAnswers
    test: TokenizedRows | TokenizedPairs | TokenizedAnswers | None
    copies: list[tuple[str, str]] | None = None
    stream: IterableDataset | None = None
    stream_counts: dict = field(default_factory=dict)
    stream_sources: dict = field(default_factory=dict)

    def train_dataset(self) -> Dataset | IterableDataset:
        """What a trainer takes: all rows, or the stream, mixed in a buffer."""
        return Dataset.from_list(self.train.rows) if self.stream is None else self.stream

    def origins(self) -> Iterator[tuple[list[int], str]]:
        """(token ids, source) of each sequence that is trained on; of a stream, of its first rows and of the last."""
        sequences = list(self.train.sequences())
        each = len(sequences) // len(self.train.kept)  # of a pair, two
        for number, row in enumerate(sequences):
            yield row["input_ids"], self.rows.train[self.train.kept[number // each]]["source"]
        for ids, source in self.stream_sources.items():
            yield np.frombuffer(ids, dtype=np.int32).tolist(), source

    def test_dataset(self) -> Dataset | None:
        """The held-out rows."""
        return Dataset.from_list(self.test.rows) if self.test else None


def with_base_of_adapter(settings):
    """The settings with the base that --adapter was trained on; they are returned as they are without one."""
    if not settings.model.adapter:
        return settings
    model = copy.copy(settings.model)
    recorded = run_settings(model.adapter)
    model.ftgpt = model.ftgpt or recorded.get("ftgpt", False)
    base = named_base(model.adapter)
    model.model_name_or_path = model.model_name_or_path or recorded.get("model_name_or_path", base)
    return settings._replace(model=model)


def prepare_data(
    settings,
    kind: RowKind = CONVERSATIONS,
    tokenize: Callable = tokenize_rows,
    *,
    may_change_template: bool = True,
    check: Callable = check_rows,
) -> PreparedData:
    """Read, check, render and tokenize the rows, before any weights are loaded.

    kind: the rows that are expected. tokenize: called as `tokenize_rows`, makes them what the trainer takes.
    may_change_template: whether --template may be another one than the model or adapter was trained with. check: called
    as `check_rows`, refuses rows that would teach nothing.
    Raises UserError for every mistake in a row, the template, the model's name or the length.
    """
    data, model, training = settings.data, settings.model, settings.training
    rows, stream = read_stream(settings, kind) if data.dataset_streaming else (read_rows(settings, kind), None)
    folder = local_model_folder(model.model_name_or_path, ftgpt=model.ftgpt, revision=model.model_revision)
    if model.adapter:
        check_adapter_folder(model.adapter, folder, trust_remote_code=training.trust_remote_code)
    origin = model.adapter or folder
    source = tokenizer_folder(model.adapter, folder) if model.adapter else folder  # PEFT alone saves no tokenizer
    tokenizer = load_tokenizer(source, trust_remote_code=training.trust_remote_code)
    is_new = may_change_template and data.template != "auto"
    if is_new:
        verify_tokenizer(origin, tokenizer)
    template = None
    if rows.format != "text":
        template = install_template(tokenizer, data.template, add_tokens=data.add_template_tokens)
    if not is_new and (lock := read_lock(origin)):
        verify_lock(origin, tokenizer)
        if template and data.template == "auto":  # what it was called when it was first trained with
            template = replace(template, name=lock["template"]["name"] or template.name)
    config = load_config(folder, trust_remote_code=training.trust_remote_code)
    max_length = getattr(training, "max_length", None)
    limit = row_limit(max_length, context_size(config), is_asked="max_length" in settings.given)
    tokenize = partial(tokenize, untrained_rows=data.untrained_rows)
    train = tokenize(rows.train, tokenizer, template, max_length=limit)
    check(train, template, allowed_by(data))
    test = tokenize(rows.test, tokenizer, template, max_length=limit) if rows.test else None
    prepared = PreparedData(folder, config, tokenizer, template, rows, train, test)
    prepared.copies = copies_of_test_rows(rows.train, rows.test) if rows.test else None
    if stream is not None:
        tokenized = tokenized_stream(
            stream, partial(tokenize, tokenizer=tokenizer, info=template, max_length=limit),
            prepared.stream_counts, prepared.stream_sources,
        )  # fmt: skip
        prepared.stream = tokenized.shuffle(seed=training.data_seed or training.seed, buffer_size=SHUFFLE_BUFFER)
    return prepared


def allowed_by(data) -> Allowed:
    """What the flags allow that is refused otherwise."""
    return Allowed(data.max_truncated_share, data.allow_untrained_end_of_turn, data.allow_empty_mask)


def source_of_rows(settings, kind: RowKind) -> dict:
    """What --dataset_name and its companions name, as `load_rows` and RowStream take it."""
    data = settings.data
    return {
        "name": data.dataset_name,
        "kind": kind,
        "format": data.dataset_format,
        "config": data.dataset_config,
        "train_split": data.dataset_train_split,
        "test_split": data.dataset_test_split,
        "read_as": ReadAs.of(data.columns, data.encoding, data.join_turns),
    }


def read_rows(settings, kind: RowKind) -> Rows:
    """All rows of --dataset_name."""
    rows = load_rows(**source_of_rows(settings, kind), test_size=settings.data.test_size, seed=settings.training.seed)
    if not kind.unfold:
        return rows
    return replace(rows, train=kind.unfold(rows.train), test=rows.test and kind.unfold(rows.test))


def read_stream(settings, kind: RowKind) -> tuple[Rows, RowStream]:
    """The first rows of --dataset_name, and the stream that they are the beginning of.

    Raises UserError without --max_steps, as nobody knows how long a stream is, and for a share to be held out.
    """
    data = settings.data
    if settings.training.max_steps <= 0:
        raise UserError("--dataset_streaming needs --max_steps: how many rows there are is not known")
    if data.test_size is not None and data.test_size < 1:
        raise UserError(f"--test_size {data.test_size} of a stream is not known; give a number of rows, the first ones")
    stream = RowStream(**source_of_rows(settings, kind), num_held_out=int(data.test_size or 0))
    first = list(itertools.islice(stream, STREAM_SAMPLE))
    if not first:
        raise UserError(
            f"{stream.source}: no row is left to train on; hold out fewer than --test_size {data.test_size}"
        )
    return Rows(first, stream.held_out, stream.format, stream.source, stream.ignored_columns), stream


def describe_rows(run, receipt: dict | None) -> list[str]:
    """Lines of the plan about rows, template and updates. receipt: None before weights are loaded."""
    data, rows, decided, config = run.data, run.data.rows, run.decided, run.config
    is_stream = getattr(data, "stream", None) is not None
    held_out = rows.test or getattr(rows, "validation", None) or []
    read = f"{len(rows.train):,} first rows of a stream" if is_stream else counted(len(rows.train), "row")
    lines = [f"data       {rows.source}: {read} ({rows.format}), {len(held_out)} held out"]
    is_labelled = hasattr(rows, "labels")
    if receipt is None:
        if not is_labelled:
            lines.append(f"template   {data.template.name if data.template else 'none (plain text)'}")
        return [
            *lines,
            f"plan       about {counted(decided.num_updates, 'update')}; learning rate {decided.learning_rate:g}",
        ]
    num_sequences, tokens = run.num_sequences or receipt["num_sequences"], receipt["num_tokens"]
    each = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    done = "scored" if receipt.get("is_scored") else "trained"
    trained = f"{receipt['num_rows']} labels" if is_labelled else f"{receipt['num_trained_tokens']} of them {done}"
    size = round(tokens / num_sequences * min(each, num_sequences))
    lines.append(
        f"plan       {counted(run.num_updates, 'update')} of about {size} tokens{of_all(config.world_size)}; "
        f"{tokens} tokens {'at the beginning' if is_stream else 'per pass'}, {trained}; "
        f"learning rate {decided.learning_rate:g}"
    )
    if run.num_updates < FEW_UPDATES:
        few = f"only {counted(run.num_updates, 'update')}; add rows or --num_train_epochs, or use a smaller batch"
        lines.append(f"warning    {few}")
    return lines


def of_all(num_processes: int) -> str:
    """That an update's tokens are those of all processes, where there are several."""
    return f" of {num_processes} processes together" if num_processes > 1 else ""


def row_receipt(run, trainer=None, *, sequences_per_row: int = 1) -> dict:
    """What is trained on, counted from rows that go into the trainer as they were tokenized, whatever it is."""
    data = run.data
    return build_receipt(
        data.train.sequences(),
        data.tokenizer,
        data.template,
        data.train,
        sequences_per_row=sequences_per_row,
        origins=data.origins(),
        batch_size=sequences_per_row * run.config.per_device_train_batch_size,
        copies=data.copies,
    )


def row_facts(settings, data: PreparedData, hardware: Hardware) -> Facts:
    """What decisions rest on, of rows that are tokenized."""
    training, model = settings.training, settings.model
    facts = model_facts(
        data.config, hardware, trust_remote_code=training.trust_remote_code,
        probe_isolation=getattr(training, "packing", False) is not False,
    )  # fmt: skip
    uniform = getattr(training, "loss_type", None) == "nll"
    kernel = None
    if hardware == probe(use_cpu=training.use_cpu):  # not one that is only planned for
        kernel = timed_head(facts, trained=not model.use_peft, uniform_rows=uniform)
    return dataclasses.replace(
        facts, lengths=data.train.lengths, is_stream=data.stream is not None,
        num_test=len(data.rows.test or []), held_out=answer_lengths(data), head_kernel=kernel,
    )  # fmt: skip


def answer_lengths(data: PreparedData) -> list[tuple[int, int]]:
    """Tokens of each held-out row, and of its answer, of a pair the chosen one; plain text asks nothing."""
    if not (data.test and data.template):
        return []
    sequences = list(data.test.sequences())
    each = len(sequences) // max(1, len(data.test.kept))  # of a pair, two
    return [
        (len(row["input_ids"]), sum(label != IGNORE_INDEX for label in row["labels"]))
        for row in sequences[:: each or 1]
    ]


def load_trained(run) -> PreTrainedModel:
    """Load the weights, grow the vocabulary by added tokens, freeze what is not trained, put --adapter on."""
    model_args, data = run.settings.model, run.data
    if is_packed(data.folder) and not model_args.use_peft:
        raise UserError(
            f"{data.folder}: its weights are packed to 1.58 bits and can't be trained; take the run it was exported "
            "from, or add --use_peft"
        )
    model = load_base(run)
    keep_four_bit_gradients(model)
    if data.template and data.template.added_tokens:
        if len(data.tokenizer) > len(model.get_input_embeddings().weight):
            model.resize_token_embeddings(len(data.tokenizer))
    if not model_args.adapter:  # which may bring tokens of its own
        check_vocabulary(model, data.tokenizer)
    if data.template:
        stop_at_end_of_turn(model, data.template.end_of_turn_id)
    if model_args.num_frozen_layers:
        freeze_layers(model, model_args.num_frozen_layers)
    if model_args.adapter:
        return put_adapter(model, model_args.adapter, data.tokenizer, is_trainable=True)
    go_ternary(run, model)
    return model


def load_base(run) -> PreTrainedModel:
    """The weights of the run's base in the decided precision, with the decided attention."""
    model_args, decided = run.settings.model, run.decided
    model = load_model(
        run.data.folder,
        dtype=decided.dtype,
        attn_implementation=loaded_attention(run),
        quantization_config=quantization_config(model_args, decided.dtype),
        trust_remote_code=run.config.trust_remote_code,
    )
    switch_attention(model, decided.attention)
    return model


def loaded_attention(run) -> str | None:
    """The attention that weights are loaded with: as asked, or a library's where that was decided; None for its own."""
    return run.decided.attention if run.decided.attention in GPU_LIBRARIES else run.settings.model.attn_implementation


def switch_attention(model: PreTrainedModel, attention: str) -> None:
    """Put one of our own ways of attention in the place of sdpa, if that was decided."""
    if attention == PACKED_ATTENTION:
        use_packed_attention(model)
    elif attention == VARLEN_ATTENTION:
        use_varlen_attention(model)


def stop_at_end_of_turn(model: PreTrainedModel, end_of_turn_id: int) -> None:
    """Let generation stop at the template's end-of-turn token as well as at the model's own end tokens."""
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [known]
    model.generation_config.eos_token_id = list(dict.fromkeys([end_of_turn_id, *(i for i in known if i is not None)]))
