"""Bundled files are found from a checkout and from a wheel's layout; a wrong name gets the nearest."""

import pytest

from ftkit.config import assets
from ftkit.config.errors import UserError


def test_a_checkout_is_preferred(tmp_path, monkeypatch):
    package = tmp_path / "ftkit"
    (package / "assets/templates").mkdir(parents=True)
    (package / "assets/templates/wheel.jinja").write_text("")
    monkeypatch.setattr(assets, "PACKAGE", package)
    assert assets.list_assets("templates") == ["wheel"]
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/checkout.jinja").write_text("")
    assert assets.list_assets("templates") == ["wheel"]  # a folder of that name beside site-packages is no checkout
    (tmp_path / "pyproject.toml").write_text("")
    assert assets.list_assets("templates") == ["checkout"]


def test_an_unknown_template_names_the_nearest():
    with pytest.raises(UserError, match='no bundled template "alpacca.jinja"; did you mean "alpaca"'):
        assets.asset_path("templates", "alpacca.jinja")
