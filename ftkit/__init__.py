"""ftkit: fine-tune a GPT you can read, and prove every step."""

__version__ = "0.1.0"
