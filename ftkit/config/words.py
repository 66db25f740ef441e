"""What people type, from other tools and from habit, and the flags it stands for here.

right_flag("lr", {"learning_rate"}) is "; did you mean --learning_rate?".
"""

import difflib
from collections.abc import Collection, Iterable

# Each line: what is typed, with underscores, and what it stands for. The first meaning whose flags a command has is
# the one that is named; the last may be a sentence instead.
MEANINGS = (
    ("epoch epochs num_epochs n_epochs max_epochs", "--num_train_epochs"),
    ("steps num_steps max_iters iters total_steps train_steps num_train_steps max_train_steps", "--max_steps"),
    ("lr rate max_lr peak_lr base_lr", "--learning_rate"),
    ("scheduler lr_scheduler schedule", "--lr_scheduler_type"),
    ("warmup warmup_ratio num_warmup_steps lr_warmup_steps", "--warmup_steps"),
    ("wd decay", "--weight_decay"),
    ("optimizer optimiser", "--optim"),
    ("clip grad_clip gradient_clipping max_norm gradient_clip_val", "--max_grad_norm"),
    ("b bs batch batch_size train_batch_size micro_batch_size per_gpu_train_batch_size",
     "--per_device_train_batch_size", "--batch_size", "--max_batch_tokens"),
    ("eval_batch_size val_batch_size", "--per_device_eval_batch_size"),
    ("grad_accum accumulation accumulate grad_accumulation gradient_accumulation grad_accum_steps accum_steps",
     "--gradient_accumulation_steps"),
    ("lora peft adapter_training use_lora finetuning_type", "--use_peft", "--adapter"),
    ("qlora use_qlora", "--use_peft --load_in_4bit", "--load_in_4bit"),
    ("4bit bits int4 nf4 quantize quantization load_in_4_bit use_4bit", "--load_in_4bit"),
    ("8bit int8 load_in_8_bit use_8bit", "--load_in_8bit"),
    ("bitnet bitlinear 1bit onebit bit_linear", "--ternary"),
    ("dora", "--use_dora"),
    ("rslora", "--use_rslora"),
    ("r rank lora_rank lora_dim", "--lora_r"),
    ("alpha", "--lora_alpha"),
    ("dropout lora_drop", "--lora_dropout"),
    ("target_modules lora_target lora_targets modules", "--lora_target_modules"),
    ("modules_to_save additional_target", "--lora_modules_to_save"),
    ("m base base_model model_name model_id model_path pretrained_model pretrained_model_name_or_path checkpoint ckpt "
     "hf_model", "--model"),
    ("revision", "--model_revision"),
    ("trust_code allow_remote_code", "--trust_remote_code"),
    ("dtype torch_dtype precision float16 half", "--dtype"),
    ("fp32 float32", "--dtype float32"),
    ("bfloat16", "--bf16", "--dtype"),
    ("attention attn flash_attention flash_attn use_flash_attention use_flash_attn use_flash_attention_2",
     "--attn_implementation"),
    ("d data dataset dataset_name datasets dataset_path data_path train_file train_data train_dataset training_data "
     "data_dir dataset_dir training_file input_file file files rows", "--dataset_name", "--files",
     "the rows come first and without a flag"),
    ("val_size valid_size validation_split val_split eval_size test_split test_ratio val_ratio eval_ratio "
     "validation_ratio split_ratio", "--test_size"),
    ("eval_file test_file validation_file val_file eval_data val_data test_data eval_dataset test_dataset val_dataset",
     "give --dataset_name a folder with train.jsonl and test.jsonl, or hold rows out by --test_size 0.1", ),
    ("subset dataset_config_name config_name", "--dataset_config"),
    ("streaming stream", "--dataset_streaming"),
    ("prompt_template chat_template prompt_format prompt_style conv_template", "--template", "--dataset_format"),
    ("format data_format dataset_type", "--dataset_format", "--format"),
    ("max_seq_length max_seq_len max_len seq_len seq_length sequence_length cutoff_len context_length ctx_len "
     "model_max_length", "--max_length", "--block_size"),
    ("block context block_length", "--block_size", "--max_length"),
    ("pack sample_packing", "--packing"),
    ("o out output out_dir output_path outdir save_dir save_path save_to dest destination to_dir export_dir",
     "--output_dir", "--output_file", "--output"),
    ("force overwrite_output_dir", "--overwrite"),
    ("resume resume_from continue from_checkpoint resume_training",
     "give the same command again: it goes on by itself from the newest checkpoint; --resume_from_checkpoint PATH "
     "takes an older one"),
    ("save_every checkpoint_every save_interval save_freq", "--save_steps"),
    ("eval_every eval_interval val_interval eval_freq", "--eval_steps"),
    ("log_every log_interval log_steps log_freq", "--logging_steps"),
    ("keep_checkpoints max_checkpoints save_limit", "--save_total_limit"),
    ("early_stopping patience", "--early_stopping_patience"),
    ("evaluation_strategy", "--eval_strategy"),
    ("wandb tensorboard use_wandb logger log_to", "--report_to"),
    ("wandb_project project", "give --report_to wandb, and the project by the environment variable WANDB_PROJECT"),
    ("checkpointing grad_checkpointing use_gradient_checkpointing", "--activation_checkpointing"),
    ("random_seed manual_seed", "--seed"),
    ("device gpu gpus cuda num_gpus n_gpu ngpu devices device_map no_cuda",
     "a GPU is used where there is one; --use_cpu takes the CPU, CUDA_VISIBLE_DEVICES=0 one of several GPUs, and "
     "accelerate launch all of them"),
    ("cpu", "--use_cpu", "CUDA_VISIBLE_DEVICES= (empty) takes the CPU"),
    ("num_processes nproc nproc_per_node num_machines processes",
     "it is the launcher's: accelerate launch --num_processes 2 ftkit/sft.py ..."),
    ("fsdp2 zero zero3 deepspeed_config ds_config",
     "the launcher splits weights: accelerate launch --config_file examples/accelerate/fsdp2.yaml ftkit/sft.py ..."),
    ("workers num_workers dataloader_workers", "--dataloader_num_workers"),
    ("hub repo repo_id hub_id", "--hub_model_id"),
    ("push push_hub upload", "--push_to_hub"),
    ("token hf_token", "--hub_token"),
    ("num_labels classes labels class_list label_names", "--class_names"),
    ("beta2", "--adam_beta2"),
    ("dry dryrun dry_run", "--dry_run", "--plan"),
    ("tokens token_budget", "--max_tokens", "--max_new_tokens"),
    ("max_new max_tokens max_gen_len max_output_tokens new_tokens length n_predict num_predict", "--max_new_tokens"),
    ("temp t", "--temperature"),
    ("system_prompt sys instructions", "--system"),
    ("prompt p question query text", "--prompt", "--prompts"),
    ("n num_answers num_return", "--num_return_sequences", "--num_samples"),
    ("url base_url api_base server host", "--endpoint"),
    ("task benchmark benchmarks", "--tasks"),
    ("fewshot num_shots shots n_shot few_shot", "--num_fewshot"),
    ("lora_path adapter_path adapter_name_or_path peft_path lora_weights adapters", "--adapter"),
    ("conf cfg yaml config_file settings", "--config"),
    ("verbose quiet v q", "there is one way of printing; --disable_tqdm draws no bars"),
)  # fmt: skip
SAME = {  # one thing under two names, whichever is known
    "model": "model_name_or_path", "model_name_or_path": "model",
    "teacher": "teacher_model_name_or_path", "teacher_model_name_or_path": "teacher",
}  # fmt: skip


def canonical(word: str, names: Collection[str]) -> str:
    """The setting that a flag's word names where it is another name of one in `names`; else the word."""
    other = SAME.get(word, word)
    return other if word not in names and other in names else word


def right_flag(word: str, names: Iterable[str]) -> str:
    """Return `; did you mean --x?` for what a person typed, or `; ` and what else to do; empty where nothing is near.

    names: of the settings that the command has.
    """
    names = set(names) | {"help", "config"}
    names |= {other for name, other in SAME.items() if name in names}
    typed = word.lower().strip("-").replace("-", "_")
    for words, *meanings in MEANINGS:
        if typed in words.split():
            for meaning in meanings:
                if not meaning.startswith("--"):
                    return f"; {meaning}"
                if all(part[2:] in names for part in meaning.split() if part.startswith("--")):
                    return f"; did you mean {meaning}?"
    if typed in names:
        return f"; did you mean --{typed}?"
    nearest = difflib.get_close_matches(typed, names, n=1, cutoff=0.6)
    return f"; did you mean --{nearest[0]}?" if nearest else ""
