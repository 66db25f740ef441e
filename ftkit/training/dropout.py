"""Training without dropout: where a model must act in training as it did when it answered.

TRL's `disable_dropout` reaches layers of dropout alone. Attention takes its rate from a number (`attention_dropout` in
Llama, Qwen, FTGPT and others), and OPT and BART take all of theirs so.
"""

from torch import nn


def remove_dropout(model: nn.Module) -> None:
    """Set every rate of dropout in the model to 0. Its configuration, which is saved, stays as it was."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if name.endswith("dropout") and isinstance(value, float):
                setattr(module, name, 0.0)
