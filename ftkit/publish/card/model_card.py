"""The model card: what a model was trained on, how, with what result, and how to use it.

    write_model_card("runs/mine", receipt, "sft")  # README.md of a training run
    card_for("merged", "owner/name")               # of any folder, for the Hub

Nothing is claimed that the folder does not show: a licence only if the base's own card names one, a base only by a Hub
id, a result in the metadata only where the data has a Hub id. Paths of this machine are cut to their last part.
"""

import functools
import re
from pathlib import Path

import jinja2

from ftkit.config.files import write_text
from ftkit.config.json_object import read_object
from ftkit.config.jsonl import read_log
from ftkit.config.paste import command, quoted
from ftkit.config.run_folder import read_run_yaml
from ftkit.data.tokens.receipt_text import receipt_lines
from ftkit.evaluation.pages.naming import CACHED_ID, method_name, public_name
from ftkit.model.adapters.embeddings import stored_vocabulary
from ftkit.model.adapters.files import WEIGHTS_FILE, recorded_base
from ftkit.model.classifier import stored_labels
from ftkit.model.loading import public_name_of
from ftkit.publish.card import card_text
from ftkit.publish.card.eval_results import benchmark_results

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MODEL_ID_LINE = re.compile(r'^model_id = "[^"\n]*".*$', re.MULTILINE)
COMMAND = re.compile(r"(`ftkit (?:chat|(?:classify|reward) --predict FILE) --(?:adapter|model_name_or_path) )[^`\n]+`")
UNFILLED = ("[More Information Needed]", "# Model Card for Model ID")  # templates of PEFT and of the Hub
LICENSE_KEYS = ("license", "license_name", "license_link")
NO_RUN = "This folder does not hold the record of a training run."
METHODS = {
    "sft": "Supervised fine-tuning",
    "dpo": "Direct preference optimisation (arXiv:2305.18290)",
    "ppo": "Proximal policy optimisation from rewards (arXiv:1707.06347)",
    "grpo": "reinforcement learning from rewards (GRPO, arXiv:2402.03300; RLOO, arXiv:2402.14740)",
    "kto": "Kahneman-Tversky optimisation (arXiv:2402.01306)",
    "reward": "Pairwise training of a reward model (-log sigmoid of the difference of two scores)",
    "distill": "Distillation from a teacher (arXiv:1503.02531)",
    "pretrain": "Next-token prediction on raw text",
    "classify": "Supervised training of a text classifier",
    "embed": "Contrastive training of an embedding model (in-batch negatives, arXiv:1705.00652)",
}


def write_model_card(output_dir: str, receipt: dict, method: str = "sft") -> Path:
    """Write OUT/README.md from run.yaml, the receipt, metrics.jsonl and results.json; return its path.

    method: the training command, such as "sft" or "dpo". Call it after the model is saved: PEFT writes a README.md too.
    """
    folder = Path(output_dir)
    path = folder / "README.md"
    write_text(path, card_text_of(folder, receipt, method))
    return path


def card_for(folder: str | Path, repo_id: str) -> str:
    """The text of a card for a folder that has none: from its run if it is one's, else from its configuration."""
    folder = Path(folder)
    settings = read_run_yaml(folder)
    receipt = folder / "receipt.json"
    numbers = read_object(receipt) if settings and receipt.is_file() else {}
    return with_repo_id(card_text_of(folder, numbers, run_command(folder)), repo_id)


def card_text_of(folder: Path, receipt: dict, method: str) -> str:
    """Metadata and text of the card."""
    settings = read_run_yaml(folder)
    base = base_of_folder(folder, settings)
    base_name = public_name(base) if base else None
    data = settings.get("dataset_name")
    of_base = f" of `{base_name}`" if base_name else ""
    on_data = f" on `{public_name(data)}`" if data else ""
    made = method_name(settings, method) if settings else kind_name(folder)
    summary = f"{made}{of_base}{on_data}, made with ftkit."
    rows = receipt_lines(receipt)
    hyperparameters = card_text.list_settings(settings, folder, public_name) if settings else []
    training = [METHODS.get(method, method) + "." if settings else NO_RUN]
    if hyperparameters:
        training.append(card_text.table(hyperparameters))
    if versions := versions_line(folder / "run.yaml"):
        training.append(f"Versions: {versions}")
    from_scratch = method == "pretrain" and settings and not base
    origin = [] if from_scratch else [f"`{base_name}`" if base_name else "its base"]
    text = template().render(
        summary=summary,
        data=card_text.table(rows) if rows else "",
        training="\n\n".join(training),
        results=card_text.results_text(folder),
        limits=card_text.LIMITS.get(method) if settings else None,
        inherited=" and of ".join([*origin, "the data it was trained on"]),
        **usage(folder, settings, base_name),
    )
    return f"---\n{metadata(folder, settings, base, method).to_yaml()}\n---\n\n{text}"


@functools.cache
def template() -> jinja2.Template:
    """The card's text; a name that it misspells is an error."""
    made = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    made.globals |= {"command": command, "quoted": quoted}
    return made.from_string(Path(__file__).with_name("card.md.jinja").read_text(encoding="utf-8"))


def metadata(folder: Path, settings: dict, base: str | None, method: str):
    """The metadata that the Hub reads, as huggingface_hub.ModelCardData."""
    from huggingface_hub import ModelCardData

    adapter = is_adapter(folder)
    lora = adapter_object(folder).get("peft_type") == "LORA"
    gguf = any(folder.glob("*.gguf"))
    known = base if base and is_hub_id(base) else None
    data = settings.get("dataset_name")
    encodes = is_encoder(folder)
    library = "peft" if adapter else "gguf" if gguf else "sentence-transformers" if encodes else "transformers"
    task = "sentence-similarity" if encodes else "text-classification" if labels_of(folder) else "text-generation"
    return ModelCardData(
        library_name=library,
        pipeline_tag=task,
        tags=["ftkit", *([method] if settings else []), *(["lora"] if lora else [])],
        base_model=known,
        base_model_relation=("adapter" if adapter else "quantized" if gguf else "finetune") if known else None,
        datasets=[data] if data and is_hub_id(data) else None,
        model_name=folder.resolve().name,
        eval_results=[*(held_out_result(folder, settings) or []), *benchmark_results(folder)] or None,
        **base_license(folder, base),
    )


def held_out_result(folder: Path, settings: dict) -> list | None:
    """The last held-out measures for the model index; None unless the data has a Hub id, as the index wants one."""
    from huggingface_hub import EvalResult

    data = settings.get("dataset_name")
    records = [record for record in read_log(folder / "metrics.jsonl") if "eval_loss" in record]
    if not records or not data or not is_hub_id(data):
        return None
    measures = card_text.measures_of(records[-1])
    measured = {"eval_loss": ("loss", measures["eval_loss"])}
    measured["eval_rewards/accuracies"] = ("accuracy", measures["eval_rewards/accuracies"])
    where = {"dataset_type": data, "dataset_name": f"{data}, held-out rows"}
    return [
        EvalResult("text-generation", **where, metric_type=kind, metric_name=name, metric_value=records[-1][key])
        for key, (kind, name) in measured.items()
        if key in records[-1]
    ]


def base_license(folder: Path, base: str | None) -> dict[str, str]:
    """The licence that the base's own card names, where that card can be read here; {} otherwise."""
    from huggingface_hub import ModelCard, try_to_load_from_cache

    names = [base, adapter_object(folder).get("base_model_name_or_path")]
    cards = [Path(name).expanduser() / "README.md" for name in names if name]
    if base and is_hub_id(base) and isinstance(cached := try_to_load_from_cache(base, "README.md"), str):
        cards.append(Path(cached))
    for card in cards:
        if card.is_file():
            found = ModelCard.load(card, ignore_metadata_errors=True).data.to_dict()
            return {key: found[key] for key in LICENSE_KEYS if isinstance(found.get(key), str)}
    return {}


def usage(folder: Path, settings: dict, base_name: str | None) -> dict:
    """What the template shows of how to load and ask a model; `with_repo_id` puts the repository in the folder's place.

    kind: gguf, encoder, classifier, reward (a classifier of one label) or language.
    """
    labels, has_config = labels_of(folder), (folder / "config.json").is_file()
    kind = "language" if not labels else "reward" if len(labels) == 1 else "classifier"
    kind = "encoder" if is_encoder(folder) else kind
    is_ftgpt = bool(settings.get("ftgpt")) or (recorded_base(folder) or {}).get("model_type") == "ftgpt"
    return {
        "name": folder.resolve().name,
        "kind": kind if has_config or is_adapter(folder) else "gguf",
        "file": next(iter(sorted(path.name for path in folder.glob("*.gguf"))), "the .gguf file"),
        "has_modelfile": (folder / "Modelfile").is_file(),
        "labels": ", ".join(labels or ()),
        "is_adapter": is_adapter(folder),
        "base": base_name,
        "is_ftgpt": is_ftgpt,
        "is_plain_base": bool(base_name) and not is_ftgpt and not base_name.endswith(".gguf"),
        "vocabulary": trained_vocabulary(folder),
        "runs_code": has_config and bool(read_object(folder / "config.json").get("auto_map")),
        "chats": any((folder / file).is_file() for file in ("chat_template.jinja", "chat_template.json")),
    }


def trained_vocabulary(folder: Path) -> str:
    """The rows that an adapter's base is to have, as Python, where they are not those it has."""
    stored = stored_vocabulary(folder) if (folder / WEIGHTS_FILE).is_file() else None  # before training there is none
    if stored and stored != (recorded_base(folder) or {}).get("vocab_size"):
        return str(stored)
    return "len(tokenizer)" if trains_tokens(folder) else ""


def labels_of(folder: Path) -> list[str] | None:
    """The classes of a classifier, whole or an adapter; None for a language model."""
    if is_adapter(folder):
        return (recorded_base(folder) or {}).get("labels")
    return stored_labels(folder) if (folder / "config.json").is_file() else None


def with_repo_id(text: str, repo_id: str) -> str:
    """The card with the repository in its snippet and command, in place of the folder."""
    text = MODEL_ID_LINE.sub(lambda _: f'model_id = "{repo_id}"', text)
    return COMMAND.sub(lambda match: f"{match[1]}{repo_id}`", text)


def is_unfilled(text: str) -> bool:
    """Whether a card is a template that nobody filled in, as PEFT saves one."""
    return any(mark in text for mark in UNFILLED)


def base_of_folder(folder: Path, settings: dict) -> str | None:
    """What the base was called: by the run, by base.json, by the record of a merge or export, by the adapter's config.

    A path into huggingface_hub's cache becomes the Hub id it holds. A path that was relative to the folder of another
    command begins with "./", as it looks like a Hub id otherwise.
    """
    record = recorded_base(folder) or {}
    names = [settings.get("model_name_or_path"), record.get("name")]
    for file in ("merge.json", "export.json"):
        if (folder / file).is_file():
            names += [read_object(folder / file).get(key) for key in ("base", "source")]
    names.append(adapter_object(folder).get("base_model_name_or_path"))
    names = [name for name in names if isinstance(name, str) and name]
    if record.get("is_local"):
        local = record["name"].rstrip("/")
        names = [f"./{name}" if name.rstrip("/") == local and HUB_ID.fullmatch(local) else name for name in names]
    names = [public_name_of(name) for name in names]
    cached = [f"{match[1]}/{match[2]}" for name in names if (match := CACHED_ID.search(name))]
    return next(iter([name for name in names if is_hub_id(name)] + cached + names), None)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds a PEFT adapter."""
    return (folder / "adapter_config.json").is_file()


def is_encoder(folder: Path) -> bool:
    """Whether the folder holds an embedding model in sentence-transformers' form."""
    return (folder / "modules.json").is_file()


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a Hub id and is no file or folder here."""
    return bool(HUB_ID.fullmatch(name)) and not re.search(r"^\.|--|\.\.", name) and not Path(name).exists()


def kind_name(folder: Path) -> str:
    """What a folder without a run is, in words."""
    if is_adapter(folder):
        return "Adapter"
    if (folder / "merge.json").is_file():
        return "Merge of an adapter into its base"
    return "Export" if any(folder.glob("*.gguf")) or (folder / "export.json").is_file() else "Model"


def trains_tokens(folder: Path) -> bool:
    """Whether an adapter trained single rows of the embedding."""
    return bool(adapter_object(folder).get("trainable_token_indices"))


def adapter_object(folder: Path) -> dict:
    """An adapter's configuration; {} for a folder that holds none."""
    return read_object(folder / "adapter_config.json") if is_adapter(folder) else {}


def run_command(folder: Path) -> str:
    """The training command that run.yaml's first line repeats; "sft" where it names none."""
    path = folder / "run.yaml"
    match = re.match(r"# ftkit (\w+) --config", path.read_text(encoding="utf-8")) if path.is_file() else None
    return match[1] if match else "sft"


def versions_line(run_yaml: Path) -> str:
    """The versions that run.yaml names in its second comment line; empty where there is none."""
    lines = run_yaml.read_text(encoding="utf-8").split("\n")[1:2] if run_yaml.is_file() else []
    return lines[0].removeprefix("# ") if lines else ""
