"""Supervised fine-tuning of any causal language model on your own rows: all weights, LoRA, QLoRA, DoRA or a soft prompt.

    accelerate launch ftkit/sft.py --model_name_or_path M --dataset_name D --template alpaca --use_peft --output_dir OUT

`ftkit sft` and `python -m ftkit.sft` are the same. Bad rows are found before the model is loaded, the plan is printed before the
first step, and OUT/report.html tells afterwards what was trained on and what came out.
"""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.flags import SFT_ARGUMENTS
from ftkit.config.parser import parse_settings, run


def main(argv: list[str]) -> None:
    """Parse the command line and run it."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # dataset workers fork after the tokenizer was used
    data_args, model_args, training_args, given = parse_settings(argv, SFT_ARGUMENTS, sft_dataclasses, prog="ftkit sft")
    finetune(data_args, model_args, training_args, given)


def sft_dataclasses() -> tuple:
    from ftkit.config import arguments

    return arguments.DataArguments, arguments.ModelArguments, arguments.SFTArguments


def finetune(data_args, model_args, training_args, given: set[str]):
    """Run one supervised fine-tune into training_args.output_dir and return the trainer.

    given: the settings the person named; the others are decided from the data and the hardware, and printed.
    Raises UserError for a mistake in settings or data, before the model is loaded where possible.
    """
    from ftkit.config.hardware import use_all_cores
    from ftkit.training.checkpointing import resolve_resume, save_model_safely
    from ftkit.training.run_folder import check_output_dir

    resume = bool(training_args.resume_from_checkpoint)
    check_output_dir(training_args.output_dir, resume=resume)
    checkpoint = resolve_resume(training_args.output_dir, training_args.resume_from_checkpoint) if resume else None
    use_all_cores()
    data = prepare_data(data_args, model_args, training_args)
    model = prepare_model(model_args, training_args, data)
    reasons = settle_batches(model, model_args, training_args, data.lengths(), given)
    settle_evaluation(training_args, data.test is not None, given)
    trainer = build_trainer(model, model_args, training_args, data)
    receipt = describe_run(trainer, data_args, model_args, training_args, data, reasons)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    save_model_safely(trainer, training_args.output_dir)
    finish_run(trainer, data_args, model_args, training_args, receipt)
    trainer.end()
    return trainer


@dataclass
class PreparedData:
    """What training needs of the data.

    folder: of the model, local. tokenizer: with the template. template: TemplateInfo, None for plain text. rows: Rows as
    read. train, test: TokenizedRows; test is None when nothing is held out.
    """

    folder: str
    tokenizer: Any
    template: Any
    rows: Any
    train: Any
    test: Any

    def lengths(self) -> list[int]:
        """Tokens of each training row."""
        return [len(row["input_ids"]) for row in self.train.rows]


def prepare_data(data_args, model_args, training_args) -> PreparedData:
    """Read, check, render and tokenize the rows; every mistake in them is found here, before any weights are loaded."""
    from ftkit.data.loading import load_rows
    from ftkit.data.templates import install_template
    from ftkit.data.tokenization import tokenize_rows
    from ftkit.model.loading import load_tokenizer, local_model_folder

    rows = load_rows(
        data_args.dataset_name,
        format=data_args.dataset_format,
        config=data_args.dataset_config,
        train_split=data_args.dataset_train_split,
        test_split=data_args.dataset_test_split,
        test_size=data_args.test_size,
        seed=training_args.seed,
    )
    folder = local_model_folder(model_args.model_name_or_path, ftgpt=model_args.ftgpt, revision=model_args.model_revision)
    tokenizer = load_tokenizer(folder)
    template = None
    if rows.format != "text":
        template = install_template(tokenizer, data_args.template, add_tokens=data_args.add_template_tokens)
    settle_max_length(training_args, folder, training_args.trust_remote_code)
    train = tokenize_rows(rows.train, tokenizer, template, max_length=training_args.max_length)
    test = tokenize_rows(rows.test, tokenizer, template, max_length=training_args.max_length) if rows.test else None
    return PreparedData(folder, tokenizer, template, rows, train, test)


def settle_max_length(training_args, folder: str, trust_remote_code: bool) -> None:
    """Keep --max_length within the model's context; raise UserError where the person asked for more."""
    from transformers import AutoConfig

    import ftkit.model  # noqa: F401  (registers FTGPT)

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code).get_text_config()
    context = getattr(config, "max_position_embeddings", None)
    if context is None or training_args.max_length is None:
        return
    default = type(training_args).__dataclass_fields__["max_length"].default
    if training_args.max_length > context and training_args.max_length != default:
        raise UserError(f"--max_length {training_args.max_length} is more than the model's context of {context} tokens; lower it")
    training_args.max_length = min(training_args.max_length, context)


def prepare_model(model_args, training_args, data: PreparedData):
    """Load the weights, grown by added template tokens, and freeze what is not trained."""
    from ftkit.config.hardware import probe
    from ftkit.model.adapters import freeze_layers, quantization_config
    from ftkit.model.loading import check_vocabulary, load_model

    if model_args.dtype is None:  # a frozen base may be bf16; weights that an optimizer moves stay fp32
        model_args.dtype = "bfloat16" if probe().bf16 and model_args.use_peft else "float32"
    if training_args.learning_rate is None:
        training_args.learning_rate = 2e-4 if model_args.use_peft else 2e-5
    model = load_model(
        data.folder,
        dtype=model_args.dtype,
        attn_implementation=model_args.attn_implementation,
        quantization_config=quantization_config(model_args),
        trust_remote_code=training_args.trust_remote_code,
    )
    if data.template and data.template.added_tokens and len(data.tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(data.tokenizer))
    check_vocabulary(model, data.tokenizer)
    if data.template:
        stop_at_end_of_turn(model, data.template.end_of_turn_id)
    if model_args.num_frozen_layers:
        freeze_layers(model, model_args.num_frozen_layers)
    return model


def stop_at_end_of_turn(model, end_of_turn_id: int) -> None:
    """Let generation stop at the template's end-of-turn token as well as at the model's own end tokens."""
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [known]
    model.generation_config.eos_token_id = list(dict.fromkeys([end_of_turn_id, *(i for i in known if i is not None)]))


def settle_batches(model, model_args, training_args, lengths: list[int], given: set[str]) -> dict[str, str]:
    """Decide packing, and with it the batch; return the reason for each setting that was decided here.

    Raises UserError where packing was asked for and rows of this model would see each other.
    """
    from ftkit.training.plan import ISOLATION_TOLERANCE, packing_leak, plan_packing

    asked = training_args.packing
    reason = None
    if asked is False:
        return {}
    if model_args.use_peft and model_args.peft_method == "prompt_tuning":
        reason = "soft prompts lose the positions that keep packed rows apart"
    elif (leak := packing_leak(model)) > ISOLATION_TOLERANCE:
        reason = f"packed rows see each other in this model (hidden states move by {leak:.0%})"
    if reason and asked:
        raise UserError(f"--packing: {reason}; drop --packing")
    training_args.packing = reason is None
    if training_args.packing and not asked:
        plan = plan_packing(
            lengths,
            training_args.per_device_train_batch_size,
            training_args.gradient_accumulation_steps,
            training_args.max_length or max(lengths),
        )
        training_args.max_length = plan.block_length
        training_args.per_device_train_batch_size = plan.per_device_train_batch_size
        training_args.gradient_accumulation_steps = plan.gradient_accumulation_steps
        reason = f"rows stay isolated here; blocks of {plan.block_length} tokens keep the size of an update"
    if training_args.eval_packing is None:
        training_args.eval_packing = False
    return {"packing": reason} if reason else {}


def settle_evaluation(training_args, has_test_rows: bool, given: set[str]) -> None:
    """Evaluate before the first step and after each epoch when there are test rows, unless the person chose."""
    from transformers.trainer_utils import IntervalStrategy

    if not has_test_rows:
        if "eval_strategy" in given and training_args.eval_strategy != IntervalStrategy.NO:
            raise UserError("--eval_strategy needs test rows; add --test_size 0.1 or a test split")
        return
    if "eval_strategy" not in given:
        training_args.eval_strategy = IntervalStrategy.EPOCH
    if "eval_on_start" not in given:
        training_args.eval_on_start = training_args.eval_strategy != IntervalStrategy.NO


def build_trainer(model, model_args, training_args, data: PreparedData):
    """The trainer on tokenized rows, with sample answers at each evaluation."""
    from datasets import Dataset

    from ftkit.model.adapters import peft_config
    from ftkit.training.sft_trainer import FTSFTTrainer

    added_tokens = data.template.added_tokens if data.template else []
    trainer = FTSFTTrainer(
        model=model,
        args=training_args,
        train_dataset=Dataset.from_list(data.train.rows),
        eval_dataset=Dataset.from_list(data.test.rows) if data.test else None,
        processing_class=data.tokenizer,
        peft_config=peft_config(model_args, model, added_tokens),
    )
    if data.test and data.template and training_args.num_samples:
        trainer.add_callback(sample_callback(training_args, data))
    return trainer


def sample_callback(training_args, data: PreparedData):
    """Answers to the first test questions, at each evaluation."""
    from ftkit.data.tokenization import prompt_ids
    from ftkit.evaluation.generation import generate_answers
    from ftkit.training.callbacks import SampleCallback

    rows = data.rows.test[: training_args.num_samples]
    questions = [{"prompt": row["messages"][-2]["content"], "reference": row["messages"][-1]["content"]} for row in rows]
    prompts = [prompt_ids(row["messages"][:-1], data.tokenizer, data.template) for row in rows]

    def answer(model) -> list[str]:
        return generate_answers(
            model,
            data.tokenizer,
            prompts,
            max_new_tokens=training_args.sample_max_new_tokens,
            eos_token_ids=[data.template.end_of_turn_id, data.tokenizer.eos_token_id],
        )

    return SampleCallback(training_args.output_dir, questions, answer)


def describe_run(trainer, data_args, model_args, training_args, data: PreparedData, reasons: dict[str, str]) -> dict:
    """Print the plan and the receipt, and write run.yaml and receipt.json; return the receipt."""
    from ftkit.config.arguments import changed_settings
    from ftkit.config.hardware import probe
    from ftkit.data.receipt import build_receipt, format_receipt
    from ftkit.model.adapters import count_parameters
    from ftkit.training.plan import FEW_UPDATES, num_updates
    from ftkit.training.run_folder import write_json, write_run_yaml

    receipt = build_receipt(
        trainer.train_dataset,
        data.tokenizer,
        data.template,
        data.train,
        max_length=training_args.max_length if training_args.packing else None,
        batch_size=training_args.per_device_train_batch_size,
        padding_free=trainer.padding_free,
    )
    if not trainer.is_world_process_zero():
        return receipt
    updates = num_updates(
        len(trainer.train_dataset),
        training_args.per_device_train_batch_size,
        training_args.gradient_accumulation_steps,
        training_args.world_size,
        training_args.num_train_epochs,
        training_args.max_steps,
    )
    passes = training_args.num_train_epochs if training_args.max_steps <= 0 else updates * training_args.train_batch_size / len(trainer.train_dataset)
    trained, total = count_parameters(trainer.model)
    tokens = sum(data.lengths())
    say(f"hardware   {probe().describe()}")
    say(f"model      {model_args.model_name_or_path}: {total / 1e6:.1f} M parameters, {trained / 1e6:.2f} M trained, {model_args.dtype}")
    say(f"data       {data.rows.source}: {len(data.rows.train)} rows ({data.rows.format}), {len(data.rows.test or [])} held out")
    say(f"template   {data.template.name if data.template else 'none (plain text)'}")
    for name, reason in (training_args.hardware_reasons() | reasons).items():
        value = getattr(training_args, name)
        say(f"{name:<10} {'on' if value else 'off'}: {reason}; --{name} {'false' if value else 'true'} changes it")
    say(
        f"plan       {updates} updates of about {math.ceil(tokens * passes / max(1, updates))} tokens; "
        f"{tokens} tokens a pass, {receipt['num_trained_tokens']} of them trained; learning rate {training_args.learning_rate:g}"
    )
    if updates < FEW_UPDATES:
        say(f"warning    {updates} updates are few (below {FEW_UPDATES}); add rows or --num_train_epochs, or shrink the batch")
    say(format_receipt(receipt, color=sys.stderr.isatty()))
    write_run_yaml(training_args.output_dir, "sft", changed_settings(data_args, model_args, training_args))
    write_json(Path(training_args.output_dir) / "receipt.json", receipt)
    return receipt


def finish_run(trainer, data_args, model_args, training_args, receipt: dict) -> None:
    """Write the loss plot, the report and the model card, and say where the result is and what to run next."""
    from ftkit.evaluation.report import write_loss_plot, write_report
    from ftkit.publish.model_card import write_model_card

    output_dir = training_args.output_dir
    if not trainer.is_world_process_zero():
        return
    trainer.model.generation_config.save_pretrained(output_dir)
    write_loss_plot(output_dir)
    write_report(output_dir)
    write_model_card(output_dir, receipt)
    adapter = f"--adapter {output_dir}" if model_args.use_peft else f"--model_name_or_path {output_dir}"
    say(f"done: {output_dir} (report.html tells the run); next: ftkit chat {adapter}")


def say(text: str) -> None:
    """Print to stderr, where the progress bar is."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run(main))
