"""What a library refuses only when a trainer, an optimizer or a loader is made is one line as well."""

import json

import pytest

from ftkit.config.parser import run
from ftkit.sft import main

REFUSED = [
    ("--torch_compile_backend zzz", "'ZZZ' is not a valid DynamoBackend"),
    ("--router_aux_loss_coef 1", "not a Mixture-of-Experts model"),
    ("--eos_token zzz", "not found in the vocabulary"),
    ("--use_peft --lora_modules_to_save zzz", "--lora_modules_to_save zzz: no module of the model has that name"),
    (
        "--use_peft --lora_target_parameters zzz",
        "--lora_target_parameters zzz: no parameter of the model has that name",
    ),
    ("--use_peft --lora_target_modules zzz", "no module of the model has that name"),
    ("--attn_implementation zzz", "zzz"),
    ("--optim galore_adamw", "galore_torch"),
    ("--lr_scheduler_type cosine_with_min_lr", "min_lr"),
    ('--lr_scheduler_kwargs {"zzz":1}', "unexpected keyword argument 'zzz'"),
    ("--activation_offloading", "--activation_offloading needs a GPU"),
    ("--accelerator_config nosuch.json", "nosuch.json"),
    ("--deepspeed nosuch.json", "--deepspeed is not supported; FSDP2 splits weights too"),
    ("--load_best_model_at_end --save_strategy no", "load_best_model_at_end"),
]


@pytest.mark.parametrize(("flags", "reason"), REFUSED, ids=[flags for flags, _ in REFUSED])
def test_a_setting_that_a_library_refuses_late_is_one_line(flags, reason, tiny_folder, word_rows, tmp_path, capfd):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in word_rows[:8]))
    argv = ["--model", tiny_folder, "--dataset_name", rows, "--template", "alpaca", "--output_dir", tmp_path / "out"]
    argv += ["--max_steps", "1", "--no_bf16", "--disable_tqdm", "--test_size", "2", "--num_samples", "0"]
    assert run(main, [*map(str, argv), *flags.split()]) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert reason in last
    assert "Traceback" not in last and len(last) < 500
