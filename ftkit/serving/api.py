"""The app of `ftkit serve`: serving_app(batcher, "127.0.0.1")."""

import time

from ftkit.serving.app import local_app


def serving_app(batcher, host: str):
    """An app with OpenAI's routes over a batcher. host: that it listens at."""
    from ftkit.serving.routes.chat import chat_routes
    from ftkit.serving.routes.models import model_routes

    return local_app([model_routes(batcher, int(time.time())), chat_routes(batcher)], host=host)
