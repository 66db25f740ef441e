"""Makes a virtual environment for each client that the server is tested against: python tests/clients/make.py FOLDER

Then FTKIT_CLIENTS=FOLDER pytest -n 0 -m slow tests/clients asks a server by each. None of them needs torch. What is
there already stays; --only NAME makes one alone.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

ENVIRONMENTS = {
    "openai-2": ["openai==2.54.0"],
    "openai-3": ["openai==3.57.0"],
    "langchain": ["langchain-openai==1.7.4"],
    "litellm": ["litellm==1.110.2"],
}


def python_of(folder: Path, name: str) -> Path:
    """The interpreter of an environment, whether it is there or not."""
    return folder.absolute() / name / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def make(folder: Path, name: str) -> None:
    """Make an environment with its packages."""
    if python_of(folder, name).exists():
        print(f"{name}: is there")
        return
    print(f"{name}: {' '.join(ENVIRONMENTS[name])}", flush=True)
    venv.create(folder / name, with_pip=True)
    install = [str(python_of(folder, name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *ENVIRONMENTS[name]], check=True)


def main() -> None:
    """Make those that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=ENVIRONMENTS, help="this one alone")
    args = parser.parse_args()
    for name in [args.only] if args.only else ENVIRONMENTS:
        make(args.folder, name)


if __name__ == "__main__":
    main()
