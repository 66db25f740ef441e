"""The losses of `ftkit embed`, all sentence-transformers' own."""

from torch import nn

from ftkit.config.errors import UserError
from ftkit.config.settings.embed import TRIPLET


def build_loss(encoder, training) -> nn.Module:
    """The loss that --loss_type, --mini_batch_size and --matryoshka_dims ask for, on an encoder.

    Raises UserError for dimensions that are longer than its vectors.
    """
    from sentence_transformers.sentence_transformer import losses

    if training.loss_type == TRIPLET:
        loss = losses.TripletLoss(
            encoder, distance_metric=losses.TripletDistanceMetric.COSINE, triplet_margin=training.triplet_margin
        )
    elif training.mini_batch_size:
        loss = losses.CachedMultipleNegativesRankingLoss(
            encoder, scale=training.scale, mini_batch_size=training.mini_batch_size
        )
    else:
        loss = losses.MultipleNegativesRankingLoss(encoder, scale=training.scale)
    if not training.matryoshka_dims:
        return loss
    width, dims = encoder.get_embedding_dimension(), training.matryoshka_dims
    if max(dims) > width:
        raise UserError(f"--matryoshka_dims {max(dims)}: the vectors of this encoder have {width} numbers; give fewer")
    return losses.MatryoshkaLoss(encoder, loss, matryoshka_dims=sorted({width, *dims}, reverse=True))


def loss_text(training) -> str:
    """The loss in words, for the plan."""
    if training.loss_type == TRIPLET:
        text = f"max(0, similarity to the negative - to the positive + {training.triplet_margin:g})"
    else:
        text = f"-log softmax of {training.scale:g} x similarity, of the own passage among those of the batch"
        text += f", {training.mini_batch_size} in memory at once" * bool(training.mini_batch_size)
    dims = training.matryoshka_dims
    return text + (f"; also of vectors cut to {', '.join(map(str, sorted(dims, reverse=True)))}" if dims else "")
