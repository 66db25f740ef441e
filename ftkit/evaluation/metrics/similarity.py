"""How near an answer is to its reference in meaning: cosine of sentence embeddings by a local encoder.

EmbeddingSimilarity().compute(predictions=["Hi"], references=["Hello"], encoder="path/to/all-MiniLM-L6-v2")
"""

from functools import lru_cache

import evaluate

from ftkit.config.errors import UserError
from ftkit.evaluation.metrics.definition import check_items, text_metric_info
from ftkit.evaluation.metrics.text_match import mean

MAX_TOKENS = 256  # of a text, as all-MiniLM-L6-v2 was published
BATCH_SIZE = 32


class EmbeddingSimilarity(evaluate.Metric):
    """Mean cosine, -1 to 1, between mean-pooled embeddings. encoder: folder or Hub id of a sentence encoder."""

    def _info(self):
        return text_metric_info("Mean cosine between the sentence embeddings of predictions and references.")

    def _compute(self, predictions, references, encoder):
        check_items(predictions, references)
        one, other = (embed(texts, encoder) for texts in (predictions, references))
        return {"embedding_similarity": mean((one * other).sum(dim=1).tolist())}


@lru_cache(maxsize=1)
def load_encoder(name: str) -> tuple:
    """Tokenizer and model of a sentence encoder. Raises UserError where there is none."""
    from transformers import AutoModel, AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: no sentence encoder ({reason}); give the folder of one") from error


def embed(texts: list[str], encoder: str):
    """(number of texts, D) float32 on the unit sphere: token embeddings averaged, as sentence-transformers does."""
    import torch

    tokenizer, model = load_encoder(encoder)
    rows = []
    for start in range(0, len(texts), BATCH_SIZE):
        batch = list(texts[start : start + BATCH_SIZE])
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            hidden_BTD = model(**inputs).last_hidden_state.float()
        mask_BT1 = inputs["attention_mask"][..., None].float()
        rows.append((hidden_BTD * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1).clamp(min=1))
    return torch.nn.functional.normalize(torch.cat(rows), dim=1)
