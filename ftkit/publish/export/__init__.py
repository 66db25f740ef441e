"""Other engines' formats, each read back and compared.

certificate.py     How far exported weights moved from their source
export.py          Exports a model as a plain folder, a .gguf file or an Ollama model, each read back and compared
gguf.py            Writes a GPT-2, Llama or Qwen2 folder as one .gguf file, tokenizer and chat template inside
gguf_adapter.py    Writes a LoRA adapter as a .gguf file of its own
gguf_tokenizer.py  A tokenizer and its chat template as GGUF metadata
ollama.py          Ollama's Modelfile for an exported .gguf
"""
