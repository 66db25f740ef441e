#!/usr/bin/env bash
# Two processes on CPUs, which share this machine's cores; `accelerate launch --cpu --num_processes 2` would start one.
set -euo pipefail
accelerate launch --config_file examples/accelerate/ddp.yaml ftkit/sft.py --config examples/sft_lora.yaml \
  --model_name_or_path HuggingFaceTB/SmolLM2-135M-Instruct --output_dir runs/sft-two-processes --use_cpu
