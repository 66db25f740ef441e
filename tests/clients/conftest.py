"""Tests here may import `clients_make`, `clients_drivers` and `clients_servers`."""

import importlib.util
import sys
from pathlib import Path

for name in ("make", "drivers", "servers"):
    spec = importlib.util.spec_from_file_location(f"clients_{name}", Path(__file__).with_name(f"{name}.py"))
    sys.modules[f"clients_{name}"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[f"clients_{name}"])
