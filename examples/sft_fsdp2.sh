#!/usr/bin/env bash
# All weights of a model that is too large for one GPU: parameters, gradients and optimizer state are sharded over two.
set -euo pipefail
accelerate launch --config_file examples/accelerate/fsdp2.yaml ftkit/sft.py --dataset_name instructions --template chatml \
  --model_name_or_path HuggingFaceTB/SmolLM2-1.7B-Instruct --output_dir runs/sft-fsdp2
