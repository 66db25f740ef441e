"""Weight formats: tables of names, FTGPT from and to other models, safetensors shards, .gguf files."""
