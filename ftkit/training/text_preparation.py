"""Text and weights made ready for pretraining: blocks, a receipt of them, and a new FTGPT or loaded weights."""

import bisect
import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, IterableDataset
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ftkit.config import amounts
from ftkit.config.errors import UserError
from ftkit.config.hardware import Hardware
from ftkit.config.settings.needs import plain
from ftkit.data.reading.documents import cut_end, load_documents, stream_documents, text_files
from ftkit.data.reading.read_as import ReadAs
from ftkit.data.templates.lock import verify_tokenizer
from ftkit.data.tokens.blocks import block_dataset, block_stream, shuffled, tokenize_documents
from ftkit.data.tokens.receipt_text import token_spans
from ftkit.model.adapters.files import tokenizer_folder
from ftkit.model.adapters.loading import check_adapter_folder
from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.context import context_size
from ftkit.model.loading import load_config, load_tokenizer, local_model_folder
from ftkit.model.modeling_ftgpt import FTGPTForCausalLM
from ftkit.training.budget import budget_lines
from ftkit.training.decided import Facts
from ftkit.training.facts import model_facts
from ftkit.training.preparation import load_trained, loaded_attention, of_all, switch_attention
from ftkit.training.ternary import go_ternary

ROPE_THETA = 10_000.0  # of a new model, whose context is short; the preset's is for 8,192 tokens
END_SHARE = 0.1  # of a single text that is held out
END_OF_TEXT = "<|endoftext|>"  # what GPT-2's texts, and books that teach it, are joined with
STREAM_SAMPLE = 200  # first documents of a stream, counted for the receipt


@dataclass
class PreparedText:
    """folder, config: of the model whose weights are trained on. train, validation: blocks. beginnings: ids of held-out
    documents. receipt: what is trained on, for receipt.json.

    tokens_per_byte: of the held-out text, or of the training text where none is held out. documents: trained on, where
    they were read whole and a benchmark's questions are to be searched in them. sources, lengths: `file:line` and
    tokens of the documents, in the order in which blocks were made of them; none for a stream.
    notes: what a person should know of the text. ignored_columns: of the rows, beside their text.
    """

    folder: str | None
    config: PretrainedConfig | None
    tokenizer: PreTrainedTokenizerBase
    source: str
    train: Dataset | IterableDataset
    validation: Dataset | None
    tokens_per_byte: float
    receipt: dict
    beginnings: list[list[int]] = field(default_factory=list)
    documents: list[dict] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    template: None = None

    def origins(self) -> Iterator[tuple[list[int], str]]:
        """(token ids, source of each document in it) of each block; none for a stream."""
        ends = list(itertools.accumulate(self.lengths))
        start = 0
        for block in self.train if self.sources else ():
            ids = block["input_ids"].tolist()
            first, last = bisect.bisect_right(ends, start), bisect.bisect_left(ends, start + len(ids))
            start += len(ids)
            yield ids, ", ".join(self.sources[first : last + 1])

    @property
    def is_stream(self) -> bool:
        """Whether the training text is read as it is needed."""
        return isinstance(self.train, IterableDataset)


def prepare_blocks(settings) -> PreparedText:
    """Read the text, tokenize it and join it into blocks; raise UserError for every mistake in it."""
    data, model, training = settings.data, settings.model, settings.training
    folder, documents, order, notes = None, [], [], []
    if not model.is_new:
        folder = local_model_folder(model.model_name_or_path, ftgpt=model.ftgpt, revision=model.model_revision)
    config = load_config(folder, trust_remote_code=training.trust_remote_code) if folder else None
    if config:
        check_context(config, data.block_size)
    if model.adapter:
        check_adapter_folder(model.adapter, folder, trust_remote_code=training.trust_remote_code)
    origin = model.adapter or folder
    source = tokenizer_folder(model.adapter, folder) if model.adapter else folder
    tokenizer = load_tokenizer(model.tokenizer or source, trust_remote_code=training.trust_remote_code)
    if origin and not model.tokenizer:
        verify_tokenizer(origin, tokenizer)
    seed = training.seed if training.data_seed is None else training.data_seed
    named = {
        "train_split": data.dataset_train_split, "test_split": data.dataset_test_split, "config": data.dataset_config,
        "read_as": ReadAs.of(data.columns, data.encoding),
    }  # fmt: skip
    if data.dataset_streaming:
        if data.test_size is not None and data.test_size < 1:
            raise UserError(f"--test_size {data.test_size} of a stream is not known; give a number of documents")
        stream = stream_documents(data.dataset_name, **named, num_held_out=int(data.test_size or 0))
        texts = [row["text"] for row in itertools.islice(stream, STREAM_SAMPLE)]
        counted, source = tokenize_documents(texts, tokenizer), stream.source
        held_out, ignored = stream.held_out, stream.ignored_columns
        train = block_stream(TextsOf(stream), tokenizer, data.block_size, seed)
    else:
        rows = load_documents(
            data.dataset_name, separator=data.document_separator, **named, test_size=data.test_size, seed=seed,
        )  # fmt: skip
        notes += hold_out_end(rows, settings, tokenizer)
        texts, held_out, source, ignored = (
            [row["text"] for row in rows.train], rows.test, rows.source, rows.ignored_columns
        )  # fmt: skip
        counted = tokenize_documents(texts, tokenizer)
        documents = rows.train if training.benchmark_tasks else []
        train = block_dataset(counted, data.block_size, seed)
        order = shuffled(list(zip(map(len, counted.ids), (row["source"] for row in rows.train), strict=True)), seed)
    scored = tokenize_documents((row["text"] for row in held_out), tokenizer) if held_out else None
    validation = block_dataset(scored, data.block_size, None) if scored else None
    ratio = (scored or counted).num_tokens / (scored or counted).num_bytes
    beginnings = [ids.tolist() for ids in scored.ids] if scored else []
    receipt = build_receipt(settings, counted, scored, train, validation, tokenizer)
    notes += written_tokens(texts, tokenizer, is_file=bool(text_files(Path(data.dataset_name).expanduser())))
    return PreparedText(
        folder, config, tokenizer, source, train, validation, ratio, receipt, beginnings, documents,
        [source for _, source in order], [length for length, _ in order], notes, ignored,
    )  # fmt: skip


def hold_out_end(rows, settings, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Hold out the last tenth of a single text, where nothing is said of that; what a person should know of it."""
    data, strategy = settings.data, plain(settings.training.eval_strategy)
    if rows.test is not None or data.test_size is not None or len(rows.train) > 1:
        return []
    if "eval_strategy" in settings.given and strategy == "no":
        return []
    train, end = cut_end(rows.train[0], END_SHARE)
    num_tokens = tokenize_documents([end["text"]], tokenizer).num_tokens
    if num_tokens < data.block_size:
        return [f"one text: nothing is held out, as its last tenth ({num_tokens} tokens) does not fill a block"]
    rows.train, rows.test = [train], [end]
    return [f"one text: its last tenth, from {end['source']} on, is held out; --test_size changes it, 0 trains on all"]


def written_tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase, *, is_file: bool) -> list[str]:
    """A line for each control token that is written in the texts, where it is plain text."""
    lines = []
    for token in dict.fromkeys([END_OF_TEXT, *tokenizer.all_special_tokens]):
        if count := sum(text.count(token) for text in texts):
            fix = f"--document_separator '{token}' splits documents there" if is_file else "split the rows there"
            times = "once" if count == 1 else f"{count:,} times"
            lines.append(f'"{token}" is written {times} in the text and read as plain text, not as an end; {fix}')
    return lines


class TextsOf:
    """The texts of rows, which can be gone through again."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return (row["text"] for row in self.rows)


def build_receipt(settings, counted, scored, train, validation, tokenizer) -> dict:
    """What is trained on, as JSON: counts of documents, bytes, tokens and blocks, and the first block."""
    is_stream = isinstance(train, IterableDataset)
    block_size = settings.data.block_size
    first = next(iter(train))["input_ids"]
    ids = [int(token) for token in first]
    receipt = {
        "num_documents": len(counted.ids),
        "num_bytes": counted.num_bytes,
        "num_tokens": counted.num_tokens,
        "counted": f"the first {len(counted.ids)} documents of a stream" if is_stream else "all documents",
        "bytes_per_token": counted.num_bytes / counted.num_tokens,
        "block_size": block_size,
        "num_blocks": None if is_stream else len(train),
        "documents_see_each_other": not settings.data.isolate_documents,
        "end_of_document": tokenizer.eos_token,
        "num_held_out_documents": len(scored.ids) if scored else 0,
        "num_held_out_bytes": scored.num_bytes if scored else 0,
        "num_held_out_blocks": len(validation) if validation else 0,
        "sha256": counted.sha256,
        "held_out_sha256": scored.sha256 if scored else None,
        "typical_rows": [{"source": "block 1", "num_tokens": len(ids), "tokens": token_spans(ids, ids, tokenizer)}],
    }
    return receipt


def block_facts(settings, data: PreparedText, hardware: Hardware) -> Facts:
    """What decisions rest on, of text in blocks."""
    config = data.config or new_config(settings.model, data.tokenizer, settings.data.block_size)
    facts = model_facts(
        config, hardware, trust_remote_code=settings.training.trust_remote_code,
        probe_isolation=settings.data.isolate_documents,
    )  # fmt: skip
    return dataclasses.replace(
        facts, is_stream=data.is_stream, num_blocks=None if data.is_stream else len(data.train),
        num_test=len(data.validation or []),
    )  # fmt: skip


def load_or_make(run) -> PreTrainedModel:
    """A new FTGPT with random weights from the seed that was set, or the weights of --model_name_or_path."""
    model_args, block_size = run.settings.model, run.settings.data.block_size
    if model_args.is_new:
        config = new_config(model_args, run.data.tokenizer, block_size)
        if loaded_attention(run):
            config._attn_implementation = loaded_attention(run)
        model = FTGPTForCausalLM(config)
        switch_attention(model, run.decided.attention)
        go_ternary(run, model)
        return model
    return load_trained(run)


def new_config(model_args, tokenizer: PreTrainedTokenizerBase, block_size: int) -> FTGPTConfig:
    """The configuration of a new FTGPT; raise UserError for sizes that are impossible."""
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    choices = {name: getattr(model_args, name) for name in sizes}
    choices |= {name: model_args.dropout for name in ("attention_dropout", "residual_dropout", "embedding_dropout")}
    if model_args.preset == "llama":
        choices["rope_parameters"] = {"rope_type": "default", "rope_theta": ROPE_THETA}
    preset = {"llama": FTGPTConfig.llama, "gpt2": FTGPTConfig.gpt2}[model_args.preset]
    try:
        return preset(
            vocab_size=len(tokenizer), max_position_embeddings=block_size, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **choices,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"no model of these sizes: {error}") from error


def check_context(config: PretrainedConfig, block_size: int) -> None:
    """Raise UserError where blocks are longer than the model's context."""
    context = context_size(config)
    if context is not None and block_size > context:
        raise UserError(f"--block_size {block_size} is more than the model's context of {context}; lower it")


def describe_blocks(run, receipt: dict | None) -> list[str]:
    """Lines of the plan about text, blocks and cost."""
    data, asked, config = run.data, run.settings, run.config
    receipt, updates = data.receipt, run.num_updates
    size = run.num_parameters or run.decided.num_parameters
    per_device = run.decided.per_device_train_batch_size * run.decided.gradient_accumulation_steps
    each = per_device * run.hardware.num_devices * asked.data.block_size
    blocks = "a stream of blocks" if data.is_stream else amounts.counted(receipt["num_blocks"], "block")
    apart = "documents see nothing of each other" if asked.data.isolate_documents else "documents are not isolated"
    return [
        f"text       {data.source}: {amounts.counted(receipt['num_documents'], 'document')} ({receipt['counted']}), "
        f"{receipt['num_bytes'] / 1e6:.2f} MB, {receipt['bytes_per_token']:.2f} bytes per token; "
        f"{amounts.counted(receipt['num_held_out_documents'], 'document')} held out",
        f"blocks     {blocks} of {receipt['block_size']} tokens, {apart}",
        f"plan       {amounts.counted(updates, 'update')} of {each:,} tokens"
        f"{of_all(run.hardware.num_devices)}, {run.decided.lr_scheduler_type}, "
        f"learning rate {run.decided.learning_rate:g}, weight decay {config.weight_decay:g} on matrices, "
        f"gradients clipped at {config.max_grad_norm:g}",
        *budget_lines(size, updates * each, None if data.is_stream else receipt["num_tokens"]),
        *(f"note       {note}" for note in data.notes),
    ]
