#!/usr/bin/env bash
# From a base model to one that follows instructions and preferences, as a .gguf file that llama.cpp and Ollama read.
set -euo pipefail
ftkit sft --config examples/sft_lora.yaml --model_name_or_path HuggingFaceTB/SmolLM2-135M-Instruct
ftkit dpo --adapter runs/sft-lora --dataset_name preferences --output_dir runs/sft-then-dpo
ftkit adapters merge runs/sft-then-dpo --output_dir runs/merged
ftkit export runs/merged --format gguf --quantization q8_0 --output_dir runs/gguf
