"""Tests here may import `voting`."""

import importlib.util
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("voting", Path(__file__).with_name("voting.py"))
sys.modules["voting"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["voting"])
