"""The run folder: claimed before anything is written, described by run.yaml, never silently overwritten."""

from importlib.metadata import version
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import write_text

LIBRARIES = ("ftkit", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")


def check_output_dir(output_dir: str, *, resume: bool) -> None:
    """Raise UserError when OUT is already used and not resumed, or resumed and not there."""
    folder = Path(output_dir)
    if folder.is_file():
        raise UserError(f"{folder}: is a file; give --output_dir a folder")
    used = folder.is_dir() and any(folder.iterdir())
    if used and not resume:
        raise UserError(
            f"{folder}: already holds files; continue that run with --resume_from_checkpoint, "
            "or choose another --output_dir"
        )
    if resume and not used:
        raise UserError(f"{folder}: holds no run to resume; drop --resume_from_checkpoint")


def write_run_yaml(output_dir: str, command: str, settings: dict) -> None:
    """Write OUT/run.yaml: the resolved settings, with the command that repeats the run and the versions used."""
    import yaml

    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    repeat = f"# ftkit {command} --config {Path(output_dir) / 'run.yaml'} --output_dir ANOTHER_FOLDER\n# {versions}\n"
    write_text(Path(output_dir) / "run.yaml", repeat + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def read_run_yaml(folder: str) -> dict:
    """Settings of a run folder, or {} where there is no run.yaml."""
    import yaml

    path = Path(folder) / "run.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
