"""Rows for an embedding model: texts that belong together, and texts that are near and do not.

    pairs       {"anchor", "positive"}: a question and the passage that answers it, or two texts of one meaning
    triplets    {"anchor", "positive", "negative"}: with a text, or a list of them, that does not belong
    passages    {"question", "passage"[, "negative"]}: as `ftkit synth` writes them

Other names are known (query, document, sentence1, sentence2, ...), see `known_names`. Every mistake is a UserError
`file:line: reason; fix`.
"""

from ftkit.config.errors import UserError
from ftkit.data.rows.columns import RowKind
from ftkit.data.rows.formats import checked_text

PAIR_FORMATS = {
    "passages": (("question", "passage"), ("negative",)),
    "triplets": (("anchor", "positive", "negative"), ()),
    "pairs": (("anchor", "positive"), ()),
}


def to_text_pair(values: dict, format: str, where: str) -> dict:
    """Return {"anchor": str, "positive": str, "negatives": list of str}.

    Raises UserError for texts that are null, blank or no text, and for two that are the same.
    """
    first, second, *_ = PAIR_FORMATS[format][0]
    anchor, positive = checked_text(values[first], first, where), checked_text(values[second], second, where)
    if anchor == positive:
        raise UserError(f"{where}: {first} and {second} are the same text, which teaches nothing; delete the row")
    negatives = values.get("negative")
    negatives = [] if negatives in (None, "", []) else negatives if isinstance(negatives, list) else [negatives]
    negatives = [checked_text(text, "negative", where) for text in negatives]
    if format == "triplets" and not negatives:
        raise UserError(f'{where}: "negative" is empty; fill it in, or leave the column out of every row')
    if same := next((text for text in negatives if text in (anchor, positive)), None):
        raise UserError(f'{where}: "negative" repeats {first if same == anchor else second}; give another text')
    return {"anchor": anchor, "positive": positive, "negatives": negatives}


TEXT_PAIRS = RowKind(PAIR_FORMATS, to_text_pair)
