"""The learning receipt of a run (`ftkit.training.learning_receipt`) in words."""

from ftkit.config.amounts import percent


def learning_lines(receipt: dict) -> list[tuple[str, str]]:
    """(label, text) for a person."""
    k = str(receipt["num_generations"])
    at = receipt["pass_at"]
    several = f", pass@{k} {percent(at[k])}" if k != "1" else ""
    missing = f"; {percent(receipt['share_missing'])} have no reward" if receipt["share_missing"] else ""
    lines = [
        (
            "sampled",
            f"{receipt['num_prompts']} prompts, {k} answers each, {receipt['mean_tokens']:.1f} tokens on average",
        ),
        ("reward", f"{receipt['mean_reward']:.4g} on average, the highest {receipt['highest_reward']:.4g}{missing}"),
        ("pass@1", f"{percent(at['1'])}{several} (answers with the highest reward)"),
        ("spread", f"{percent(receipt['share_with_spread'])} of the groups have rewards that differ, and can teach"),
        ("cut", f"{percent(receipt['share_cut'])} of the answers reach the limit of their length"),
    ]
    for one in receipt["answers"]:
        reward = "none" if one["reward"] is None else f"{one['reward']:.3g}"
        end = "" if one["is_ended"] else " (cut)"
        lines.append(("answer", f"reward {reward}: {brief(one['prompt'])} -> {brief(one['text']) or '(empty)'}{end}"))
    return lines


def brief(text: str, limit: int = 70) -> str:
    """A text on one line, cut."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
