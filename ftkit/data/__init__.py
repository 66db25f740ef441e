"""Data: files and datasets read strictly, turned into messages, rendered by a template, tokenized and accounted for."""
