"""Commands on hostile files, in forked processes. Tests may `import hostile`."""

import importlib.util
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
sys.modules["hostile"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["hostile"])
