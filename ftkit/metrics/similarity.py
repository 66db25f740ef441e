"""How near an answer is to its reference in meaning: cosine of sentence embeddings by a local encoder.

EmbeddingSimilarity().compute(predictions=["Hi"], references=["Hello"], encoder="path/to/all-MiniLM-L6-v2")
"""

from ftkit.config.foreign import foreign
from ftkit.metrics.definition import TextMetric
from ftkit.metrics.text_match import mean

MAX_TOKENS = 256  # of a text, as all-MiniLM-L6-v2 was published
BATCH_SIZE = 32


class EmbeddingSimilarity(TextMetric):
    """Mean cosine, -1 to 1, between mean-pooled embeddings. encoder: folder or Hub id of a sentence encoder.

    A text without any token is like nothing: 0.
    """

    about = "Mean cosine between the sentence embeddings of predictions and references."
    loaded: tuple = None, None  # name of the encoder that was used last, and what `load_encoder` gave for it

    def score(self, predictions, references, encoder):
        """The mean over all items. Raises UserError where there is no such encoder."""
        if self.loaded[0] != encoder:
            self.loaded = encoder, load_encoder(encoder)
        one, other = (embed(texts, *self.loaded[1]) for texts in (predictions, references))
        return {"embedding_similarity": mean((one * other).sum(dim=1).tolist())}


def load_encoder(name: str) -> tuple:
    """Tokenizer and model of a sentence encoder. Raises UserError where there is none."""
    from transformers import AutoModel, AutoTokenizer

    with foreign(name, "no sentence encoder", "give the folder of one"):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        return tokenizer, AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=False).eval()


def embed(texts: list[str], tokenizer, model):
    """(number of texts, D) float32 on the unit sphere: token embeddings averaged, as sentence-transformers does."""
    import torch

    from ftkit.model.context import context_size

    max_length = min(MAX_TOKENS, context_size(model.config) or MAX_TOKENS, tokenizer.model_max_length)
    rows = []
    for start in range(0, len(texts), BATCH_SIZE):
        batch = list(texts[start : start + BATCH_SIZE])
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        if not inputs["input_ids"].numel():
            rows.append(torch.zeros(len(batch), model.config.hidden_size))
            continue
        with torch.inference_mode():
            hidden_BTD = model(**inputs).last_hidden_state.float()
        mask_BT1 = inputs["attention_mask"][..., None].float()
        rows.append((hidden_BTD * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1).clamp(min=1))
    return torch.nn.functional.normalize(torch.cat(rows), dim=1)
