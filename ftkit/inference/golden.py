"""Golden prompts: what a model and its base say to eight prompts, measured at training and again wherever it is loaded.

    golden = read_golden("runs/a")                                   # OUT/golden.json; None where there is none
    check_golden(golden, "runs/a", base_NV, result_NV, precision)    # UserError: it does not act, or not as recorded

A file that loads, is listed and answers may still do nothing: names that match no module, a scaling that is lost,
another base. Two forwards show it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ftkit.config.errors import UserError, first_line
from ftkit.config.files import write_json
from ftkit.config.json_object import read_object
from ftkit.inference.asking import ModelSettings
from ftkit.inference.engine import Engine, Voice
from ftkit.inference.generation import context_limit, evaluation_mode
from ftkit.model.adapters.files import adapter_fingerprint, resolve_base, run_settings
from ftkit.model.limits import MAX_SIZE

# N prompts, T tokens, V vocabulary

FILE = "golden.json"
SCHEMA = 1
TEXTS = (
    "Name a bird.", "What is 2 + 2?", "Write in upper case: hello", "Once upon a time", "The capital of France is",
    "Is this message spam? You have won a prize!", "Translate to German: good morning", "List three colours.",
)  # fmt: skip
MAX_PROMPTS, MAX_TOKENS = 16, 512
# How far a log-probability, in nats, may be from the recorded one: logits near 20, each rounded in every layer.
TOLERANCES = {"float32": 2e-3, "float16": 0.05, "bfloat16": 0.3}
QUANTISED_TOLERANCE = 1.0  # where only one of the two is quantised, which moves it by as much
VISIBLE = 0.05  # of a tolerance: an effect at training that no rounding takes away
NOISE = 1e-6  # of one forward in which rows are computed alike
DECIMALS = 6
FIX = "restore it, or delete it"


@dataclass(frozen=True)
class Top:
    """The likeliest token after a prompt, with its log-probability in nats."""

    token: int
    log_prob: float


@dataclass(frozen=True)
class Precision:
    """How a model computes. is_quantised: whether its base is in 4 or 8 bits."""

    dtype: str
    is_quantised: bool = False

    def __str__(self) -> str:
        return f"{self.dtype}, quantised" if self.is_quantised else self.dtype

    @classmethod
    def of(cls, model) -> "Precision":
        """A model's, or that of the base below its adapters."""
        return cls(str(model.dtype).removeprefix("torch."), getattr(model, "hf_quantizer", None) is not None)


@dataclass(frozen=True)
class Golden:
    """What golden.json holds. digest: of the adapter or model that was measured (`adapter_fingerprint`,
    `base_fingerprint`). base, result: what each said to the prompts, which are token ids."""

    digest: str
    precision: Precision
    prompts: tuple[tuple[int, ...], ...]
    base: tuple[Top, ...]
    result: tuple[Top, ...]

    def tolerance(self, precision: Precision) -> float:
        """Nats by which an answer may differ from the recorded one, by the coarser of the two precisions."""
        if precision.is_quantised != self.precision.is_quantised:
            return QUANTISED_TOLERANCE
        found = (TOLERANCES.get(dtype, QUANTISED_TOLERANCE) for dtype in (precision.dtype, self.precision.dtype))
        return max(found)


def golden_prompts(voice: Voice, model) -> list[list[int]]:
    """Token ids of the golden prompts, as a question is asked; as plain text where the template takes none of it."""
    found = []
    for text in TEXTS:
        try:
            ids = voice.render([{"role": "user", "content": text}])
        except UserError:
            ids = voice.tokenizer(text)["input_ids"]
        found.append(list(ids)[: int(min(context_limit(model) - 1, MAX_TOKENS))])
    return [ids for ids in found if ids]


def log_probs_after(model, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities, (N, V) in float32, of the token after each prompt, by one forward."""
    width = max(map(len, prompts))
    rows = [[*ids, *[0] * (width - len(ids))] for ids in prompts]
    mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids in prompts]
    with evaluation_mode(model):
        logits = model(
            input_ids=torch.tensor(rows, device=model.device), attention_mask=torch.tensor(mask, device=model.device),
            use_cache=False,
        ).logits  # fmt: skip
        last = [logits.shape[1] - width + len(ids) - 1 for ids in prompts]  # a soft prompt stands in front
        return torch.log_softmax(logits[range(len(prompts)), last].float(), dim=-1).cpu()


def tops(log_probs_NV: Tensor) -> tuple[Top, ...] | None:
    """The likeliest token of each row; None where one has none, as of weights that are not finite."""
    values, tokens = log_probs_NV.max(dim=-1)
    if not values.isfinite().all():
        return None
    pairs = zip(tokens.tolist(), values.tolist(), strict=True)
    return tuple(Top(token, round(min(value, 0.0), DECIMALS)) for token, value in pairs)


def write_golden(folder: str | Path, golden: Golden, tokenizer) -> None:
    """Write FOLDER/golden.json, whole or not at all."""
    prompts = [
        {"text": tokenizer.decode(list(ids)), "ids": list(ids), "base": asdict(base), "result": asdict(result)}
        for ids, base, result in zip(golden.prompts, golden.base, golden.result, strict=True)
    ]
    head = {"schema": SCHEMA, "digest": golden.digest, **asdict(golden.precision)}
    write_json(Path(folder) / FILE, head | {"prompts": prompts})


def read_golden(folder: str | Path) -> Golden | None:
    """FOLDER/golden.json; None where there is none. Raises UserError for one that no run has written."""
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    content = read_object(path, FIX)
    try:
        if content["schema"] != SCHEMA:
            raise UserError(f"{path}: schema {content['schema']!r:.40} is not known; upgrade ftkit")
        rows = content["prompts"]
        if not 0 < len(rows) <= MAX_PROMPTS:
            raise TypeError(f"{len(rows)} prompts")
        prompts = tuple(ids_of(row["ids"]) for row in rows)
        base, result = (tuple(top_of(row[side]) for row in rows) for side in ("base", "result"))
        precision = Precision(str(content["dtype"]), content["is_quantised"] is True)
        return Golden(str(content["digest"]), precision, prompts, base, result)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not as a run writes it ({first_line(error):.80}); {FIX}") from error


def ids_of(value) -> tuple[int, ...]:
    """Token ids of a file. Raises TypeError for anything else."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_TOKENS or not all(map(is_token, value)):
        raise TypeError("ids are not token ids")
    return tuple(value)


def top_of(value) -> Top:
    """A token and its log-probability of a file. Raises TypeError, KeyError for anything else."""
    token, log_prob = value["token"], value["log_prob"]
    if not is_token(token) or type(log_prob) not in (int, float) or not -math.inf < log_prob <= 0:
        raise TypeError("token and log_prob are not those of an answer")
    return Top(token, float(log_prob))


def is_token(value) -> bool:
    """Whether a value of a file may be a token id."""
    return type(value) is int and 0 <= value < MAX_SIZE


def check_golden(golden: Golden, folder: str | Path, base_NV: Tensor, result_NV: Tensor, precision: Precision) -> float:
    """The largest difference, in nats, from what was recorded.

    base_NV, result_NV: what both say now (`log_probs_after`). Raises UserError, in one line, where the result answers
    as its base does although it did not at training, and where it answers otherwise than recorded.
    """
    path, tolerance = Path(folder) / FILE, golden.tolerance(precision)
    was = max(abs(one.log_prob - two.log_prob) for one, two in zip(golden.base, golden.result, strict=True))
    if was > VISIBLE * tolerance and not float((result_NV - base_NV).abs().max()) > NOISE:
        raise UserError(
            f"{path}: the adapter changes nothing here: to all {len(golden.prompts)} prompts its base says the same, "
            "which it did not at training; its names or its scaling are not understood"
        )
    differences = far_from(golden.result, result_NV)
    worst = max(range(len(differences)), key=differences.__getitem__)
    if not differences[worst] <= tolerance:
        now, then = float(result_NV[worst, golden.result[worst].token]), golden.result[worst].log_prob
        of_base = max(far_from(golden.base, base_NV))
        hint = "its base differs as well" if not of_base <= tolerance else "its base does not"
        raise UserError(
            f"{path}: acts otherwise than recorded: after prompt {worst + 1} token {golden.result[worst].token} has "
            f"log-probability {now:.4f}, at training {then:.4f} ({hint}; {tolerance:g} is allowed between "
            f"{precision} and {golden.precision}); load it with the base and settings of its training"
        )
    return differences[worst]


def golden_line(adapter: str, base: str | None = None) -> str:
    """In words, whether an adapter acts on its base, and as it did at training. base: where it is, if moved.

    Raises UserError as `check_belongs` and `check_golden` do.
    """
    golden = read_golden(adapter)
    if golden is None:
        return f"not checked: no run recorded what it says ({FILE})"
    try:
        resolve_base(adapter, base)
    except UserError:
        return "not checked: its base was not found"
    in_4bit = bool(run_settings(adapter).get("load_in_4bit"))
    engine = Engine.load(ModelSettings(base, {"it": adapter}, may_lack_template=True, load_in_4bit=in_4bit))
    check_belongs(golden, adapter, adapter_fingerprint(adapter), engine.model)
    with engine.model.disable_adapter():
        base_NV = log_probs_after(engine.model, golden.prompts)
    precision = Precision.of(engine.model)
    far = check_golden(golden, adapter, base_NV, log_probs_after(engine.model, golden.prompts), precision)
    allowed = f"{golden.tolerance(precision):g} allowed between {precision} and {golden.precision}"
    return f"acts as at training: {far:.2g} nats from it on {len(golden.prompts)} prompts ({allowed})"


def far_from(recorded: Sequence[Top], log_probs_NV: Tensor) -> list[float]:
    """How far the log-probability of each recorded token is from what it was; NaN counts as infinitely far."""
    found = (abs(float(row[top.token]) - top.log_prob) for top, row in zip(recorded, log_probs_NV, strict=True))
    return [math.inf if math.isnan(value) else value for value in found]


def check_belongs(golden: Golden, folder: str | Path, digest: str, model) -> None:
    """Raise UserError for a record of other weights, and for prompts that the model can't be asked."""
    path = Path(folder) / FILE
    if golden.digest != digest:
        raise UserError(
            f"{path}: was measured of other weights than lie beside it (SHA-256 {golden.digest[:12]}, not "
            f"{digest[:12]}); let the run that writes them end, or delete it"
        )
    tokens = {top.token for top in (*golden.base, *golden.result)}.union(*golden.prompts)
    rows, room = len(model.get_input_embeddings().weight), context_limit(model)
    if max(tokens) >= rows or max(map(len, golden.prompts)) > room:
        raise UserError(f"{path}: its prompts are not of this model, of {rows} tokens and a context of {room}; {FIX}")
