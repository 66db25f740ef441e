"""Weight formats: tables of names, FTGPT from and to other models, safetensors shards, .gguf files.

checkpoint_file.py  Weights as a training script saved them
conversion.py  Moves weights between GPT-2, Llama or Qwen2 and FTGPT, both ways, bit for bit
from_scratch.py  GPTs as people write and save them
gguf.py        Turns a .gguf file into a plain safetensors folder of the original class, with the tokenizer corrected
gguf_file.py   Reads a .gguf file
mixing.py      Whole models of one architecture mixed into one
plain_forward.py  The forward pass of GPTs that people write, by their own formulas and tensor names
shards.py      Safetensors folders read and written tensor by tensor
ternary.py     Models of 1.58 bits
tables.py      Which tensor and which setting of GPT-2, Llama, Qwen2 and GGUF is which
"""
