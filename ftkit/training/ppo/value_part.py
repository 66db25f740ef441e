"""Trainer part for a model with a value head: its learning rate, and its place beside the saved weights."""

from ftkit.model.value_head import PREFIX


class ValueHeadMixin:
    """Trainer part: `model.value` is optimised with the model, and saved and loaded apart from it."""

    def create_optimizer(self, *args, **kwargs):
        """As Trainer's; the linear map, which starts at 0, has a learning rate of its own."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        if is_new:
            head = set(self.model.value.score.parameters())
            for group in list(optimizer.param_groups):
                moved = [one for one in group["params"] if one in head]
                group["params"] = [one for one in group["params"] if one not in head]
                if moved:
                    optimizer.add_param_group({**group, "params": moved, "lr": self.args.value_learning_rate})
        return optimizer

    def _save(self, output_dir=None, state_dict=None):
        state = self.model.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, {name: one for name, one in state.items() if not name.startswith(PREFIX)})
        if self.args.should_save:
            self.model.value.save(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, checkpoint, *args, **kwargs):
        super()._load_from_checkpoint(checkpoint, *args, **kwargs)
        self.model.value.load(checkpoint)

    def _issue_warnings_after_load(self, load_result):
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if not name.startswith(PREFIX)]
        super()._issue_warnings_after_load(load_result)
