"""Wrong and odd command lines: one line on stderr and exit code 2, with what to type instead, or the right thing."""

import json
import shlex

import pytest

from ftkit.cli import dispatch
from ftkit.config.parser import run
from ftkit.runs.recipes import load_recipe

SFT = "sft --model M --dataset_name rows.jsonl --output_dir OUT"

# a command line, and what its answer holds
WRONG = [
    # what people call flags
    (f"{SFT} --epochs 3", "--num_train_epochs"),
    (f"{SFT} --num_epochs 3", "--num_train_epochs"),
    (f"{SFT} --lr 1e-4", "--learning_rate"),
    (f"{SFT} -lr 1e-4", "--learning_rate"),
    (f"{SFT} --LR 1e-4", "--learning_rate"),
    (f"{SFT} --learning-rat 1e-4", "--learning_rate"),
    (f"{SFT} --batch_size 4", "--per_device_train_batch_size"),
    (f"{SFT} --batch-size=4", "--per_device_train_batch_size"),
    (f"{SFT} --bs 4", "--per_device_train_batch_size"),
    (f"{SFT} -b 4", "--per_device_train_batch_size"),
    (f"{SFT} --micro_batch_size 4", "--per_device_train_batch_size"),
    (f"{SFT} --grad_accum 4", "--gradient_accumulation_steps"),
    (f"{SFT} --lora", "did you mean --use_peft?"),
    (f"{SFT} --use_lora", "did you mean --use_peft?"),
    (f"{SFT} --peft", "did you mean --use_peft?"),
    (f"{SFT} --qlora", "did you mean --use_peft --load_in_4bit?"),
    (f"{SFT} --4bit", "did you mean --load_in_4bit?"),
    (f"{SFT} --rank 8", "--lora_r?"),
    (f"{SFT} --lora_rank 8", "--lora_r?"),
    (f"{SFT} --lora-rank 8", "--lora_r?"),
    (f"{SFT} -r 8", "--lora_r?"),
    (f"{SFT} --alpha 8", "--lora_alpha"),
    (f"{SFT} --target_modules q_proj", "--lora_target_modules"),
    (f"{SFT} --torch_dtype bfloat16", "--dtype"),
    (f"{SFT} --max_seq_length 512", "--max_length"),
    (f"{SFT} --max-seq-len 512", "--max_length"),
    (f"{SFT} --cutoff_len 512", "--max_length"),
    (f"{SFT} --steps 10", "--max_steps"),
    (f"{SFT} --max_iters 10", "--max_steps"),
    (f"{SFT} --warmup_ratio 0.1", "--warmup_steps"),
    (f"{SFT} --evaluation_strategy steps", "--eval_strategy"),
    (f"{SFT} --gradient_clipping 1", "--max_grad_norm"),
    (f"{SFT} --device cuda", "--use_cpu"),
    (f"{SFT} --gpu 0", "CUDA_VISIBLE_DEVICES"),
    (f"{SFT} --no_cuda", "--use_cpu"),
    (f"{SFT} --num_processes 2", "accelerate launch --num_processes 2"),
    (f"{SFT} --resume", "give the same command again"),
    (f"{SFT} --val_size 0.1", "--test_size"),
    (f"{SFT} --eval_file test.jsonl", "--test_size 0.1"),
    (f"{SFT} --overwrite_output_dir", "--overwrite"),
    (f"{SFT} --wandb", "--report_to"),
    (f"{SFT} --dry_run", "--plan"),
    (f"{SFT} --prompt_template alpaca", "--template"),
    (f"{SFT} --group_by_length", "unknown flag --group_by_length"),
    ("sft --base_model M", "did you mean --model?"),
    ("sft --base-model M", "did you mean --model?"),
    ("sft -m M", "did you mean --model?"),
    ("sft --model M --data rows.jsonl", "--dataset_name"),
    ("sft --model M --dataset rows.jsonl", "--dataset_name"),
    ("sft --model M --train_file rows.jsonl", "--dataset_name"),
    ("sft --model M --dataset_name rows.jsonl --output OUT", "--output_dir"),
    ("sft --model M --dataset_name rows.jsonl -o OUT", "--output_dir"),
    ("dpo --lr 1", "--learning_rate"),
    ("classify --epochs 1", "--num_train_epochs"),
    ("pretrain --seq_len 128", "--block_size"),
    ("pretrain --tokens 1e6", "--max_tokens"),
    ("generate --model M --max_tokens 5", "--max_new_tokens"),
    ("generate --model M --temp 5", "--temperature"),
    ("generate --base_model M", "--model?"),
    ("generate --model M --output x.jsonl", "--output_file"),
    ("chat --lora runs/x", "--adapter"),
    ("chat --lora_path runs/x", "--adapter"),
    ("chat --qlora", "--load_in_4bit"),
    ("bench --model M --task knowledge", "--tasks"),
    ("bench --model M --shots 5", "--num_fewshot"),
    ("bench --model M --base_url http://x", "--endpoint"),
    ("bench --model M --output OUT", "--output_dir"),
    ("export --model M --out OUT", "--output_dir"),
    ("tokenizer --output_dir OUT --data rows.jsonl", "--files"),
    ("data split rows.jsonl --output OUT", "--output_dir"),
    ("data check rows.jsonl --base_model M", "--model?"),
    ("push runs/x me/x --dryrun", "--dry_run"),
    ("try --data rows.jsonl", "the rows come first and without a flag"),
    ("data check --dataset_name rows.jsonl", "the rows come first and without a flag"),
    ("export --model M --format onnx --output_dir OUT", "invalid choice: 'onnx'"),
    # words in the wrong place
    ("sft rows.jsonl", "--dataset_name rows.jsonl"),
    ("sft rows.jsonl --model M", "--dataset_name rows.jsonl"),
    ("sft model-folder", "--model model-folder"),
    ("sft adapter-folder", "--adapter adapter-folder"),
    ("sft recipe.yaml", "--config recipe.yaml"),
    ("sft --model M --dataset_name my rows.jsonl --output_dir OUT", "--dataset_name 'my rows.jsonl'"),
    ("sft --model M --use_peft rows.jsonl", "--use_peft takes no value but true or false"),
    ("sft --config", "--config needs a file"),
    ("sft --config a.yaml --config b.yaml", "--config is given twice"),
    ("sft ''", "'' stands alone"),
    ("sft learning_rate=1e-4", "give --learning_rate 1e-4"),
    ("sft --model M \u2014use_peft", "type two hyphens: --use_peft"),
    ("SFT --model M", "did you mean"),
    ("sft --model", "--model needs a value"),
    ("rows.jsonl", "ftkit try rows.jsonl"),
    ("'my rows.jsonl'", "ftkit try 'my rows.jsonl'"),
    ("model-folder", "ftkit chat --model model-folder"),
    ("adapter-folder", "ftkit chat --adapter adapter-folder"),
    ("smollm2", "ftkit chat --model smollm2"),
    ("me/mine", "ftkit chat --model me/mine"),
    ("recipe.yaml", "ftkit sft --config recipe.yaml"),
    ("--lora_r 8", "give the command first"),
    ("train --lr 1", "did you mean ftkit sft?"),
    ("finetune", "did you mean ftkit sft?"),
    ("evaluate", "did you mean ftkit bench?"),
    ("predict", "did you mean ftkit classify?"),
    ("merge", "did you mean ftkit adapters merge?"),
    ("upload", "did you mean ftkit push?"),
    ("genrate", "did you mean"),
    ("help nosuch", "ftkit --help lists the commands"),
    ("data", "an action is missing"),
    ("data chekc rows.jsonl", "did you mean"),
    ("adapters", "an action is missing"),
    # values
    (f"{SFT} --lora_r eight", "--lora_r is eight; give a whole number"),
    (f"{SFT} --lora_r 8.5", "--lora_r is 8.5; give a whole number"),
    (f"{SFT} --lora_r", "--lora_r needs a value"),
    (f"{SFT} --use_peft --lora_r 0", "--lora_r is 0; give 1 or more"),
    (f"{SFT} --use_peft --lora_r -8", "--lora_r is -8; give 1 or more"),
    (f"{SFT} --use_peft --lora_dropout 1.5", "--lora_dropout is 1.5"),
    (f"{SFT} --learning_rate fast", "--learning_rate is fast; give a number"),
    (f"{SFT} --learning_rate -1", "--learning_rate is -1"),
    (f"{SFT} --learning_rate nan", "--learning_rate is nan"),
    (f"{SFT} --adam_beta1 1.5", "--adam_beta1 is 1.5"),
    (f"{SFT} --num_train_epochs 0", "--num_train_epochs is 0"),
    (f"{SFT} --max_steps 0", "--max_steps is 0"),
    (f"{SFT} --per_device_train_batch_size 0", "--per_device_train_batch_size is 0"),
    (f"{SFT} --gradient_accumulation_steps -1", "--gradient_accumulation_steps is -1"),
    (f"{SFT} --seed -1", "--seed is -1"),
    (f"{SFT} --dataloader_num_workers -1", "--dataloader_num_workers is -1"),
    (f"{SFT} --save_strategy nope", 'did you mean "no"'),
    (f"{SFT} --save_strategy steps --save_steps 1.5", "--save_steps is 1.5"),
    (f"{SFT} --optim adamw", "--optim is adamw"),
    (f"{SFT} --optim_args zzz", "give NAME=VALUE"),
    (f"{SFT} --lr_scheduler_type cosin", 'did you mean "cosine"'),
    (f"{SFT} --lr_scheduler_kwargs zzz", "give a JSON object"),
    (f"{SFT} --lr_scheduler_kwargs '{{'", "give a JSON object"),
    (f"{SFT} --log_level loud", "--log_level is loud"),
    (f"{SFT} --dtype float8", "--dtype is float8"),
    (f"{SFT} --packing maybe", "--packing takes no value but true or false"),
    (f"{SFT} --no_packing true", "--no_packing takes no value"),
    (f"{SFT} --no_lora_r", "lora_r is not a switch"),
    (f"{SFT} --no_lora_r 3", "lora_r is not a switch"),
    (f"{SFT} --parallelism_config x", "can't be set"),
    (f"{SFT} --dataset_format csv", "--dataset_format is csv"),
    (f"{SFT} --test_size 0", "--test_size is 0"),
    (f"{SFT} --report_to nowhere", 'unknown "nowhere"'),
    # settings that do not go together, or have no effect
    (f"{SFT} --fp16 --bf16", "give one of them"),
    (f"{SFT} --load_in_4bit", "add --use_peft"),
    (f"{SFT} --lora_r 8", "add --use_peft"),
    (f"{SFT} --lora_target_modules q_proj", "add --use_peft"),
    (f"{SFT} --use_dora", "add --use_peft"),
    (f"{SFT} --use_peft --load_in_4bit --load_in_8bit", "give one of them"),
    (f"{SFT} --use_peft --num_frozen_layers 1", "drop one of them"),
    (f"{SFT} --use_peft --num_virtual_tokens 8", "--peft_method prompt_tuning"),
    (f"{SFT} --bnb_4bit_quant_type nf4", "needs --load_in_4bit"),
    (f"{SFT} --hub_model_id me/x", "needs --push_to_hub"),
    (f"{SFT} --eval_steps 10", "needs --eval_strategy steps"),
    (f"{SFT} --metric_for_best_model loss", "add --load_best_model_at_end"),
    (f"{SFT} --optim sgd --adam_beta1 0.8", "has no effect with this --optim"),
    (f"{SFT} --liger_kernel_config '{{}}'", "needs --use_liger_kernel"),
    (f"{SFT} --dataloader_persistent_workers", "needs --dataloader_num_workers"),
    (f"{SFT} --fsdp_config x.json", "needs --fsdp"),
    (f"{SFT} --include_for_metrics loss", "has no effect"),
    (f"{SFT} --trackio_space_id x", "needs --report_to trackio"),
    (f"{SFT} --optim_target_modules q_proj", "belongs to the optimizers"),
    (f"{SFT} --dataset_config main", "the rows are local"),
    (f"{SFT} --hardware h100-80gb", "add --plan"),
    (f"{SFT} --assistant_only_loss", "has no effect"),
    (f"{SFT} --do_train", "has no effect"),
    # what is missing
    ("sft", "--dataset_name is missing"),
    ("sft --model M --output_dir OUT", "--dataset_name is missing"),
    ("sft --dataset_name rows.jsonl --output_dir OUT", "--model_name_or_path is missing"),
    ("sft --model M --dataset_name rows.jsonl", "--output_dir is missing"),
    ("sft --config nosuch.yaml", "nosuch.yaml: cannot be read"),
    ("sft --config broken.yaml", "broken.yaml:2: unknown setting"),
    ("generate", "nothing to answer"),
    ("generate --prompt x", "name a model"),
    ("bench", "--tasks is missing"),
    ("compare", "give BEFORE and AFTER"),
    ("export", "required"),
    ("push", "required"),
    ("classify --predict", "expected one argument"),
]  # fmt: skip

# a command line of sft, and the values that it gives settings
ODD = [
    ("--model M", {"model_name_or_path": "M"}),
    ("--model=M", {"model_name_or_path": "M"}),
    ("--model M --learning-rate 1e-4", {"learning_rate": 1e-4}),
    ("--model M --learning_rate=1e-4", {"learning_rate": 1e-4}),
    ("--model M --output-dir elsewhere", {"output_dir": "elsewhere"}),
    ("--model M --use_peft --lora_r 8.0", {"lora_r": 8}),
    ("--model M --max_steps 1e3", {"max_steps": 1000}),
    ("--model M --max_length None", {"max_length": None}),
    ("--model M --use_peft --lora_target_modules q_proj", {"lora_target_modules": "q_proj"}),
    ("--model M --use_peft --lora_target_modules q_proj,v_proj", {"lora_target_modules": ["q_proj", "v_proj"]}),
    ("--model M --use_peft --lora_target_modules q_proj v_proj", {"lora_target_modules": ["q_proj", "v_proj"]}),
    ("--model M --use_peft True", {"use_peft": True}),
    ("--model M --use-peft", {"use_peft": True}),
    ("--model M --packing yes", {"packing": True}),
    ("--model M --no-packing", {"packing": False}),
    ("--model M --seed 1 --seed 2", {"seed": 2}),
    ("--model M --dataset_name 'my rows.jsonl'", {"dataset_name": "my rows.jsonl"}),
    ("--model M --lr_scheduler_type cosine --lr_scheduler_kwargs '{\"num_cycles\": 1}'",
     {"lr_scheduler_kwargs": {"num_cycles": 1}}),
    ("--model M --report_to tensorboard wandb", {"report_to": ["tensorboard", "wandb"]}),
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with rows, a model's folder, an adapter's folder and settings, to work in."""
    row = json.dumps({"instruction": "Say yes.", "output": "Yes."}) + "\n"
    for name in ("rows.jsonl", "my rows.jsonl"):
        (tmp_path / name).write_text(row)
    for name, file in (("model-folder", "config.json"), ("adapter-folder", "adapter_config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    (tmp_path / "recipe.yaml").write_text("lora_r: 8\n")
    (tmp_path / "broken.yaml").write_text("lora_r: 8\nlr: 1\n")
    monkeypatch.chdir(tmp_path)


def test_there_are_a_hundred():
    assert len(WRONG) >= 100 and len({line for line, _ in WRONG}) == len(WRONG)


@pytest.mark.parametrize(("line", "answer"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_command_line_is_answered_in_one_line(line, answer, here, capsys):
    assert run(dispatch, shlex.split(line)) == 2
    printed = capsys.readouterr()
    assert answer in printed.err
    assert printed.err.count("\n") == 1 and not printed.out


@pytest.mark.parametrize(("line", "values"), ODD, ids=[line for line, _ in ODD])
def test_an_odd_command_line_is_understood(line, values, here):
    argv = ["--dataset_name", "rows.jsonl", "--output_dir", "OUT", *shlex.split(line)]
    asked = load_recipe("sft").parse(argv)
    for name, value in values.items():
        found = [getattr(part, name) for part in asked[:3] if hasattr(part, name)]
        assert found == [value]
        assert name in asked.given
