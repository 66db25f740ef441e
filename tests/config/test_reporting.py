"""--report_to: what is not there is refused in one line before anything is read."""

import importlib.util

import pytest

from ftkit.config import reporting
from ftkit.config.errors import UserError
from ftkit.config.reporting import PACKAGES, check_report_to

REPORTERS = ("tensorboard", "trackio", "wandb")


@pytest.fixture
def installed(monkeypatch):
    """A set of modules that can be found; none at first."""
    found = set()
    monkeypatch.setattr(reporting, "is_installed", lambda module: module in found)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    return found


def test_the_names_are_those_of_transformers():
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(PACKAGES) == set(INTEGRATION_TO_CALLBACK)


@pytest.mark.parametrize("names", [None, "none", "all", [], ["none"], ["all"], "kubeflow"])
def test_what_needs_no_package_passes(names, installed):
    check_report_to(names)


@pytest.mark.parametrize("name", REPORTERS)
def test_a_package_that_is_missing_is_named(name, installed):
    expected = f"--report_to {name}: the package is not installed; pip install {name}, or --report_to none"
    for names in (name, [name]):
        with pytest.raises(UserError) as error:
            check_report_to(names)
        assert str(error.value) == expected
    installed.add(name)
    check_report_to(name, {"WANDB_MODE": "offline"})


def test_tensorboard_may_be_tensorboardx(installed):
    installed.add("tensorboardX")
    check_report_to(["tensorboard"])


@pytest.mark.parametrize("names", ["tensorbord", ["tensorbord"], ["none", "tensorboard"]])
def test_a_name_that_is_none_is_refused(names, installed):
    with pytest.raises(UserError, match=r'--report_to: unknown "(tensorbord|none)"; known: none, all, azure_ml'):
        check_report_to(names)
    with pytest.raises(UserError, match='did you mean "tensorboard"'):
        check_report_to("tensorbord")


def test_wandb_needs_a_login_where_nobody_can_be_asked(installed, tmp_path, monkeypatch):
    installed.add("wandb")
    logins = tmp_path / "netrc"
    environ = {"NETRC": str(logins)}
    logged_out = r"--report_to wandb: nobody is logged in; run wandb login, or set WANDB_API_KEY or WANDB_MODE=offline"
    for text in (None, "", "machine example.org login a password b\n", "nonsense"):
        if text is not None:
            logins.write_text(text)
        with pytest.raises(UserError, match=logged_out):
            check_report_to("wandb", environ)
    check_report_to("wandb", {**environ, "WANDB_API_KEY": "k"})
    check_report_to("wandb", {**environ, "WANDB_MODE": "disabled"})
    logins.write_text("machine api.wandb.ai login user password key\n")
    check_report_to("wandb", environ)
    logins.write_text("")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    check_report_to("wandb", environ)


@pytest.mark.parametrize("name", REPORTERS)
def test_what_is_installed_writes_an_update(name, tmp_path, monkeypatch):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs: pip install {name}")
    import torch
    from transformers import Trainer, TrainingArguments

    monkeypatch.chdir(tmp_path)
    for variable, value in {"WANDB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "trackio")}.items():
        monkeypatch.setenv(variable, value)
    check_report_to(name)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return {"loss": (self.weight * x).sum()}

    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"), report_to=name, max_steps=1, logging_steps=1, use_cpu=True, save_strategy="no",
        disable_tqdm=True,
    )  # fmt: skip
    Trainer(Model(), arguments, train_dataset=[{"x": torch.ones(1)}]).train()
    assert any(path.is_file() for path in tmp_path.rglob("*"))
