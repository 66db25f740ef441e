"""A GPT-2 in plain torch and a plain training step: what a person writes without any library, as a yardstick.

Learned positions, pre-norm blocks, causal scaled_dot_product_attention, tanh-GELU, tied head, whole logits.
"""

import torch
import torch.nn.functional as F
from torch import nn

# B batch, T tokens, D hidden, H heads, V vocabulary


class Block(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.before_attention = nn.LayerNorm(hidden_size)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_out = nn.Linear(hidden_size, hidden_size)
        self.before_mlp = nn.LayerNorm(hidden_size)
        self.mlp_in = nn.Linear(hidden_size, 4 * hidden_size)
        self.mlp_out = nn.Linear(4 * hidden_size, hidden_size)

    def forward(self, x_BTD):
        heads = self.query_key_value(self.before_attention(x_BTD)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D / H)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x_BTD = x_BTD + self.attention_out(mixed.transpose(1, 2).flatten(2))
        return x_BTD + self.mlp_out(F.gelu(self.mlp_in(self.before_mlp(x_BTD)), approximate="tanh"))


class PlainGPT(nn.Module):
    """forward(input_ids (B, T)) returns the mean next-token loss in nats."""

    def __init__(self, vocab_size: int, hidden_size: int, num_layers: int, num_heads: int, context: int):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, hidden_size)
        self.positions = nn.Embedding(context, hidden_size)
        self.blocks = nn.ModuleList(Block(hidden_size, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, ids_BT):
        x_BTD = self.tokens(ids_BT) + self.positions.weight[: ids_BT.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = F.linear(self.norm(x_BTD), self.tokens.weight)
        return F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), ids_BT[:, 1:].flatten())

    @torch.no_grad()
    def copy_gpt2(self, weights: dict[str, torch.Tensor]) -> "PlainGPT":
        """Take over the weights of a GPT2LMHeadModel; its Conv1D matrices are transposed."""
        names = {
            "ln_1": "before_attention", "attn.c_attn": "query_key_value", "attn.c_proj": "attention_out",
            "ln_2": "before_mlp", "mlp.c_fc": "mlp_in", "mlp.c_proj": "mlp_out",
        }  # fmt: skip
        self.tokens.weight.copy_(weights["transformer.wte.weight"])
        self.positions.weight.copy_(weights["transformer.wpe.weight"])
        for end in ("weight", "bias"):
            getattr(self.norm, end).copy_(weights[f"transformer.ln_f.{end}"])
            for index, block in enumerate(self.blocks):
                for theirs, ours in names.items():
                    source = weights[f"transformer.h.{index}.{theirs}.{end}"]
                    getattr(getattr(block, ours), end).copy_(source.T if source.ndim == 2 else source)
        return self


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, ids_BT: torch.Tensor) -> torch.Tensor:
    """One update; returns the loss before it."""
    loss = model(ids_BT)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()
