"""What several commands are asked with."""

import pytest


@pytest.fixture
def flags(tiny_folder) -> list[str]:
    """How the tiny model is asked."""
    return [
        "--model_name_or_path", str(tiny_folder), "--template", "alpaca", "--max_new_tokens", "5", "--dtype", "float32"
    ]  # fmt: skip
