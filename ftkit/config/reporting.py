"""Where --report_to can send a run's measurements, and whether it can from here."""

import importlib.util
import netrc
import os
import sys
from collections.abc import Mapping, Sequence

from ftkit.config.errors import UserError, did_you_mean

NONE, ALL = "none", "all"
PACKAGES = {  # of each name in transformers: modules, one of which is needed, the first named as it is installed
    "azure_ml": ("azureml-core", "azureml"),
    "comet_ml": ("comet-ml", "comet_ml"),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "codecarbon": ("codecarbon",),
    "clearml": ("clearml",),
    "dagshub": ("dagshub",),
    "flyte": ("flytekit",),
    "dvclive": ("dvclive",),
    "swanlab": ("swanlab",),
    "kubeflow": (),
}
WANDB_WITHOUT_LOGIN = ("offline", "dryrun", "disabled")  # WANDB_MODE


def check_report_to(names: str | Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> None:
    """Raise UserError for a name that is none, one whose package is missing, and Weights & Biases without a login."""
    names = [names] if isinstance(names, str) else list(names or ())
    for name in names:
        if name in (NONE, ALL) and len(names) == 1:
            continue
        if name not in PACKAGES:
            known = ", ".join((NONE, ALL, *PACKAGES))
            raise UserError(f'--report_to: unknown "{name}"; known: {known}{did_you_mean(name, PACKAGES)}')
        packages = PACKAGES[name]
        if packages and not any(map(is_installed, packages)):
            raise UserError(
                f"--report_to {name}: the package is not installed; pip install {packages[0]}, or --report_to none"
            )
        if name == "wandb" and not may_log_in_to_wandb(environ):
            raise UserError(
                "--report_to wandb: nobody is logged in; run wandb login, or set WANDB_API_KEY or WANDB_MODE=offline"
            )


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


def may_log_in_to_wandb(environ: Mapping[str, str]) -> bool:
    """Whether Weights & Biases starts: it has a key, needs none, or a person is there whom it can ask for it."""
    if environ.get("WANDB_MODE") in WANDB_WITHOUT_LOGIN or environ.get("WANDB_API_KEY") or sys.stdin.isatty():
        return True
    try:
        hosts = netrc.netrc(environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    address = environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return any(host in address for host in hosts)
