"""TRL's DPOTrainer on pairs that are already tokenized, with the reference it is given or the adapter it disables."""

import copy

from trl import DPOTrainer

from ftkit.training.callbacks import BothFallCallback
from ftkit.training.run_trainer import RunMixin


class FTDPOTrainer(RunMixin, DPOTrainer):
    """DPOTrainer on {"prompt_ids", "chosen_ids", "rejected_ids"}, with what ftkit adds to every trainer."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(BothFallCallback())

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset  # tokenized already

    def _precompute_ref_logps(self, *args, **kwargs):
        self.put_compact_heads()  # TRL scores the reference before its constructor returns
        return super()._precompute_ref_logps(*args, **kwargs)


def reference_copy(model, settings):
    """A frozen copy of the starting weights; None where the reference is a disabled adapter or computed beforehand."""
    if settings.model.use_peft or settings.training.precompute_ref_log_probs:
        return None
    return copy.deepcopy(model).requires_grad_(False).eval()
