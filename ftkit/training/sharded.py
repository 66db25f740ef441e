"""Weights that are split over processes (FSDP2): each saves its share, and a plain folder is made of them.

    save_shards(model, "checkpoint-10")        # checkpoint-10/shards/*.safetensors; all processes call it
    load_shards(model, "checkpoint-10")        # in any number of processes
    join_shards("checkpoint-10", "plain")      # model.safetensors, or numbered files with an index; one process

No process ever holds the whole model: joining takes one tensor at a time.
"""

import copy
import shutil
from functools import partial
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from accelerate.utils import save_fsdp_optimizer
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from transformers.trainer import SCHEDULER_NAME

from ftkit.config.errors import UserError
from ftkit.model.weights.shards import OutputTensor, write_shards

SHARDS = "shards"  # the folder of a checkpoint that holds every process's share


def save_shards(model: nn.Module, folder: str | Path) -> None:
    """Write this process's share of a model's weights into FOLDER/shards; all processes call it."""
    writer = dcp.HuggingFaceStorageWriter(str(Path(folder) / SHARDS), save_distributed=True)
    dcp.save(weights_of(model), storage_writer=writer)


def load_shards(model: nn.Module, folder: str | Path) -> None:
    """Read this process's share of what `save_shards` wrote, in however many processes; all processes call it."""
    state = weights_of(model)
    dcp.load(state, storage_reader=dcp.HuggingFaceStorageReader(str(Path(folder) / SHARDS)))
    set_model_state_dict(model, state, options=StateDictOptions(strict=False))  # a tied head is the embedding


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights by name, each once, as this process holds them."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return {name: weight for name, weight in get_model_state_dict(model).items() if name not in tied}


def join_shards(folder: str | Path, target: str | Path) -> None:
    """Write the weights in FOLDER/shards as a plain folder's safetensors; one process calls it."""
    place = str(Path(folder) / SHARDS)
    found = dcp.HuggingFaceStorageReader(place).read_metadata().state_dict_metadata
    planned = {}
    for name, about in sorted(found.items()):
        spec = torch.empty(about.size, dtype=about.properties.dtype, device="meta")
        planned[name] = OutputTensor(spec, partial(joined, place, name, spec))
    write_shards(planned, Path(target))


def joined(place: str, name: str, spec: Tensor) -> Tensor:
    """One whole tensor of a folder of shards."""
    state = {name: torch.empty(spec.shape, dtype=spec.dtype)}
    dcp.load(state, storage_reader=dcp.HuggingFaceStorageReader(place), no_dist=True)
    return state[name]


class ShardedMixin:
    """Trainer part: where FSDP2 is to save by shards, checkpoints hold them, and the result is a plain folder.

    Of an adapter, which is small, the whole is saved by the first process.
    """

    _is_staging = False  # whether what is saved is a checkpoint

    @property
    def saves_shards(self) -> bool:
        """Whether weights are split over processes, and the launcher's configuration asks for shards."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        return plugin is not None and "SHARDED" in str(plugin.state_dict_type)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As Trainer's; by shards a plain folder, for a checkpoint what lies beside the shards."""
        if not self.saves_shards:
            return super().save_model(output_dir, _internal_call)
        folder = Path(output_dir or self.args.output_dir)
        if isinstance(self.model, PeftModel):
            whole = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
            return self._save(str(folder), state_dict=get_model_state_dict(self.model, options=whole))
        if not self._is_staging:
            save_shards(self.model, folder)
        if self.args.should_save:
            self.save_beside(folder)
            if not self._is_staging:
                join_shards(folder, folder)
                shutil.rmtree(folder / SHARDS)
        self.accelerator.wait_for_everyone()

    def save_beside(self, folder: Path) -> None:
        """Write what a model's folder holds beside the weights."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        config = copy.deepcopy(model.config)
        config.architectures = config.architectures or [type(model).__name__.removeprefix("FSDP")]
        config.save_pretrained(folder)
        if model.can_generate():
            model.generation_config.save_pretrained(folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.saves_shards or isinstance(self.model, PeftModel):
            return super()._save_optimizer_and_scheduler(output_dir)
        save_shards(self.model, output_dir)
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if (Path(resume_from_checkpoint) / SHARDS).is_dir():
            if not self.saves_shards:
                raise UserError(f"{resume_from_checkpoint}: was saved by shards (FSDP2); go on with the same launcher")
            return load_shards(model or self.model, resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best and (Path(best) / SHARDS).is_dir():
            return load_shards(self.model, best)
        super()._load_best_model()
