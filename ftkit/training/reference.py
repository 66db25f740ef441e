"""The reference of preference training: what the trained model is held against."""

import copy


class ReferenceMixin:
    """Trainer part: the compact head also scores the reference that is scored before training."""

    def _precompute_ref_logps(self, *args, **kwargs):
        self.put_compact_heads()  # TRL scores the reference before its constructor returns
        return super()._precompute_ref_logps(*args, **kwargs)


def reference_copy(model, settings):
    """A frozen copy of the starting weights; None where the reference is a disabled adapter or computed beforehand."""
    if settings.model.use_peft or settings.training.precompute_ref_log_probs:
        return None
    return copy.deepcopy(model).requires_grad_(False).eval()
