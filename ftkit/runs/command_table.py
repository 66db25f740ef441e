"""The commands by name, with the modules that are imported when one is asked for."""

from ftkit.runs.recipes import TRAINERS

# The groups of `ftkit --help`; each command is in one.
GROUPS = {
    "train": ("try", "sft", "dpo", "kto", "reward", "grpo", "ppo", "distill", "classify", "embed", "pretrain"),
    "data": ("data", "synth", "index", "tokenizer"),
    "ask": ("generate", "chat", "serve"),
    "measure": ("bakeoff", "bench", "compare", "judge", "arena", "check"),
    "models": ("import", "adapters", "export", "push"),
    "shell": ("completion",),
}
# name: (module with main(argv), what it does)
COMMANDS = {
    "try": ("ftkit.commands.demo", "fine-tune on bundled or your own rows, and see before and after"),
    "sft": TRAINERS["sft"],
    "dpo": TRAINERS["dpo"],
    "kto": TRAINERS["kto"],
    "reward": TRAINERS["reward"],
    "grpo": TRAINERS["grpo"],
    "ppo": TRAINERS["ppo"],
    "distill": TRAINERS["distill"],
    "classify": TRAINERS["classify"],
    "embed": TRAINERS["embed"],
    "import": ("ftkit.commands.import_", "bring a GPT of your own: the book's, nanoGPT's or llama2.c's weights"),
    "data": ("ftkit.commands.data.data", "check, show, convert, clean, split and compare rows"),
    "index": ("ftkit.commands.index", "make documents searchable, for chat, generate and serve --index"),
    "pretrain": TRAINERS["pretrain"],
    "synth": (
        "ftkit.commands.synth",
        "let a model write rows: tasks, questions from documents, solutions, pairs, RAFT",
    ),
    "tokenizer": ("ftkit.commands.tokenizer", "train a byte-level BPE tokenizer, or take GPT-2's"),
    "generate": ("ftkit.commands.generate", "answer prompts, from the command line or a file"),
    "chat": ("ftkit.commands.chat", "talk to a model, or to adapters that you swap"),
    "serve": ("ftkit.commands.serve", "answer OpenAI's clients: one base, many adapters, swapped while it runs"),
    "bakeoff": ("ftkit.commands.bakeoff", "prompt, few-shot, retrieval, LoRA, ... on your rows: which one to take"),
    "bench": ("ftkit.commands.bench", "benchmark a model: multiple choice, generation, perplexity; resumes by itself"),
    "compare": ("ftkit.commands.compare", "the verdict: did it get better, and what did it forget"),
    "judge": ("ftkit.commands.judge", "let a model judge answers: scores, or pairs in both orders"),
    "arena": ("ftkit.commands.arena", "rank models from votes, and turn votes into training rows"),
    "adapters": ("ftkit.commands.adapters.adapters", "list, inspect and merge adapters"),
    "export": ("ftkit.commands.export", "plain folder, .gguf or Ollama model for other engines, proven equal"),
    "check": ("ftkit.commands.check", "kill a short piece of a run, and see that it goes on, bit for bit"),
    "completion": ("ftkit.commands.completion", "complete command lines in bash, zsh or fish"),
    "push": ("ftkit.commands.push", "publish a run or an export on the Hub, by an allow-list"),
}
