"""The reference of preference training: what the trained model is held against, and what it says of rows, kept.

With --precompute_ref_log_probs the reference scores all rows once, before training. What it says is kept under
~/.cache/ftkit/references by a digest of its weights, its precision and the tokens of the rows, and read again by every
run of the same: the template is in the tokens, and another seed, method or learning rate changes nothing of it.
"""

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ftkit.config.amounts import counted
from ftkit.config.caches import cache_dir, cached, stand_in
from ftkit.config.files import write_json
from ftkit.inference.generation import evaluation_mode
from ftkit.training.callbacks import tell

FOLDER = "references"
REFERENCE = "ref"  # what TRL calls its copy of an adapter that is trained on
NOT_OF_THE_FORWARD = ("transformers_version", "use_cache")  # of a configuration
WRAPPERS = ("base_model.model.", ".base_layer", ".original_module")  # in PEFT's names of the base's weights


def reference_copy(model, settings):
    """A frozen copy of the starting weights; None where the reference is a disabled adapter or computed beforehand."""
    if settings.model.use_peft or settings.training.precompute_ref_log_probs:
        return None
    return copy.deepcopy(model).requires_grad_(False).eval()


class ReferenceMixin:
    """Trainer part: the reference's log-probabilities of rows are computed once, and kept by content.

    reference_columns: what TRL calls them, in the order in which its `compute_ref_log_probs` gives them.
    """

    reference_columns: tuple[str, ...] = ()

    def _precompute_ref_logps(self, dataset, name, batch_size):
        self.put_compact_heads()  # TRL scores the reference before its constructor returns
        if self.is_fsdp_enabled:  # where no process has the whole reference
            return super()._precompute_ref_logps(dataset, name, batch_size)
        kept = [None, None]
        if self.accelerator.is_main_process:
            kept = [reference_key(self, dataset), None]
            kept[1] = read_kept(kept[0], len(dataset))
        broadcast_object_list(kept)
        key, columns = kept
        if columns is None:
            columns = self.score_reference(dataset, name, batch_size)
        if self.accelerator.is_main_process:
            path = cached(f"{FOLDER}/{key}.json", lambda path: write_kept(path, columns))
            rows = counted(len(dataset), "training row" if name == "train" else "held-out row")
            how = "read from" if kept[1] else "computed, and kept in"
            tell(f"reference  log-probabilities of {rows} {how} {path.parent}")
        for column, values in columns.items():
            dataset = dataset.add_column(column, values)
        return dataset

    def score_reference(self, dataset: Dataset, name: str, batch_size: int) -> dict[str, list[float]]:
        """What the reference says of the rows, by column; in all processes."""
        loader = DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False)
        model, found = self.ref_model or self.model, []
        is_quiet = self.args.disable_tqdm or not self.accelerator.is_main_process
        with evaluation_mode(model):
            for batch in tqdm(self.accelerator.prepare(loader), desc=f"reference, {name}", disable=is_quiet):
                values = [one for one in self.compute_ref_log_probs(model, batch) if one is not None]
                found.append([one.float().cpu() for one in self.accelerator.gather_for_metrics(values)])
        columns = [torch.cat(parts).tolist() for parts in zip(*found, strict=True)]
        return dict(zip(self.reference_columns, columns, strict=False))


@contextlib.contextmanager
def scored_log_probs(trainer) -> Iterator[list[Tensor]]:
    """The log-probabilities per token of what the policy and a reference score inside, in that order."""
    found: list[Tensor] = []

    def note(module, args, output) -> None:
        if getattr(output, "log_probs", None) is not None:
            found.append(output.log_probs.detach())

    models = [trainer.accelerator.unwrap_model(one) for one in (trainer.model, trainer.ref_model) if one is not None]
    bases = [one.get_base_model() if isinstance(one, PeftModel) else one for one in models]
    handles = [base.register_forward_hook(note) for base in bases]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def log_distance(trainer, policy_BT: Tensor, reference_BT: Tensor, completion_mask: Tensor) -> None:
    """Log "kl", in nats per answer token: half the mean square of the log ratio, which is 0 where the two agree.

    The answers are those of the rows and not the policy's, so this estimates KL(policy || reference) only while they
    are near each other. Source: Schulman 2020, "Approximating KL divergence", estimator k2.
    """
    mask = completion_mask[:, 1:]
    ratio_BT = policy_BT[:, -mask.shape[1] :] - reference_BT[:, -mask.shape[1] :]
    sums = torch.stack([(ratio_BT.float().square() / 2 * mask).sum(), mask.sum().float()])
    total, number = trainer.accelerator.gather(sums[None]).sum(dim=0).tolist()
    log_metric(trainer, "kl", total / max(1.0, number))


def log_lengths(trainer, completion_mask: Tensor, is_chosen: Tensor | None = None) -> None:
    """Log the mean length, in tokens, of chosen and rejected answers. is_chosen: None for the first half of a batch."""
    lengths = completion_mask.sum(dim=1).float()
    if is_chosen is None:
        is_chosen = torch.arange(len(lengths), device=lengths.device) < len(lengths) // 2
    for name, part in (("chosen", is_chosen), ("rejected", ~is_chosen)):
        sums = torch.stack([(lengths * part).sum(), part.sum().float()])
        total, number = trainer.accelerator.gather(sums[None]).sum(dim=0).tolist()
        if number:
            log_metric(trainer, f"lengths/{name}", total / number)


def log_metric(trainer, name: str, value: float) -> None:
    """Add a value to the metrics that TRL averages and logs."""
    trainer._metrics["train" if trainer.model.training else "eval"][name].append(value)


def reference_key(trainer, dataset: Dataset) -> str:
    """SHA-256 of all that the reference's log-probabilities of the rows rest on."""
    model, args = trainer.ref_model or trainer.model, trainer.args
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    config = {name: value for name, value in base.config.to_dict().items() if name not in NOT_OF_THE_FORWARD}
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    settings = [config, bool(args.bf16), bool(args.fp16), getattr(args, "ld_alpha", None)]
    key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for part in weights_of_reference(model):
        key.update(part)
    for row in dataset:
        key.update(json.dumps(row, sort_keys=True).encode())
    return key.hexdigest()


def weights_of_reference(model) -> Iterator[bytes]:
    """Name, type and bytes of each tensor that the reference's forward reads, the same with and without a new adapter.

    The reference of a PeftModel is the copy of its adapter that TRL made of it, or the model without an adapter, and
    then nothing that is trained belongs to it.
    """
    left_out = set()
    if isinstance(model, PeftModel):
        has_copy = REFERENCE in model.peft_config
        left_out = {name for name, one in model.named_parameters() if one.requires_grad}
        if has_copy:
            scales = {name: one.scaling[REFERENCE] for name, one in model.named_modules() if REFERENCE in scaling(one)}
            yield json.dumps(scales, sort_keys=True).encode()
    named = {plain_name(name): value for name, value in model.state_dict().items() if name not in left_out}
    for name, value in sorted(named.items()):
        if isinstance(value, Tensor):
            yield f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode()
            yield value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def scaling(module) -> dict:
    """The scales of a LoRA layer's adapters; none of any other module."""
    found = getattr(module, "scaling", None)
    return found if isinstance(found, dict) else {}


def plain_name(name: str) -> str:
    """A weight's name without what PEFT puts around it."""
    for part in WRAPPERS:
        name = name.replace(part, "")
    return name


def read_kept(key: str, num_rows: int) -> dict[str, list[float]] | None:
    """What is kept under a key; None for nothing, or a file that is cut or damaged."""
    for place in (cache_dir(), stand_in()):
        path = Path(place) / FOLDER / f"{key}.json"
        if not path.is_file():
            continue
        try:
            columns = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            columns = None
        if columns and isinstance(columns, dict) and all(len(values) == num_rows for values in columns.values()):
            return columns
        path.unlink(missing_ok=True)
    return None


def write_kept(path: Path, columns: dict[str, list[float]]) -> None:
    """Keep what the reference says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, columns)
