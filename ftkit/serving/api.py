"""The app of `ftkit serve`: serving_app(batcher, "127.0.0.1", keys=Keys("sk-...", None))."""

import time
from collections.abc import Sequence
from pathlib import Path

from ftkit.serving.app import local_app
from ftkit.serving.keys import Keys
from ftkit.serving.metrics import Metrics
from ftkit.serving.page import local_page

SECONDS = 600  # for one answer


def serving_app(
    batcher, host: str, *, keys: Keys | None = None, origins: Sequence[str] = (), seconds: float = SECONDS,
    sentence_model=None, registry: Path | None = None, allow_untrained: bool = False, retriever=None,
):  # fmt: skip
    """An app with OpenAI's routes over a batcher. host: that it listens at. keys, origins: see Guard. seconds: for one
    answer. sentence_model: of /v1/embeddings. registry: the folder that adapters may be loaded from while it runs;
    allow_untrained: those that change nothing yet as well. retriever: finds the passages that chats answer from.

    Raises UserError where a package is missing.
    """
    from ftkit.serving.routes.adapters import adapter_routes
    from ftkit.serving.routes.chat import chat_routes
    from ftkit.serving.routes.completions import completion_routes
    from ftkit.serving.routes.embeddings import embedding_routes
    from ftkit.serving.routes.models import model_routes
    from ftkit.serving.routes.operation import operation_routes
    from ftkit.serving.routes.page import page_routes
    from ftkit.serving.routes.rollouts import rollout_routes
    from ftkit.serving.routes.scores import score_routes
    from ftkit.serving.routes.tokens import token_routes

    metrics, page = Metrics(batcher), local_page("chat")
    routers = [
        page_routes(page), model_routes(batcher, int(time.time())), chat_routes(batcher, retriever),
        completion_routes(batcher), adapter_routes(batcher, registry, may_do_nothing=allow_untrained),
        token_routes(batcher), score_routes(batcher),
        embedding_routes(sentence_model), operation_routes(batcher, metrics),
        rollout_routes(batcher, takes_adapters=registry is not None and keys is not None and bool(keys.admin_key)),
    ]  # fmt: skip
    return local_app(
        routers, host=host, policy=page.policy, keys=keys, origins=origins, seconds=seconds, metrics=metrics
    )
