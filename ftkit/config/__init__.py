"""Settings: errors a person can act on, bundled files, flags and run.yaml.

assets.py      Finds the bundled files (templates/, datasets/)
errors.py      The error of a person's mistake
files.py       Files that are written whole or not at all
flags.py       The flag names of a command, read from the source of the installed libraries without importing them
hardware.py    What this machine is good at, from a probe of a few milliseconds, and the defaults that follow from
jsonl.py       JSON Lines as ftkit writes and reads them: an object per line, which ends at "\\n" alone
launch.py      What a launcher (accelerate, torchrun, mpirun) asked for, and whether it came
parser.py      Command lines
quiet.py       Silences what libraries say about themselves, so that what a run says about your data can be seen
run_folder.py  The run folder
settings/      The settings of each trainer, as dataclasses over TRL's
"""
