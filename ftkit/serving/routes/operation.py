"""What whoever runs a server asks.

GET /health   200 while the engine answers, else 503
GET /metrics  counts in Prometheus' form
"""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from ftkit.serving.metrics import CONTENT_TYPE, Metrics
from ftkit.serving.refusals import error_body


def operation_routes(batcher: Any, metrics: Metrics | None = None) -> APIRouter:
    """The routes of one engine. metrics: None for no /metrics."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> JSONResponse:
        if batcher.is_alive:
            return JSONResponse({"status": "ok"})
        return JSONResponse(error_body("the engine has stopped; start the server again", "server_error"), 503)

    if metrics is not None:

        @router.get("/metrics")
        def counts() -> Response:
            return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router
