"""G5, on one GPU: packed documents kept apart, by each backend: how exactly, and how fast.

python tests/benchmarks/run.py --only G5
"""

import measuring
from measuring import Options

SHAPE = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 4, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 49_152, "max_position_embeddings": 8192,
}  # fmt: skip
QUICK = SHAPE | {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300,
    "num_key_value_heads": 2,
}  # fmt: skip
LENGTHS, QUICK_LENGTHS = [17, 130, 64, 401, 92, 250, 38, 1056] * 4, [17, 30, 9, 8]  # tokens of the documents of a block
UNMASKED = "sdpa, one document (no isolation)"


def report(key: str, options: Options) -> str:
    """The section's body."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    torch.manual_seed(measuring.SEED)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**(QUICK if options.quick else SHAPE)))
    ids = torch.randint(model.config.vocab_size, (1, sum(lengths)), device=device)
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])[None]
    cast = torch.autocast(device, torch.bfloat16)
    with torch.no_grad(), cast:
        alone = torch.cat([model(part, use_cache=False).logits for part in ids.split(lengths, dim=1)], dim=1).float()
    rows, times = [], {}
    for name, switch in backends(model).items():
        switch()
        given = {} if name == UNMASKED else {"position_ids": positions}

        def step(given=given):
            with cast:
                loss = model(ids, use_cache=False, **given).logits.float().square().mean()
            loss.backward()
            model.zero_grad(set_to_none=True)

        try:
            with torch.no_grad(), cast:
                logits = model(ids, use_cache=False, **given).logits.float()
            times |= measuring.alternate({name: step}, options.rounds, synchronize)
        except (RuntimeError, ImportError) as error:  # flex attention has no backward on a CPU
            rows.append([name, f"does not run here ({str(error).strip().split(chr(10))[0][:80]})", "", ""])
            continue
        moved = "" if name == UNMASKED else f"{((logits - alone).abs().max() / alone.abs().max()).item():.1e}"
        rows.append([name, moved, measuring.spread(times[name], 1e3, digits=1), share(times, name)])
    header = ["backend", "logits beside each document alone", "ms, forward and backward", "of the unmasked pass"]
    intro = (
        f"A Llama shape of 1.2B with {model.config.num_hidden_layers} layers, bf16 autocast, {len(lengths)} documents"
    )
    return f"{intro} in {sum(lengths):,} tokens; {options.rounds} rounds each.\n\n{measuring.table(header, rows)}"


def share(times: dict, name: str) -> str:
    """The ratio of a backend's time to that of the pass without a mask."""
    return "" if name == UNMASKED else measuring.paired_ratio(times[name], times[UNMASKED])


def backends(model) -> dict:
    """name -> what switches the model to it; the pass without a mask comes first, our own kernel last."""
    from transformers.utils import is_flash_attn_2_available

    from ftkit.model.fast.varlen_attention import has_varlen, use_varlen_attention

    found = {UNMASKED: lambda: None, "sdpa, mask": lambda: None}
    found["flex_attention"] = lambda: model.set_attn_implementation("flex_attention")
    if is_flash_attn_2_available():
        found["flash_attention_2"] = lambda: model.set_attn_implementation("flash_attention_2")
    if has_varlen():
        found["packed_varlen"] = lambda: (model.set_attn_implementation("sdpa"), use_varlen_attention(model))
    return found


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
