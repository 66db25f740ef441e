"""The batch receipt for people: rows token by token with the trained ones marked, and the counts in words.

print(format_receipt(receipt, color=sys.stdout.isatty()))
"""

import itertools
import re

from transformers import PreTrainedTokenizerBase

from ftkit.data.tokens.tokenization import IGNORE_INDEX

NUM_TOKENS_SHOWN = 300  # of each row shown
TRAINED_MARKS = ("⟦", "⟧")
TRAINED_COLORS = ("\x1b[1;32m", "\x1b[0m")
TOKEN_BORDER = "│"  # between two tokens
BORDER_COLORS = ("\x1b[2m", "\x1b[0m")
LINE_BREAK = "⏎"  # stands before a line break that is part of a token
REPLACEMENT = "\ufffd"  # what incomplete bytes of a character are decoded to
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


def token_spans(ids: list[int], labels: list[int], tokenizer: PreTrainedTokenizerBase) -> list[list]:
    """Return [text, trained] for each token; those that make up one character together are one.

    A row longer than NUM_TOKENS_SHOWN loses its middle: its end, where the answer is, stays.
    """
    half = NUM_TOKENS_SHOWN // 2
    if len(ids) <= NUM_TOKENS_SHOWN:
        return spans_of(ids, labels, tokenizer)
    middle = [f" … {len(ids) - 2 * half} tokens … ", False]
    return [
        *spans_of(ids[:half], labels[:half], tokenizer), middle, *spans_of(ids[-half:], labels[-half:], tokenizer)
    ]  # fmt: skip


def spans_of(ids: list[int], labels: list[int], tokenizer: PreTrainedTokenizerBase) -> list[list]:
    """Decode token by token, always from the row's start, which keeps the spaces some tokenizers drop in front."""
    spans, before, first = [], "", 0
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        is_last = end == len(ids) or (labels[end] == IGNORE_INDEX) != (labels[end - 1] == IGNORE_INDEX)
        if text.endswith(REPLACEMENT) and not is_last:
            continue
        piece = text[len(before) :] if text.startswith(before) else tokenizer.decode(ids[first:end])
        spans.append([piece, labels[end - 1] != IGNORE_INDEX])
        before, first = text, end
    return spans


def runs(ids: list[int], trained: list[bool], tokenizer: PreTrainedTokenizerBase) -> list[list]:
    """Return [text, trained] for each run of tokens that are all trained or all context."""
    borders = [index for index in range(1, len(ids)) if trained[index] != trained[index - 1]] + [len(ids)]
    spans, before, start = [], "", 0
    for end in borders:
        text = tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        piece = text[len(before) :] if text.startswith(before) else tokenizer.decode(ids[start:end])
        spans.append([piece, trained[start]])
        before, start = text, end
    return spans


def format_receipt(receipt: dict, color: bool = False) -> str:
    """Return the receipt as text. Trained tokens are green where `color` is set, else between ⟦ and ⟧."""
    share = receipt["num_trained_tokens"] / max(1, receipt["num_tokens"])
    lines = [
        f"rows            {receipt['num_rows']:,} read, {dropped_text(receipt['dropped'])}, "
        f"{receipt['num_sequences']:,} sequences",
        f"tokens          {receipt['num_trained_tokens']:,} trained ({share:.1%}), "
        f"{receipt['num_context_tokens']:,} context, {receipt['num_padding_tokens']:,} padding",
        f"truncation      {receipt['num_truncated_rows']:,} rows cut, {receipt['num_answers_cut']:,} answers cut, "
        f"{receipt['num_end_tokens_lost']:,} end tokens lost",
        f"end of turn     {printable(receipt['end_of_turn'])} (id {receipt['end_of_turn_id']}), "
        f"trained {receipt['num_end_tokens_trained']:,} times",
        f"template        {receipt['template']['name']}, answers found by {receipt['template']['trains_with']}",
        f"longest rows    {longest_text(receipt['longest_rows'])}",
    ]
    if "num_chosen_longer" in receipt:
        lines.append(
            f"pairs           chosen {receipt['mean_chosen_tokens']:.1f} tokens on average, rejected "
            f"{receipt['mean_rejected_tokens']:.1f}; chosen is longer in {receipt['num_chosen_longer']:,}, shorter in "
            f"{receipt['num_chosen_shorter']:,}"
        )
    if receipt["packed"]:
        lines.append(f"packing         {receipt['packing_efficiency']:.1%} of the sequences is filled")
    lines += warning_lines(receipt)
    for number, spans in enumerate(receipt["first_rows"], start=1):
        lines.append(f"--- row {number}, token by token, trained ones {'in green' if color else 'in ⟦ ⟧'}")
        lines.append(row_text(spans, color))
    return "\n".join(lines)


def dropped_text(dropped: dict[str, int]) -> str:
    """How many rows were left out, and why."""
    if not dropped:
        return "none dropped"
    return ", ".join(f"{number:,} dropped ({reason})" for reason, number in dropped.items())


def longest_text(rows: list[dict]) -> str:
    """The longest rows with their sources."""
    return ", ".join(f"{row['num_tokens']} tokens ({row['source']})" for row in rows)


def warning_lines(receipt: dict) -> list[str]:
    """What is not as it should be, or was changed on a person's behalf."""
    lines = []
    if receipt["num_neutralised_rows"]:
        lines.append(f"neutralised     {receipt['num_neutralised_rows']:,} rows held control tokens or headings")
    if receipt["num_control_text_rows"]:
        lines.append(f"control tokens  {receipt['num_control_text_rows']:,} plain-text rows hold and train some")
    if receipt["num_double_bos_rows"]:
        lines.append(
            f"double BOS      {receipt['num_double_bos_rows']:,} rows begin with two beginning-of-sequence tokens; "
            "take the one out of the text"
        )
    if receipt["num_unknown_tokens"]:
        lines.append(
            f"unknown tokens  {receipt['num_unknown_tokens']:,} ({receipt['unknown_token_rate']:.2%}): the vocabulary "
            "lacks some of the text"
        )
    if receipt["num_test_copies"]:
        named = ", ".join(f"{copy['test']} is {copy['train']}" for copy in receipt["test_copies"])
        more = ", ..." if receipt["num_test_copies"] > len(receipt["test_copies"]) else ""
        lines.append(
            f"copies          {receipt['num_test_copies']:,} test rows are training rows too, so they measure nothing: "
            f"{named}{more}"
        )
    return lines


def row_text(spans: list[list], color: bool) -> str:
    """The tokens of a row with a border between them; a run of trained ones is marked as a whole."""
    opening, closing = TRAINED_COLORS if color else TRAINED_MARKS
    dim, bright = BORDER_COLORS if color else ("", "")
    border = f"{dim}{TOKEN_BORDER}{bright}"
    parts = []
    for trained, tokens in itertools.groupby(spans, key=lambda span: span[1]):
        texts = [printable(text).replace("\n", f"{LINE_BREAK}\n") for text, _ in tokens]
        if trained and color:
            parts.append(border.join(f"{opening}{text}{closing}" for text in texts))
        else:
            joined = border.join(texts)
            parts.append(f"{opening}{joined}{closing}" if trained else joined)
    return "".join(parts)


def printable(text: str) -> str:
    """Text in which control characters, which a terminal would obey, are shown as escapes."""
    return CONTROL_CHARACTER.sub(lambda match: repr(match.group())[1:-1], text)


def format_classification_receipt(receipt: dict, color: bool = False) -> str:
    """The receipt as text. The label of a row shown is green where `color` is set, else between ⟦ and ⟧."""
    lengths, num_rows = receipt["tokens_a_text"], receipt["num_rows"]
    classes = [
        f"{name} {entry['num_rows']:,} ({entry['share']:.1%}"
        + (f", weight {entry['weight']:.3g})" if entry["weight"] != 1 else ")")
        for name, entry in receipt["classes"].items()
    ]
    medians = [f"{name} {entry['median_tokens']:.0f}" for name, entry in receipt["classes"].items()]
    lines = [
        f"rows            {num_rows:,} to train, {receipt['num_validation_rows']:,} to validate, "
        f"{receipt['num_test_rows']:,} to test",
        f"classes         {', '.join(classes)}",
        f"tokens per text {lengths['least']:.0f} to {lengths['most']:.0f}, mean {lengths['mean']:.1f}, median "
        f"{lengths['median']:.0f}, 90 % have at most {lengths['p90']:.0f}, 99 % {lengths['p99']:.0f}; medians: "
        f"{', '.join(medians)}",
        f"truncation      {receipt['num_truncated_rows']:,} of {num_rows:,} texts lose their end at "
        f"{receipt['max_length']} tokens, {receipt['num_tokens_cut']:,} tokens in all",
        f"copies          {receipt['num_copied_texts']:,} training texts came before, "
        f"{receipt['num_conflicting_texts']:,} of them with another label; {receipt['num_held_out_copies']:,} held-out "
        "rows are training rows too",
    ]
    opening, closing = TRAINED_COLORS if color else TRAINED_MARKS
    for number, row in enumerate(receipt["first_rows"], start=1):
        (text, _), (label, _) = row
        lines += [f"--- row {number}", f"{printable(text)}{opening}{label}{closing}"]
    return "\n".join(lines)
