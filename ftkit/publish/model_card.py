"""The model card of a run: what it was trained on, how, with what result, and how to use it."""

import json
import re
from pathlib import Path

from ftkit.training.run_folder import read_run_yaml, write_text

# Settings that say where files are on one machine; a published card leaves them out.
LOCAL_SETTINGS = {"output_dir", "dataset_name", "model_name_or_path", "resume_from_checkpoint", "hub_token", "run_name"}
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

ADAPTER_USAGE = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{folder}")"""

MODEL_USAGE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForCausalLM.from_pretrained("{folder}"{remote_code})"""

GENERATE = """
messages = [{"role": "user", "content": "..."}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids)[0]))"""

CARD = """\
# {name}

{method} of `{base}` on `{data}`, made with ftkit.

## Use

```python
{usage}
```

or `ftkit chat {chat}`. The chat template is stored with the tokenizer: training and generation render the same text.

## Data

{data_table}

## Training

{settings_table}

## Results

{results}

## Versions

{versions}
"""


def write_model_card(output_dir: str, receipt: dict) -> Path:
    """Write OUT/README.md from run.yaml, the receipt and metrics.jsonl; return its path.

    Paths of the machine it was trained on are cut to their last part.
    """
    from huggingface_hub import ModelCardData

    folder = Path(output_dir)
    settings = read_run_yaml(output_dir)
    adapter = (folder / "adapter_config.json").is_file()
    base, data = public_name(settings["model_name_or_path"]), public_name(settings["dataset_name"])
    metadata = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["ftkit", "sft", *(["lora"] if adapter else [])],
        base_model=base if is_hub_id(settings["model_name_or_path"]) else None,
        datasets=[data] if is_hub_id(settings["dataset_name"]) else None,
    )
    custom = not adapter and json.loads((folder / "config.json").read_text()).get("model_type") == "ftgpt"
    usage = (ADAPTER_USAGE if adapter else MODEL_USAGE).format(
        folder=folder.name, base=base, remote_code=", trust_remote_code=True" if custom else ""
    )
    text = CARD.format(
        name=folder.name,
        method=method_name(settings),
        base=base,
        data=data,
        usage=usage + GENERATE,
        chat=f"--adapter {folder.name}" if adapter else f"--model_name_or_path {folder.name}",
        data_table=table({key: value for key, value in receipt.items() if isinstance(value, int | float | str)}),
        settings_table=table({key: value for key, value in settings.items() if key not in LOCAL_SETTINGS}),
        results=results_text(folder / "metrics.jsonl"),
        versions=versions_line(folder / "run.yaml"),
    )
    path = folder / "README.md"
    write_text(path, f"---\n{metadata.to_yaml()}\n---\n\n{text}")
    return path


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a Hub id and is no file or folder here."""
    return "/" in name and bool(HUB_ID.fullmatch(name)) and not Path(name).exists()


def public_name(name: str) -> str:
    """A Hub id or bundled name as it is; a local path without its folders."""
    return name if is_hub_id(name) else Path(name).name


def method_name(settings: dict) -> str:
    """What was trained, in words."""
    if not settings.get("use_peft"):
        frozen = settings.get("num_frozen_layers")
        return f"Full fine-tune (first {frozen} layers frozen)" if frozen else "Full fine-tune"
    if settings.get("peft_method") == "prompt_tuning":
        return "Soft prompt (prompt tuning)"
    name = "DoRA" if settings.get("use_dora") else "rsLoRA" if settings.get("use_rslora") else "LoRA"
    return f"Q{name} adapter" if settings.get("load_in_4bit") else f"{name} adapter"


def table(values: dict) -> str:
    """A Markdown table of two columns."""
    rows = [f"| {key} | {str(value).replace('|', chr(92) + '|')} |" for key, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def results_text(metrics: Path) -> str:
    """First and last evaluation loss; says so when nothing was held out."""
    records = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.is_file() else []
    evaluations = [record for record in records if "eval_loss" in record]
    if not evaluations:
        return "No rows were held out, so nothing was measured."
    first, last = evaluations[0], evaluations[-1]
    if first is last:
        return f"Loss on the held-out answers: {last['eval_loss']:.4f} nats a token at step {last['step']}."
    return (
        f"Loss on the held-out answers, nats a token: {first['eval_loss']:.4f} at step {first['step']}, "
        f"{last['eval_loss']:.4f} at step {last['step']}."
    )


def versions_line(run_yaml: Path) -> str:
    """The versions that run.yaml names in its second comment line."""
    return run_yaml.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ")
