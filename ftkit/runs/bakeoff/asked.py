"""What a person asks of a bake-off, and the paths that follow from it.

Asked("rows.jsonl", "base", "runs/bakeoff", budget=Budget.of("10min"))
"""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean
from ftkit.evaluation.bakeoff.contest import CONTESTANTS, Contestant

MINUTES, TOKENS = "minutes", "tokens"
UNITS = {"s": 1 / 60, "m": 1.0, "min": 1.0, "minutes": 1.0, "h": 60.0, "hours": 60.0}
BUDGET = re.compile(r"([\d.]+(?:e\d+)?)\s*([a-z]*)")
METRICS = ("exact_match", "contains", "token_f1", "chrf")
MAX_EPOCHS = 10  # passes over the rows that a budget is spent on at most, as in `ftkit try`
PROMPT = "prompt"  # the contestant that all are compared with


@dataclass(frozen=True)
class Budget:
    """What each contestant may train for. unit: minutes, or tokens."""

    amount: float
    unit: str

    @classmethod
    def of(cls, text: str) -> "Budget":
        """The budget of "10min", "2h" or "5e5 tokens". Raises UserError for anything else."""
        match = BUDGET.fullmatch(text.strip().lower())
        try:
            amount = float(match[1]) if match else 0.0
        except ValueError:
            amount = 0.0
        unit = match[2] if match else ""
        if amount <= 0 or unit not in (*UNITS, TOKENS):
            raise UserError(f'--budget is "{text}"; give minutes or tokens of training, such as 10min or 5e5tokens')
        return cls(amount, TOKENS) if unit == TOKENS else cls(amount * UNITS[unit], MINUTES)

    def __str__(self) -> str:
        return f"{self.amount:,.4g} {self.unit}"


@dataclass(frozen=True)
class Asked:
    """rows: file, folder, bundled name or Hub id. num_test: held out where the rows have no test split.

    docs: files and folders of documents. embedder: a folder of sentence-transformers, for a dense search beside BM25.
    metric: what decides, of METRICS; None for what suits the rows.
    sft_configs: by contestant, a YAML file of `ftkit sft` settings. forgetting_limit: questions of each subject of the
    probe, 0 for no probe. price_per_hour: of this machine.
    """

    rows: str
    model: str
    output_dir: str
    budget: Budget
    docs: tuple[str, ...] = ()
    template: str = "auto"
    skip: tuple[str, ...] = ()
    num_test: int = 200
    num_examples: int = 3
    top_k: int = 3
    passage_tokens: int = 128
    embedder: str | None = None
    metric: str | None = None
    forgetting_limit: int = 20
    max_epochs: float = MAX_EPOCHS
    sft_configs: dict[str, str] = field(default_factory=dict)
    columns: str | None = None
    encoding: str | None = None
    join_turns: bool = False
    batch_size: int | None = None
    margin: float = 0.05
    price_per_hour: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_test", 8), ("num_examples", 1), ("top_k", 1), ("passage_tokens", 16),
                            ("forgetting_limit", 0)):  # fmt: skip
            if (value := getattr(self, name)) < least:
                raise UserError(f"--{name} is {value}; give at least {least}")
        if self.max_epochs <= 0 or not 0 < self.margin < 1 or (self.price_per_hour or 0) < 0:
            raise UserError("--max_epochs is above 0, --margin between 0 and 1, and --price_per_hour not negative")
        for flag, names in (("skip", self.skip), ("sft_config", tuple(self.sft_configs))):
            for name in names:
                if name not in CONTESTANTS:
                    known = did_you_mean(name, CONTESTANTS) or f"; there are {', '.join(CONTESTANTS)}"
                    raise UserError(f'--{flag}: no contestant "{name}"{known}')
        if PROMPT in self.skip:
            raise UserError("--skip prompt: all others are compared with the prompt alone; leave it in")
        for name, path in self.sft_configs.items():
            if not CONTESTANTS[name].is_trained:
                raise UserError(f"--sft_config {name}: {CONTESTANTS[name].title} is not trained; drop it")
            if not Path(path).is_file():
                raise UserError(f"--sft_config {name}={path}: no such file; give a YAML file of ftkit sft settings")
        if self.embedder and not self.docs:
            raise UserError("--embedder searches documents; add --docs DOCS, or drop it")

    @property
    def folder(self) -> Path:
        """OUT."""
        return Path(self.output_dir)

    @property
    def data(self) -> Path:
        """The split, train.jsonl and test.jsonl."""
        return self.folder / "data"

    @property
    def index(self) -> Path:
        """The passages of the documents."""
        return self.folder / "index"

    def of(self, contestant: Contestant) -> Path:
        """The folder of a contestant."""
        return self.folder / contestant.name

    def run(self, contestant: Contestant) -> Path:
        """The folder of its training run."""
        return self.of(contestant) / "run"

    def contestants(self) -> list[Contestant]:
        """Those that are not left out."""
        return [one for one in CONTESTANTS.values() if one.name not in self.skip]

    def reason_against(self, contestant: Contestant) -> str:
        """Why a contestant can't run, as far as that is known at once; "" where it may."""
        return "there are no documents to search; add --docs DOCS" if contestant.searches and not self.docs else ""

    def as_json(self) -> str:
        """For a process of its own."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Asked":
        """As `as_json` wrote it."""
        raw = json.loads(text)
        tuples = {name: tuple(raw[name]) for name in ("docs", "skip")}
        return cls(**(raw | tuples | {"budget": Budget(**raw["budget"])}))
