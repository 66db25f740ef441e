"""The batch receipt for people: the counts in words, and a typical row with its trained tokens marked.

print(format_receipt(receipt, color=has_color(sys.stdout)))
rows = receipt_lines(receipt)    # [("rows", "46 read, none dropped, none cut"), ...], of any trainer's receipt
"""

import itertools
from collections import defaultdict
from operator import itemgetter
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ftkit.config.amounts import counted, percent
from ftkit.config.terminal import printable, styled
from ftkit.data.tokens.learning_text import learning_lines
from ftkit.data.tokens.tokenization import IGNORE_INDEX

NUM_TOKENS_SHOWN = 300  # of each row in the receipt
NUM_LONGEST_SHOWN = 3
TRAINED_MARKS = ("⟦", "⟧")
LINE_BREAK = "⏎"  # stands for a line break in a row that is printed on one line
REPLACEMENT = "\ufffd"  # what incomplete bytes of a character are decoded to
CONTEXT_ENDS, TRAINED_ENDS = (40, 110), (200, 80)  # characters of a long piece that are printed: first and last ones
NUM_PIECES = 5  # of a row that are printed, the last ones


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
    """The receipt as text with its most typical row. Trained tokens are green where `color` is set, else in ⟦ ⟧."""
    lines = [f"{label:<11}{text}" for label, text in receipt_lines(receipt)]
    shown = receipt["typical_rows"][: 2 if "num_chosen_longer" in receipt else 1]
    done = "scored" if receipt.get("is_scored") else "trained"
    mark = f"; {done} text is green" if color else f"; {done} text stands in ⟦ ⟧"
    for row in shown:
        lines += [f"{'row':<11}{row_title(row)}{mark}", f"  {row_text(row['tokens'], color)}"]
        mark = ""
    return "\n".join(lines)


def row_title(row: dict) -> str:
    """Where a row is from, and how long it is."""
    source = short_source(row["source"]) if row["source"] else "one of the stream"
    return f"{source}, {counted(row['num_tokens'], 'token')}"


def receipt_lines(receipt: dict) -> list[tuple[str, str]]:
    """What a receipt of any trainer says, as (label, text); counts that are missing or 0 are left out."""
    found = defaultdict(int, receipt)
    lines = class_lines(found) if "classes" in receipt else text_pair_lines(found) if "texts" in receipt else []
    lines += document_lines(found) if "num_documents" in receipt else []
    lines = lines or (sequence_lines(found) if "num_rows" in receipt else [])
    return lines + (learning_lines(receipt["learning"]) if receipt.get("learning") else [])


def sequence_lines(receipt: dict) -> list[tuple[str, str]]:
    """Of conversations, text and pairs."""
    lines = [("rows", f"{receipt['num_rows']:,} read, {dropped_text(receipt['dropped'])}, {cut_text(receipt)}")]
    if receipt["num_tokens"]:
        share = percent(receipt["num_trained_tokens"] / receipt["num_tokens"])
        padding = f", {receipt['num_padding_tokens']:,} padding" if receipt["num_padding_tokens"] else ""
        done = "scored" if receipt["is_scored"] else "trained"
        trained = f"{receipt['num_trained_tokens']:,} {done} ({share}), {receipt['num_context_tokens']:,} context"
        lines.append(("tokens", f"{trained}{padding} per pass; {receipt['mean_tokens']:.0f} per row on average"))
    if receipt["num_thoughts"]:
        number, tokens = receipt["num_thoughts"], receipt["num_thought_tokens"]
        answers = f"{counted(number, 'answer')} {'thinks' if number == 1 else 'think'}"
        lines.append(("thoughts", f"{answers} first: {tokens:,} of the trained tokens"))
    if receipt["num_calls"] or receipt["num_results"]:
        done = "scored" if receipt["is_scored"] else "trained"
        calls, results = counted(receipt["num_calls"], "call"), counted(receipt["num_results"], "result")
        lines.append(("tools", f"{calls} {done}, {results} not"))
    if receipt["num_parts"]:
        parts = f"{counted(receipt['num_parts'], 'sequence')}, one per answer"
        lines.append(("unfolded", f"{parts}: the template renders earlier answers differently"))
    if receipt["run"]:
        lines.append(("scored" if receipt["is_scored"] else "trained", run_text(receipt["run"])))
    if receipt["packed"]:
        filled = percent(receipt["packing_efficiency"])
        lines.append(("packing", f"{counted(receipt['num_sequences'], 'sequence')}, of which {filled} is filled"))
    if receipt["num_chosen_longer"] or receipt["num_chosen_shorter"]:
        lines.append(("pairs", pairs_text(receipt)))
    if receipt["num_wanted"] or receipt["num_unwanted"]:
        lines.append(("answers", labelled_text(receipt)))
    if receipt["end_of_turn"]:
        times = counted(receipt["num_end_tokens_trained"], "time")
        done = "scored" if receipt["is_scored"] else "trained"
        lines.append(("end token", f"{printable(receipt['end_of_turn'])}, {done} {times}"))
    if receipt["template"]:
        template = receipt["template"]
        by = f", answers found by {template['trains_with']}" if "trains_with" in template else ""
        lines.append(("template", f"{template['name']}{by}"))
    return [*lines, *longest_line(receipt), *warning_lines(receipt)]


def run_text(run: dict) -> str:
    """What all batches of a run held."""
    return f"{run['num_trained_tokens']:,} of {run['num_tokens']:,} tokens, all passes together"


def pairs_text(receipt: dict) -> str:
    """Lengths of chosen and rejected answers: a model may learn no more than to be brief, or wordy."""
    means = (receipt[f"mean_{name}_tokens"] for name in ("chosen", "rejected"))
    lengths = "chosen {:.1f} tokens on average, rejected {:.1f}".format(*means)
    return (
        f"{lengths}; chosen is longer in {receipt['num_chosen_longer']:,}, shorter in {receipt['num_chosen_shorter']:,}"
    )


def labelled_text(receipt: dict) -> str:
    """How many answers are wanted and unwanted, and their lengths."""
    parts = [(receipt[f"num_{name}"], name, receipt[f"mean_{name}_tokens"]) for name in ("wanted", "unwanted")]
    return ", ".join(f"{number:,} {name} ({mean:.1f} tokens on average)" for number, name, mean in parts if number)


def dropped_text(dropped: dict[str, int] | int) -> str:
    """How many rows were left out, and why."""
    if not dropped:
        return "none dropped"
    return ", ".join(f"{number:,} dropped ({reason})" for reason, number in dropped.items())


def cut_text(receipt: dict) -> str:
    """How many rows lost their end, and what that did to the answers."""
    if not receipt["num_truncated_rows"]:
        return "none cut"
    answers, ends = receipt["num_answers_cut"], receipt["num_end_tokens_lost"]
    lost = [f"{counted(answers, 'answer')} lost words"] if answers else []
    lost += [f"{counted(ends, 'end token')} lost"] if ends else []
    return f"{receipt['num_truncated_rows']:,} cut" + (f" ({', '.join(lost)})" if lost else "")


def longest_line(receipt: dict) -> list[tuple[str, str]]:
    """The longest rows with their sources."""
    rows = (receipt["longest_rows"] or [])[:NUM_LONGEST_SHOWN]
    named = [f"{row['num_tokens']:,} tokens ({short_source(row.get('source') or 'row')})" for row in rows]
    return [("longest", ", ".join(named))] if named else []


def short_source(source: str) -> str:
    """file:line, of an absolute path its last two parts."""
    path = Path(source)
    return "/".join(path.parts[-2:]) if path.is_absolute() else source


def warning_lines(receipt: dict) -> list[tuple[str, str]]:
    """What is not as it should be, or was changed on a person's behalf."""
    lines = []
    if receipt.get("num_untrained_answers"):
        answers = counted(receipt["num_untrained_answers"], "answer")
        lines.append(("untrained", f"{answers}, marked by weight 0 or held in a prompt"))
    if receipt.get("num_altered_answers"):
        answers = counted(receipt["num_altered_answers"], "answer")
        lines.append(("altered", f"{answers} not trained as written: the template cuts an indent or a thought"))
    if receipt["num_neutralised_rows"]:
        rows = counted(receipt["num_neutralised_rows"], "row")
        lines.append(("escaped", f"{rows} held control tokens or headings, which were neutralised"))
    if receipt["num_control_text_rows"]:
        rows = counted(receipt["num_control_text_rows"], "plain-text row")
        lines.append(("controls", f"{rows} with control tokens, which are trained as they are"))
    if receipt["num_double_bos_rows"]:
        rows = counted(receipt["num_double_bos_rows"], "row")
        lines.append(
            ("double BOS", f"{rows} with two beginning-of-sequence tokens in front; take the one out of the text")
        )
    if receipt["num_unknown_tokens"]:
        tokens = f"{counted(receipt['num_unknown_tokens'], 'token')} ({receipt['unknown_token_rate']:.2%})"
        lines.append(("unknown", f"{tokens}: the vocabulary lacks some of the text"))
    if receipt["num_test_copies"]:
        copies = receipt["test_copies"] or []
        named = ", ".join(f"{short_source(copy['test'])} is {short_source(copy['train'])}" for copy in copies)
        more = ", ..." if receipt["num_test_copies"] > len(copies) else ""
        rows = counted(receipt["num_test_copies"], "test row")
        lines.append(("copies", f"{rows} are also training rows and measure nothing: {named}{more}"))
    return lines


def class_lines(receipt: dict) -> list[tuple[str, str]]:
    """Of labelled texts."""
    lengths, num_rows = receipt["tokens_a_text"], receipt["num_rows"]
    classes = [
        f"{name} {entry['num_rows']:,} ({percent(entry['share'])}"
        + (f", weight {entry['weight']:.3g})" if entry["weight"] != 1 else ")")
        for name, entry in receipt["classes"].items()
    ]
    medians = [
        f"{name} {entry['median_tokens']:.0f}"
        for name, entry in receipt["classes"].items()
        if entry["median_tokens"] is not None
    ]
    held_out = {"to validate": receipt["num_validation_rows"], "to test": receipt["num_test_rows"]}
    rows = [f"{num_rows:,} to train", *(f"{number:,} {what}" for what, number in held_out.items() if number)]
    lines = [
        ("rows", ", ".join(rows)),
        ("classes", ", ".join(classes)),
        (
            "tokens",
            f"{lengths['least']:.0f} to {lengths['most']:.0f} per text, mean {lengths['mean']:.1f}, 99 % have at most "
            f"{lengths['p99']:.0f}; medians: {', '.join(medians)}",
        ),
    ]
    if receipt["num_truncated_rows"]:
        at = f"at {receipt['max_length']} tokens, {counted(receipt['num_tokens_cut'], 'token')} in all"
        lines.append(("cut", f"{receipt['num_truncated_rows']:,} of {num_rows:,} texts lose their end {at}"))
    if receipt["num_copied_texts"]:
        others = f"{receipt['num_conflicting_texts']:,} of them with a different label"
        lines.append(("copies", f"{counted(receipt['num_copied_texts'], 'training text')} came before, {others}"))
    if receipt["num_held_out_copies"]:
        rows = counted(receipt["num_held_out_copies"], "held-out row")
        lines.append(("copies", f"{rows} are also training rows and measure nothing"))
    return [*lines, *longest_line(receipt)]


def text_pair_lines(receipt: dict) -> list[tuple[str, str]]:
    """Of pairs of texts for an embedding model."""
    num_rows, mined = receipt["num_rows"], receipt["mined"]
    each = "" if not receipt["num_negatives"] else f", each with {counted(receipt['num_negatives'], 'negative')}"
    lines = [("pairs", f"{num_rows:,} to train{each}")]
    for name, about in receipt["texts"].items():
        lengths = about["tokens"]
        text = f"{lengths['least']:.0f} to {lengths['most']:.0f} tokens, mean {lengths['mean']:.1f}"
        if about["num_truncated"]:
            text += f"; {counted(about['num_truncated'], 'text')} cut at {receipt['max_length']}"
        lines.append((f"{name}s", f"{text}; 99 % have at most {lengths['p99']:.0f}"))
    if mined:
        filled = f", {mined['num_filled']:,} of them at random, as nothing near was left" * bool(mined["num_filled"])
        lines.append(("mined", f"{mined['num_negatives']:,} negatives from {mined['source']}{filled}"))
    if receipt["num_unused_negatives"]:
        lines.append(("not used", f"{counted(receipt['num_unused_negatives'], 'negative')}: other rows have fewer"))
    if same := [
        f"{receipt[f'num_repeated_{name}s']:,} {name}s came before"
        for name in ("anchor", "positive")
        if receipt[f"num_repeated_{name}s"]
    ]:
        false = counted(receipt["num_false_negatives"], "row")
        lines.append(("repeated", f"{', '.join(same)}; kept apart, but for {false} in one batch with an equal text"))
    return [*lines, *longest_line(receipt), *warning_lines(receipt)]


def document_lines(receipt: dict) -> list[tuple[str, str]]:
    """Of raw text in blocks."""
    size = f"{receipt['num_bytes'] / 1e6:.2f} MB, {receipt['bytes_per_token']:.2f} bytes per token"
    blocks = f"blocks of {receipt['block_size']} tokens"
    blocks = f"{receipt['num_blocks']:,} {blocks}" if receipt["num_blocks"] else f"a stream of {blocks}"
    sees = "documents in one block see each other" if receipt["documents_see_each_other"] else "documents are isolated"
    lines = [
        ("text", f"{counted(receipt['num_documents'], 'document')} ({receipt['counted']}), {size}"),
        ("tokens", f"{receipt['num_tokens']:,}; {blocks}; {sees}"),
    ]
    if receipt["num_held_out_documents"]:
        held_out = f"{receipt['num_held_out_bytes'] / 1e6:.2f} MB, {counted(receipt['num_held_out_blocks'], 'block')}"
        lines.append(("held out", f"{counted(receipt['num_held_out_documents'], 'document')}, {held_out}"))
    return [*lines, ("end token", f"{printable(str(receipt['end_of_document']))} after each document")]


def row_text(spans: list[list], color: bool = False) -> str:
    """The end of a row on one line: trained text marked, long pieces without their middle."""
    groups = itertools.groupby(spans, itemgetter(1))
    pieces = [("".join(text for text, _ in group), trained) for trained, group in groups]
    parts = ["… "] if len(pieces) > NUM_PIECES else []
    for text, trained in pieces[-NUM_PIECES:]:
        first, last = TRAINED_ENDS if trained else CONTEXT_ENDS
        text = printable(text).replace("\n", LINE_BREAK)
        text = text if len(text) <= first + last else f"{text[:first]} … {text[-last:]}"
        parts.append(marked(text, color) if trained else text)
    return "".join(parts)


def marked(text: str, color: bool) -> str:
    """Trained text: green in colour, else between marks."""
    return styled(text, "green", True) if color else text.join(TRAINED_MARKS)
