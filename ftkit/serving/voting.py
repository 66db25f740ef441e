"""The app that collects votes: voting_app(ballot, "127.0.0.1")."""

from ftkit.evaluation.judge.ballot import Ballot
from ftkit.serving.app import local_app
from ftkit.serving.page import local_page


def voting_app(ballot: Ballot, host: str):
    """An app with the page and the routes of a ballot. host: that it listens at."""
    from ftkit.serving.routes.page import page_routes
    from ftkit.serving.routes.voting import voting_routes

    page = local_page("vote")
    return local_app([page_routes(page), voting_routes(ballot)], host=host, policy=page.policy)
