#!/usr/bin/env bash
# Two GPUs, one process each; an update sees the rows of both.
set -euo pipefail
accelerate launch --config_file examples/accelerate/ddp.yaml ftkit/sft.py --config examples/sft_lora.yaml \
  --model_name_or_path HuggingFaceTB/SmolLM2-1.7B-Instruct --output_dir runs/sft-two-gpus
