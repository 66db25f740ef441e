"""The value of a state for PPO: how much reward is expected from prompt and answer so far.

model.value = ValueHead.of(model, "shared")        # is trained, moved and wrapped with the model
outputs, states_BKD = with_states(model, num_kept, input_ids=..., attention_mask=...)
values_BK = model.value(states_BKD, input_ids=..., attention_mask=...)

Works for FTGPT and any AutoModelForCausalLM, adapters and quantised weights included: the states are those that the
model's own LM head reads.
"""

import copy
import inspect
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

# B rows, T tokens, K kept positions, D hidden

FILE = "value_head.safetensors"
PREFIX = "value."  # of its parameters among the model's


def copy_sharing_frozen(module: nn.Module) -> nn.Module:
    """A copy whose trained weights are its own and whose frozen ones are the very same tensors, which costs nothing."""
    return copy.deepcopy(module, {id(one): one for one in module.parameters() if not one.requires_grad})


class ValueHead(nn.Module):
    """A linear map of each state to a number, 0 at first, so that training starts as REINFORCE without a baseline.

    trunk: None where the states are the policy's; else a copy of the model's layers with states of its own, which the
    policy's loss does not pull at.
    """

    def __init__(self, hidden_size: int, trunk: nn.Module | None = None):
        super().__init__()
        self.trunk = trunk
        self.score = nn.Linear(hidden_size, 1)  # float32, whatever the weights: bfloat16 has two decimals of a value
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    @classmethod
    def of(cls, model, trunk: str) -> "ValueHead":
        """The head of a causal model. trunk: "shared" or "separate"."""
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        own = copy_sharing_frozen(base.base_model) if trunk == "separate" else None
        return cls(base.get_output_embeddings().in_features, own)

    def forward(self, states_BKD: Tensor, **inputs) -> Tensor:
        """Values, (B, K) float32. inputs: what the policy's states were computed from, for a trunk of its own."""
        if self.trunk is not None:
            own_BTD = self.trunk(**inputs, use_cache=False).last_hidden_state
            states_BKD = own_BTD[:, -states_BKD.shape[1] - 1 : -1]
        with torch.autocast(states_BKD.device.type, enabled=False):
            return self.score(states_BKD.float())[..., 0]

    def save(self, folder: str | Path) -> None:
        """Write what is trained of it into a folder."""
        trained = {name: one.detach().cpu().contiguous() for name, one in self.named_parameters() if one.requires_grad}
        save_file(trained, Path(folder) / FILE, metadata={"format": "pt"})

    def load(self, folder: str | Path) -> None:
        """Take up what `save` wrote."""
        self.load_state_dict(load_file(Path(folder) / FILE), strict=False)


def with_states(model, base, num_kept: int, **inputs) -> tuple[Tensor, Tensor]:
    """Logits (B, K, V) and the states (B, K, D) they are read from, of the positions that predict the last K tokens.

    model: called; maybe a wrapper of `base`, whose LM head is watched.
    """
    seen: list[Tensor] = []
    hook = base.get_output_embeddings().register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    kept = {"logits_to_keep": num_kept + 1} if takes_logits_to_keep(base) else {}
    try:
        logits_BTV = model(**inputs, use_cache=False, **kept).logits
    finally:
        hook.remove()
    window = slice(-num_kept - 1, -1)
    return logits_BTV[:, window], seen[-1][:, window]


def takes_logits_to_keep(base) -> bool:
    """Whether the model's head can leave out positions that nobody reads."""
    plain = base.get_base_model() if hasattr(base, "get_base_model") else base
    return "logits_to_keep" in inspect.signature(plain.forward).parameters
