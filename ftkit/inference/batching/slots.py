"""Keys and values of many answers side by side, each row as long as its own text.

    slots = Slots(model)
    rows = slots.append(single)                       # what a prompt left, into the next free row
    logits_BV = slots.step(tokens_B)                  # one more token for every row
    slots.remove(row)                                 # the last row takes its place

A row is written where its text ends, and sees nothing after it. What the longest row needs is what all are read to,
rounded up; memory grows with what was needed so far.
"""

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from ftkit.config.errors import UserError

# B rows, T tokens of this step, S tokens of the longest row, L layers, H heads of keys, E size of a head

WIDTH, GROWTH = 64, 256  # tokens: what is read, and what memory grows by, are whole multiples


def check_has_slots(model) -> None:
    """Raise UserError for a model whose past is not keys and values of all tokens."""
    if model.config.is_encoder_decoder:
        raise UserError(f"{model.config.model_type}: an encoder-decoder can't be served; take a causal language model")
    cache = DynamicCache(config=model.config.get_text_config())
    other = next((type(layer).__name__ for layer in cache.layers if type(layer) is not DynamicLayer), None)
    if other:
        raise UserError(
            f"{model.config.model_type}: has layers that do not attend to the whole text ({other}), which the batched "
            "engine does not know; ask it by ftkit generate or chat"
        )


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, (rows, H, tokens, E), of which the first `owner.num_rows` rows are in use."""

    def __init__(self, owner: "Slots"):
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room of the shape and precision that the model writes."""
        for name, states in (("keys", key_states), ("values", value_states)):
            shape = (0, states.shape[1], 0, states.shape[3])
            setattr(self, name, states.new_zeros(shape))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Write one token of each row where its text ends; return what all rows may look at, (B, H, S, E)."""
        num, rows_B, ends_B = self.owner.num_rows, self.owner.rows_B, self.owner.lengths_B
        self.keys[rows_B, :, ends_B] = key_states[:, :, 0]
        self.values[rows_B, :, ends_B] = value_states[:, :, 0]
        return self.keys[:num, :, : self.owner.width], self.values[:num, :, : self.owner.width]

    def room(self, rows: int, tokens: int) -> None:
        """Have room for so many."""
        for name in ("keys", "values"):
            old = getattr(self, name)
            if old.shape[0] < rows or old.shape[2] < tokens:
                new = old.new_zeros(max(rows, old.shape[0]), old.shape[1], max(tokens, old.shape[2]), old.shape[3])
                new[: old.shape[0], :, : old.shape[2]] = old
                setattr(self, name, new)

    def get_seq_length(self) -> int:
        """Tokens that the longest row has."""
        return int(self.owner.width)

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(tokens that are looked at, where they begin)."""
        return self.owner.width, 0


class Slots:
    """Rows of text that grow together."""

    def __init__(self, model):
        check_has_slots(model)
        self.model, self.device = model, model.device
        self.layers = [SlotLayer(self) for _ in range(model.config.get_text_config().num_hidden_layers)]
        self.cache = Cache(layers=self.layers)
        self.lengths: list[int] = []
        self.lengths_B = self.rows_B = torch.zeros(0, dtype=torch.long, device=self.device)
        self.width = 0

    @property
    def num_rows(self) -> int:
        """Rows in use."""
        return len(self.lengths)

    def append(self, single: DynamicCache) -> int:
        """Take over what one text left, (1, H, tokens, E) in each layer; return its row."""
        length, row = single.get_seq_length(), self.num_rows
        for mine, layer in zip(self.layers, single.layers, strict=True):
            if not mine.is_initialized:
                mine.lazy_initialization(layer.keys, layer.values)
            mine.room(row + 1, rounded(length + 1, GROWTH))
            mine.keys[row, :, :length], mine.values[row, :, :length] = layer.keys[0], layer.values[0]
        self.lengths.append(length)
        return row

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = self.num_rows - 1
        if row != last:
            length = self.lengths[last]
            for layer in self.layers:
                layer.keys[row, :, :length] = layer.keys[last, :, :length]
                layer.values[row, :, :length] = layer.values[last, :, :length]
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def step(self, tokens_B: Tensor) -> Tensor:
        """The logits, (B, V) in float32, after one more token of each row."""
        self.width = rounded(max(self.lengths) + 1, WIDTH)
        for layer in self.layers:
            layer.room(self.num_rows, rounded(self.width, GROWTH))
        self.lengths_B = torch.tensor(self.lengths, device=self.device)
        self.rows_B = torch.arange(self.num_rows, device=self.device)
        is_past_BS = torch.arange(self.width, device=self.device) <= self.lengths_B[:, None]
        logits_BV = self.model(
            input_ids=tokens_B[:, None], position_ids=self.lengths_B[:, None], past_key_values=self.cache,
            attention_mask=additive(is_past_BS, self.model.dtype)[:, None, None], use_cache=True,
        ).logits[:, -1]  # fmt: skip
        self.lengths = [length + 1 for length in self.lengths]
        return logits_BV.float()


def additive(is_seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is added to scores, which every kind of attention takes: 0 where a token is seen."""
    return torch.zeros(is_seen.shape, dtype=dtype, device=is_seen.device).masked_fill(~is_seen, torch.finfo(dtype).min)


def rounded(tokens: int, unit: int) -> int:
    """So many, up to whole units, so that memory and shapes change seldom."""
    return -(-tokens // unit) * unit
