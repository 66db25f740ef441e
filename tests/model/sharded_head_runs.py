"""Short trainings of tiny models whose loss is the fused head's, in one process or sharded by FSDP2 over two.

    torchrun --nproc_per_node 2 tests/model/sharded_head_runs.py OUT.pt

Writes the losses, final weights and warnings of every sharded run; `train_alone` is the same in one process.
"""

import copy
import logging
import sys
from types import SimpleNamespace

import torch
from peft import LoraConfig, get_peft_model
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.fast.loss_head import use_compact_loss_head
from ftkit.model.modeling_ftgpt import FTGPTForCausalLM

VOCAB_SIZE, ROWS, LENGTH, STEPS = 400, 4, 11, 3
SIZES = dict(
    vocab_size=VOCAB_SIZE, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    max_position_embeddings=32,
)  # fmt: skip
LORA = dict(r=4, target_modules="all-linear", init_lora_weights=False)

# (model, tied, adapter, how it is sharded); "accelerate" is what accelerate's own FSDP2 code makes of the model
RUNS = [
    ("llama", False, None, "root"), ("llama", True, None, "root"), ("llama", False, None, "own"),
    ("llama", False, None, "accelerate"), ("llama", True, None, "accelerate"),
    ("ftgpt", False, None, "accelerate"), ("ftgpt", True, None, "accelerate"),
    ("llama", False, "lora", "accelerate"), ("llama", True, "lora", "accelerate"),
    ("ftgpt", True, "lora", "root"), ("llama", False, "lora", "own"),
    ("llama", False, "modules_to_save", "accelerate"), ("llama", False, "modules_to_save", "root"),
]  # fmt: skip


def build(kind: str, tied: bool, adapter: str | None):
    """The model with TRL's head, which `use_compact_loss_head` takes over."""
    torch.manual_seed(0)
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))
    else:
        model = FTGPTForCausalLM(FTGPTConfig.llama(**SIZES, tie_word_embeddings=tied))
    if adapter:
        saved = {"modules_to_save": ["lm_head"]} if adapter == "modules_to_save" else {}
        model = get_peft_model(model, LoraConfig(**LORA, **saved))
    base = model.get_base_model() if adapter else model
    add_fused_lm_head(base, outputs=("log_probs", "entropy"))
    return model


def batch(step: int) -> dict:
    """Rows with unequal numbers of scored tokens; in the second step the last two rows have none."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(3, VOCAB_SIZE, (ROWS, LENGTH), generator=generator)
    keep = torch.rand(ids.shape, generator=generator) < torch.tensor([0.9, 0.6, 0.3, 0.2])[:, None]
    keep[2:] &= step != 1
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.masked_fill(~keep, -100)}


def train(model, rank: int, world_size: int) -> list[float]:
    """Update on this process's share of each batch; return the loss over the whole batch, before each update."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for step in range(STEPS):
        whole = batch(step)
        share = {name: value.chunk(world_size)[rank] for name, value in whole.items()}
        scored = (whole["labels"][:, 1:] != -100).sum()
        outputs = model(**share, fused_lm_head=True)
        loss = (-outputs.log_probs - 0.1 * outputs.entropy).sum() / scored
        (loss * world_size).backward()  # gradients are averaged over the processes
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.detach().clone()
        if world_size > 1:
            torch.distributed.all_reduce(loss)
        losses.append(loss.item())
    return losses


def train_alone(kind: str, tied: bool, adapter: str | None) -> tuple[list[float], dict]:
    """Losses and final weights of one process with full logits in place of any head."""
    model = build(kind, tied, adapter)
    plain = copy.copy(model.forward)

    def full_logits(*, labels, fused_lm_head, **inputs):
        log_p = plain(**inputs).logits[:, :-1].log_softmax(-1)
        mask = labels[:, 1:] != -100
        log_probs = log_p.gather(-1, labels[:, 1:].clamp(min=0)[..., None]).squeeze(-1)
        return SimpleNamespace(log_probs=log_probs * mask, entropy=-(log_p.exp() * log_p).sum(-1) * mask)

    model.forward = full_logits
    return train(model, 0, 1), dict(model.state_dict())


def shard(model, how: str) -> None:
    """Shard as "root" (layers and the rest), "own" (the head a unit of its own) or as accelerate does."""
    if how == "accelerate":
        from accelerate.utils import FullyShardedDataParallelPlugin
        from accelerate.utils.fsdp_utils import fsdp2_prepare_model

        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
        )
        state = SimpleNamespace(fsdp_plugin=plugin)
        fsdp2_prepare_model(SimpleNamespace(state=state, mixed_precision="no", is_main_process=True), model)
        return
    layers = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    units = [*layers, *([model.get_output_embeddings()] if how == "own" else [])]
    for unit in units:
        fully_shard(unit)
    fully_shard(model)


def main(path: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("ftkit.model.fast.loss_head").addHandler(handler)
    results = {}
    for kind, tied, adapter, how in RUNS:
        model = build(kind, tied, adapter)
        use_compact_loss_head(model, chunk_size=7)
        shard(model, how)
        losses = train(model, rank, world_size)
        weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        results[kind, tied, adapter, how] = (losses, weights, list(warnings))
        warnings.clear()
    if rank == 0:
        torch.save(results, path)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
