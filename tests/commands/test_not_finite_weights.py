"""Every command that reads weights refuses those that hold NaN or infinity, in one line that names the tensor."""

import math
import shutil

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForSequenceClassification

from ftkit.cli import dispatch
from ftkit.config.errors import UserError

HELD = "holds NaN or infinity"
MODEL = ["--model_name_or_path", "{model}"]
ROWS = ["--dataset_name", "{rows}", "--output_dir", "{out}", "--template", "alpaca"]
READERS = {  # command line by command; {model} and {adapter} hold a value that is not finite, {good} does not
    "sft": [*MODEL, *ROWS],
    "sft --use_peft --load_in_4bit": [*MODEL, *ROWS],
    "sft --use_peft --load_in_8bit": [*MODEL, *ROWS],
    "sft --ftgpt": [*MODEL, *ROWS],
    "sft --adapter": ["{adapter}", "--dataset_name", "{rows}", "--output_dir", "{out}"],
    "dpo": [*MODEL, "--dataset_name", "{pairs}", "--output_dir", "{out}", "--template", "alpaca"],
    "reward": [*MODEL, "--dataset_name", "{pairs}", "--output_dir", "{out}", "--template", "alpaca"],
    "pretrain": [*MODEL, "--dataset_name", "{texts}", "--output_dir", "{out}", "--block_size", "32"],
    "classify": [*MODEL, "--dataset_name", "{labels}", "--output_dir", "{out}"],
    "classify --predict": ["{labels}", "--model_name_or_path", "{classifier}"],
    "generate --prompt Hi --template alpaca": [*MODEL],
    "generate --prompt Hi --template alpaca --adapter": ["{adapter}", "--model_name_or_path", "{good}"],
    "chat --template alpaca": [*MODEL],
    "bench": [*MODEL, "--tasks", "{task}", "--output_dir", "{out}"],
    "judge --template alpaca": ["a={answers}", *MODEL, "--output_dir", "{out}"],
    "adapters merge": ["{adapter}", "--model_name_or_path", "{good}", "--output_dir", "{out}"],
    "adapters merge ": ["{good_adapter}", *MODEL, "--output_dir", "{out}"],
    "export --format llama": ["{model}", "--output_dir", "{out}"],
    "export --format gguf": ["{model}", "--output_dir", "{out}"],
    "export --format llama --adapter": ["{good_adapter}", "{model}", "--output_dir", "{out}"],
    "push": ["{model}", "me/mine", "--dry_run"],
    "push ": ["{adapter}", "me/mine", "--dry_run"],
}


def damage(folder, value: float, file="model.safetensors"):
    """Put `value` into the last tensor of a folder, once."""
    tensors = load_file(folder / file)
    tensors[max(tensors)].view(-1)[-1] = value
    save_file(tensors, folder / file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def places(tiny_folder, tmp_path_factory):
    """Folders and files by the names in READERS."""
    root = tmp_path_factory.mktemp("places")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    adapter = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_folder),
        LoraConfig(target_modules=["q_proj"], task_type=TaskType.CAUSAL_LM, init_lora_weights=False),
    )
    for name in ("adapter", "good_adapter"):
        adapter.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    LlamaForSequenceClassification.from_pretrained(tiny_folder, num_labels=2).save_pretrained(root / "classifier")
    tokenizer.save_pretrained(root / "classifier")
    shutil.copytree(tiny_folder, root / "model")
    damage(root / "adapter", math.nan, "adapter_model.safetensors")
    damage(root / "classifier", math.nan)
    damage(root / "model", math.inf)
    rows = {
        "rows": '{"instruction": "Say it.", "input": "bal", "output": "BAL"}\n' * 4,
        "pairs": '{"prompt": "bal", "chosen": "BAL", "rejected": "bal"}\n' * 4,
        "texts": '{"text": "bal com dun fel gip hor"}\n' * 40,
        "labels": '{"text": "bal", "label": "ham"}\n{"text": "com", "label": "spam"}\n' * 4,
        "answers": '{"prompt": "Say bal.", "reference": "bal", "answer": "bal"}\n',
    }
    for name, text in rows.items():
        (root / f"{name}.jsonl").write_text(text)
    (root / "task.yaml").write_text(
        'version: 1\nabout: "Case."\nkind: multiple_choice\nmetrics: [acc]\ndata: rows.jsonl\n'
        'prompt: "{{ input }}"\nchoices: ["BAL", "COM"]\nanswer: "0"\n'
    )
    folders = {name: root / name for name in ("adapter", "good_adapter", "classifier", "model")}
    return folders | {"good": tiny_folder, "task": root / "task.yaml"} | {name: root / f"{name}.jsonl" for name in rows}


@pytest.mark.parametrize("command", READERS)
def test_it_is_refused_in_one_line(command, places, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    argv = [*command.split(), *(word.format(**places, out=tmp_path / "out") for word in READERS[command])]
    with pytest.raises(UserError, match=HELD) as error:
        dispatch(argv)
    assert "\n" not in str(error.value) and str(error.value).split(":")[0]
    assert not list((tmp_path / "out").glob("*.safetensors")) if (tmp_path / "out").is_dir() else True


def test_float16_that_can_not_hold_a_weight_is_refused(places, tiny_folder, tmp_path):
    large = damage(shutil.copytree(tiny_folder, tmp_path / "large"), 1e6)
    message = "as float16; float16 holds nothing above 65,504: take float32 or bfloat16"
    with pytest.raises(UserError, match=message):
        dispatch(
            [
                "generate",
                "--prompt",
                "Hi",
                "--template",
                "alpaca",
                "--model_name_or_path",
                str(large),
                "--dtype",
                "float16",
            ]
        )
    out = tmp_path / "merged"
    with pytest.raises(UserError, match=message):
        dispatch(["adapters", "merge", str(places["good_adapter"]), "--model_name_or_path", str(large),
                  "--dtype", "float16", "--output_dir", str(out)])  # fmt: skip
    assert not out.exists()


def test_weights_without_a_fault_whose_outputs_are_not_finite_are_refused_for_a_classifier(
    places, tiny_folder, tmp_path
):
    model = LlamaForSequenceClassification.from_pretrained(tiny_folder, num_labels=2)
    with torch.no_grad():
        model.score.weight.fill_(3e38)
    model.save_pretrained(tmp_path / "huge")
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / "huge")
    with pytest.raises(
        UserError, match="huge: gives NaN or infinity for text 1; load it as float32, or take an earlier"
    ):
        dispatch(["classify", "--predict", str(places["labels"]), "--model_name_or_path", str(tmp_path / "huge")])
