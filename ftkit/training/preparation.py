"""Rows and weights made ready for a trainer; rows are tokenized first, so that their mistakes come first."""

from dataclasses import dataclass

from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

import ftkit.model  # noqa: F401  (registers FTGPT)
from ftkit.config.errors import UserError
from ftkit.config.hardware import probe
from ftkit.data.loading import Rows, load_rows
from ftkit.data.templates import TemplateInfo, install_template
from ftkit.data.tokenization import TokenizedRows, tokenize_rows
from ftkit.model.adapters import freeze_layers, keep_four_bit_gradients, quantization_config
from ftkit.model.loading import check_vocabulary, load_model, load_tokenizer, local_model_folder


@dataclass
class PreparedData:
    """What training needs of the data.

    folder: of the model, local. tokenizer: with the template on it. template: None for plain text. rows: as read.
    train, test: tokenized; test is None when nothing is held out.
    """

    folder: str
    tokenizer: PreTrainedTokenizerBase
    template: TemplateInfo | None
    rows: Rows
    train: TokenizedRows
    test: TokenizedRows | None


def prepare_data(settings) -> PreparedData:
    """Read, check, render and tokenize the rows, before any weights are loaded.

    Raises UserError for every mistake in a row, the template, the model's name or the length.
    """
    data, model, training = settings.data, settings.model, settings.training
    rows = load_rows(
        data.dataset_name,
        format=data.dataset_format,
        config=data.dataset_config,
        train_split=data.dataset_train_split,
        test_split=data.dataset_test_split,
        test_size=data.test_size,
        seed=training.seed,
    )
    folder = local_model_folder(model.model_name_or_path, ftgpt=model.ftgpt, revision=model.model_revision)
    tokenizer = load_tokenizer(folder)
    template = None
    if rows.format != "text":
        template = install_template(tokenizer, data.template, add_tokens=data.add_template_tokens)
    settle_max_length(settings, folder)
    train = tokenize_rows(rows.train, tokenizer, template, max_length=training.max_length)
    test = tokenize_rows(rows.test, tokenizer, template, max_length=training.max_length) if rows.test else None
    return PreparedData(folder, tokenizer, template, rows, train, test)


def settle_max_length(settings, folder: str) -> None:
    """Keep --max_length within the model's context; raise UserError where the person asked for more."""
    training = settings.training
    config = AutoConfig.from_pretrained(folder, trust_remote_code=training.trust_remote_code).get_text_config()
    context = getattr(config, "max_position_embeddings", None)
    if context is None or training.max_length is None:
        return
    if training.max_length > context and "max_length" in settings.given:
        raise UserError(f"--max_length {training.max_length} is more than the model's context of {context}; lower it")
    training.max_length = min(training.max_length, context)


def prepare_model(settings, data: PreparedData) -> PreTrainedModel:
    """Load the weights, grow the vocabulary by added template tokens, and freeze what is not trained."""
    model_args, training = settings.model, settings.training
    if model_args.dtype is None:  # a frozen base may be bf16; weights that an optimizer moves stay fp32
        model_args.dtype = "bfloat16" if probe().bf16 and model_args.use_peft else "float32"
    if training.learning_rate is None:
        training.learning_rate = 2e-4 if model_args.use_peft else 2e-5
    model = load_model(
        data.folder,
        dtype=model_args.dtype,
        attn_implementation=model_args.attn_implementation,
        quantization_config=quantization_config(model_args),
        trust_remote_code=training.trust_remote_code,
    )
    keep_four_bit_gradients(model)
    if data.template and data.template.added_tokens:
        if len(data.tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(data.tokenizer))
    check_vocabulary(model, data.tokenizer)
    if data.template:
        stop_at_end_of_turn(model, data.template.end_of_turn_id)
    if model_args.num_frozen_layers:
        freeze_layers(model, model_args.num_frozen_layers)
    return model


def stop_at_end_of_turn(model: PreTrainedModel, end_of_turn_id: int) -> None:
    """Let generation stop at the template's end-of-turn token as well as at the model's own end tokens."""
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [known]
    model.generation_config.eos_token_id = list(dict.fromkeys([end_of_turn_id, *(i for i in known if i is not None)]))
