"""What a run writes: no token and no pickled arguments at any moment, and the modes that the umask gives."""

import os
import stat
import sys

import pytest

from ftkit.runs.recipes import load_recipe

TOKENS = ("hf_plantedInTheSettings", "hf_plantedInTheEnvironment")
EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")


class Watch:
    """Looks through a folder at every file-system event of this process while it is watching."""

    def __init__(self, folder):
        self.folder, self.found, self.num_looks, self.is_watching = folder, set(), 0, True
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if not self.is_watching or event not in EVENTS or str(self.folder) not in str(arguments[:2]):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        self.is_watching = False
        self.look()
        self.is_watching = True

    def look(self):
        """Note every file that holds a token or is called as Trainer calls the pickled arguments."""
        self.num_looks += 1
        for path in self.folder.rglob("*"):
            if (
                path.name == "training_args.bin"
                or path.is_file()
                and any(token.encode() in path.read_bytes() for token in TOKENS)
            ):
                self.found.add(str(path.relative_to(self.folder)))


def modes(folder) -> dict[str, set[int]]:
    """The modes of all files, and of all folders, below a folder."""
    paths = list(folder.rglob("*"))
    return {
        kind: {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir() == (kind == "folders")}
        for kind in ("files", "folders")
    }


@pytest.mark.parametrize("umask", [0o022, 0o002])
def test_no_token_or_pickle_is_ever_written_and_files_have_the_umasks_modes(umask, files, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    monkeypatch.setenv("HF_TOKEN", TOKENS[1])
    settings = files.parse("sft", out, "--use_peft", "--max_steps", "2", "--save_steps", "1", "--test_size", "2")
    settings.training.hub_token = TOKENS[0]
    watch, before = Watch(out), os.umask(umask)
    try:
        load_recipe("sft").train(settings)
    finally:
        watch.is_watching = False
        os.umask(before)
    watch.look()
    assert watch.found == set() and watch.num_looks > 50
    assert {"adapter_model.safetensors", "checkpoint-1", "checkpoint-2"} <= {path.name for path in out.iterdir()}
    assert modes(out) == {"files": {0o666 & ~umask}, "folders": {0o777 & ~umask}}
    printed = capfd.readouterr()
    assert not any(token in printed.out + printed.err for token in TOKENS)
