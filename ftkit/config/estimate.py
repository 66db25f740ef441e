"""How much memory a training run takes, by a closed formula; what decides whether activations are recomputed.

    peak_memory_gib(Shape.of(config, num_parameters), Work(tokens=4096, ...)).total

Terms: weights, gradients, AdamW's two moments, activations kept for backward, and the loss head's tile. The activation
term counts, as Korthikanti et al. 2022 (arXiv:2205.05198) do, what each operation of a layer keeps; attention is fused.
"""

from dataclasses import dataclass

GIB = 2**30
FOUR_BIT_BYTES = 0.52  # a weight in nf4 with doubly quantised constants (QLoRA, arXiv:2305.14314)
EIGHT_BIT_BYTES = 1.05  # a weight in int8 with its scales
HEAD_TILE_BYTES = 4 * 48 * 2**20  # the compact loss head: logits of a chunk, and what is made of them
CUDA_CONTEXT_BYTES = 0.6 * GIB


@dataclass(frozen=True)
class Shape:
    """What the formula needs of a model. kv_size: width of keys; mlp_size: width of all MLP projections together."""

    num_parameters: int
    hidden_size: int
    num_layers: int
    kv_size: int
    mlp_size: int
    vocab_size: int

    @classmethod
    def of(cls, config, num_parameters: int) -> "Shape":
        """The shape of a transformers configuration whose model has `num_parameters`."""
        config = config.get_text_config()
        hidden, layers, heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        kv = kv_heads * (getattr(config, "head_dim", None) or hidden // heads)
        tied = getattr(config, "tie_word_embeddings", False)
        in_layers = num_parameters - config.vocab_size * hidden * (1 if tied else 2)
        mlp = max(hidden, round((in_layers / layers - 2 * hidden**2 - 2 * hidden * kv) / hidden))
        return cls(num_parameters, hidden, layers, kv, mlp, config.vocab_size)

    @property
    def num_linear(self) -> int:
        """Weights of the layers' matrices."""
        return self.num_layers * self.hidden_size * (2 * self.hidden_size + 2 * self.kv_size + self.mlp_size)

    def num_lora(self, rank: int) -> int:
        """Weights of a LoRA of this rank on every linear layer: rank * (inputs + outputs) of each."""
        ends = 2 * (self.hidden_size + self.kv_size) + 4 * self.hidden_size + self.mlp_size + 3 * self.hidden_size
        return self.num_layers * rank * ends


@dataclass(frozen=True)
class Work:
    """What a run does at once. tokens: of one forward pass. num_trained: weights that an optimizer moves.

    weight_bytes: of a stored weight. autocast: whether products are in bf16 while weights are in float32. copies: of
    the weights, 2 where a frozen reference lies beside them.
    """

    tokens: int
    num_trained: int
    weight_bytes: float
    half: bool
    autocast: bool
    checkpointing: bool
    copies: int = 1
    on_gpu: bool = False


def peak_memory_gib(shape: Shape, work: Work) -> float:
    """GiB at the highest point of a training step, after the backward pass has reached the first layer."""
    embedding = shape.vocab_size * shape.hidden_size
    stored = work.weight_bytes * shape.num_linear + max(work.weight_bytes, 2) * (
        shape.num_parameters - shape.num_linear
    )
    weights = work.copies * stored + (2 * shape.num_linear if work.autocast else 0)
    training = 12 * work.num_trained  # float32 gradient and AdamW's two moments
    element = 2 if work.half else 4
    hidden, kv, mlp = shape.hidden_size, shape.kv_size, shape.mlp_size
    layer = 16 * hidden + element * (6 * hidden + 4 * kv + 4 * mlp / 3)  # norms in float32, the rest as computed
    kept = shape.num_layers * 4 * hidden + layer if work.checkpointing else shape.num_layers * layer
    head = HEAD_TILE_BYTES + (4 * embedding if work.num_trained >= embedding else 0)
    context = CUDA_CONTEXT_BYTES if work.on_gpu else 0
    return (weights + training + work.tokens * kept + head + context) / GIB
