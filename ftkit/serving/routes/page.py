"""GET /: a page that needs nothing else."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from ftkit.serving.page import LocalPage


def page_routes(page: LocalPage) -> APIRouter:
    """The route of a page."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse)
    def shown() -> str:
        return page.html

    return router
