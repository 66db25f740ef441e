"""Tests may import `checkpointed`, a tiny trainer with checkpoints."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, weights digest) of an uninterrupted run."""
    from checkpointed import train, weights_digest

    folder = tmp_path_factory.mktemp("finished")
    return folder, weights_digest(train(folder).model)


@pytest.fixture
def run_folder(finished, tmp_path):
    """A copy of the finished run that a test may damage."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))
