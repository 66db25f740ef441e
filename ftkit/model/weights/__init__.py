"""Weight formats: tables of names, FTGPT from and to other models, safetensors shards, .gguf files.

conversion.py  Moves weights between GPT-2, Llama or Qwen2 and FTGPT, both ways, bit for bit
gguf.py        Turns a .gguf file into a plain safetensors folder of the original class, with the tokenizer corrected
gguf_file.py   Reads a .gguf file
shards.py      Safetensors folders read and written tensor by tensor
tables.py      Which tensor and which setting of GPT-2, Llama, Qwen2 and GGUF is which
"""
