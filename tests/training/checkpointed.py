"""A tiny trainer with checkpoints: build_trainer(folder), train(folder), and digests to compare weights by."""

import hashlib

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from ftkit.training.checkpointing import CheckpointMixin
from ftkit.training.checkpoints import list_checkpoints

VOCAB_SIZE = 64


class CheckpointedSFTTrainer(CheckpointMixin, SFTTrainer):
    pass


def build_trainer(output_dir, *, trainer_class=CheckpointedSFTTrainer, **arguments):
    """Five updates over eight rows, checkpoints at 2, 4 and the end; dropout makes the random state matter."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        attention_dropout=0.2, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(3, VOCAB_SIZE, (6 + i % 3,), generator=generator).tolist() for i in range(8)]
    dataset = Dataset.from_dict({"input_ids": rows, "labels": [[-100, *row[1:]] for row in rows]})
    core = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCAB_SIZE)}, unk_token="t3"))
    settings = dict(
        output_dir=str(output_dir), max_steps=5, per_device_train_batch_size=2, save_strategy="steps", save_steps=2,
        save_total_limit=3, logging_steps=1, report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True}, learning_rate=1e-2, disable_tqdm=True, seed=3,
    )  # fmt: skip
    return trainer_class(
        model=LlamaForCausalLM(config),
        args=SFTConfig(**{**settings, **arguments}),
        train_dataset=dataset,
        eval_dataset=dataset.select(range(2)) if "eval_strategy" in arguments else None,
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=core, pad_token="t0", bos_token="t1", eos_token="t2", unk_token="t3"
        ),
    )


def weights_digest(model):
    digest = hashlib.sha256()
    for _, tensor in sorted(model.state_dict().items()):
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def train(output_dir, resume=None, **arguments):
    trainer = build_trainer(output_dir, **arguments)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def names(folder):
    return [path.name for path in list_checkpoints(folder)]
