"""One file a trainer: the thin subclass of TRL's or transformers' trainer."""
