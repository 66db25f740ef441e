"""What ftkit adds to every TRL trainer: safe checkpoints, the compact loss head, progress and metrics, one adapter."""

import contextlib
import functools
import time

from peft import PeftModel
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ftkit.config.foreign import settings_that_libraries_take
from ftkit.config.versions import has_fused_head
from ftkit.data.templates.lock import write_lock
from ftkit.model.fast.bit_linear import strength_of
from ftkit.model.fast.fused_lora import use_fused_lora
from ftkit.training.batch_totals import BatchTotals
from ftkit.training.callbacks import MetricsCallback
from ftkit.training.checkpointing import CheckpointMixin
from ftkit.training.counters import load_counters, save_counters
from ftkit.training.dropout import remove_dropout
from ftkit.training.guards import GuardMixin
from ftkit.training.moved import MovedTensors
from ftkit.training.progress import progress_callback
from ftkit.training.saving import SavingCallback
from ftkit.training.sharded import ShardedMixin
from ftkit.training.stopping import current, with_deaf_workers
from ftkit.training.ternary import WarmIn


class RunMixin(GuardMixin, CheckpointMixin, ShardedMixin):
    """Stands left of a TRL trainer that is given rows as ftkit tokenized them."""

    has_compact_heads = False
    template_lock: dict | None = None  # saved with every model and checkpoint
    batch_totals: BatchTotals | None = None  # of rows of which a part is trained
    saves_by_clock = False  # whether nobody chose when to save

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if getattr(self.args, "disable_dropout", False):
            remove_dropout(self.model)
        self.put_compact_heads()
        if self.args.fused_lora:
            use_fused_lora(self.model)
        if isinstance(self.model, PeftModel):
            # Only what is trained: not TRL's copy of an adapter that serves as the reference, nor, where new tokens
            # are trained, the whole embedding, which PEFT would save because its size changed.
            kept = {"selected_adapters": [self.model.active_adapter]}
            kept |= {"save_embedding_layers": False} if trains_new_tokens(self.model) else {}
            self.model.save_pretrained = functools.partial(self.model.save_pretrained, **kept)
        strength = strength_of(self.model)
        if strength and not strength.evaluation:
            self.add_callback(WarmIn(strength, self.args.ternary_warmup))
        self.moved = MovedTensors()
        self.add_callback(self.moved)
        metrics = MetricsCallback(self.args.output_dir, self.num_tokens_seen)
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        self.add_callback(metrics)
        self.progress = None if self.args.disable_tqdm else progress_callback(metrics)
        if self.progress:
            self.add_callback(self.progress)

    def put_compact_heads(self) -> None:
        """Put the compact loss head on every model of the trainer, once, where this TRL has a head to take over."""
        if self.has_compact_heads or not self.args.compact_loss_head or not has_fused_head():
            return
        from ftkit.model.fast.loss_head import use_compact_loss_heads

        self.args.loss_head_kernel = use_compact_loss_heads(self, kernel=self.args.loss_head_kernel)
        self.has_compact_heads = True

    def train(self, *args, **kwargs):
        """As CheckpointMixin.train; saves when it is due, and ends with Stopped after the save a signal asked for."""
        signals = current()
        self.pop_callback(SavingCallback)
        self.saving = SavingCallback(self.accelerator, signals, by_clock=self.saves_by_clock, settle=self.settle)
        self.add_callback(self.saving)  # the last: it decides after all others
        try:
            return super().train(*args, **kwargs)
        finally:
            signals.is_updating = False
            if self.progress:
                self.progress.close()

    def _save_checkpoint(self, model, trial):
        start = time.monotonic()
        super()._save_checkpoint(model, trial)
        self.saving.saved(self.state, time.monotonic() - start)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        save_counters(self, output_dir)

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if checkpoint:
            load_counters(self, checkpoint)

    def num_tokens_seen(self) -> int:
        """Tokens trained on so far, without padding."""
        return getattr(self, "_total_train_tokens", 0)

    def create_optimizer(self, *args, **kwargs):
        """As Trainer's; what a library does not take is one line."""
        with settings_that_libraries_take():
            return super().create_optimizer(*args, **kwargs)

    def create_scheduler(self, *args, **kwargs):
        """As Trainer's; what a library does not take is one line."""
        with settings_that_libraries_take():
            return super().create_scheduler(*args, **kwargs)

    def get_train_dataloader(self):
        """Batches to train on."""
        with settings_that_libraries_take():
            return with_deaf_workers(super().get_train_dataloader())

    def get_eval_dataloader(self, eval_dataset=None):
        """Batches to evaluate on."""
        return with_deaf_workers(super().get_eval_dataloader(eval_dataset))

    def training_step(self, model, inputs, *args, **kwargs):
        """One step, whose batch is counted where rows have a context that is not trained."""
        if self.batch_totals:
            self.batch_totals.add(inputs)
        return super().training_step(model, inputs, *args, **kwargs)

    def _load_from_checkpoint(self, *args, **kwargs):
        with kept_precision(self.model):
            super()._load_from_checkpoint(*args, **kwargs)

    def _load_best_model(self):
        with kept_precision(self.model):
            super()._load_best_model()

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict=state_dict)
        if self.template_lock and self.args.should_save:
            write_lock(output_dir or self.args.output_dir, self.template_lock)

    def save_beside(self, folder):
        """As ShardedMixin's, and the template's lock."""
        super().save_beside(folder)
        if self.template_lock:
            write_lock(folder, self.template_lock)

    def create_model_card(self, *args, **kwargs):
        """Leave OUT/README.md to ftkit, which writes it once, with the results."""


@contextlib.contextmanager
def kept_precision(model):
    """Give trained weights their data type back: PEFT reads the bf16 adapter of a quantised base as fp32."""
    dtypes = {name: weight.dtype for name, weight in model.named_parameters() if weight.requires_grad}
    yield
    for name, weight in model.named_parameters():
        if name in dtypes:
            weight.data = weight.data.to(dtypes[name])


def trains_new_tokens(model: PeftModel) -> bool:
    """Whether an adapter of the model trains single rows of the embedding."""
    return any(getattr(config, "trainable_token_indices", None) for config in model.peft_config.values())
