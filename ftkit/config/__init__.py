"""Settings: errors a person can act on, bundled files, flags and run.yaml.

amounts.py     Numbers as people read them
assets.py      Finds the bundled files (templates/, datasets/)
caches.py      Caches are a convenience: where they can't be written, a temporary folder stands in
command_line.py  Reads the flags of a training command into values
disk.py        What disks do to files: faults on the way, and too little room
errors.py      The error of a person's mistake
estimate.py    How much memory a training run takes, by a closed formula
files.py       Files that are written whole or not at all, and places that are tried out before work begins
flags.py       The settings of a training command, read from the source of the installed libraries without an import
foreign.py     Files that others made: whatever a library raises on them is one line
hardware.py    What a machine is good at: this one, by a probe, or another by name or from a file
help_pages.py  The help of the training commands
hub_access.py  Names that may be the Hub's: a typo of a bundled one, and a Hub that can't be reached
json_object.py  JSON objects in files; a damaged one is one line
jsonl.py       JSON Lines as ftkit writes and reads them: an object per line, which ends at "\n" alone
launch.py      What a launcher (accelerate, torchrun, mpirun) asked for, and whether it came
line_reader.py  Lines that a person types at a terminal, edited and completed, with those of before
naming.py      What a bare word of a command line names, and the command that takes it
output_folder.py  What an output folder holds, and the lock of the process that writes it
parser.py      Command lines
paste.py       Commands that are printed, quoted so that they can be pasted
quiet.py       Silences what libraries say about themselves, so that what a run says about your data can be seen
reporting.py   Where --report_to can send a run's measurements, and whether it can from here
run_folder.py  The record of a run, run.yaml
settings/      The settings of each trainer, as dataclasses over TRL's
terminal.py    Plain ANSI, where a person sees it: colour, and how far a long part is
values.py      Words of a command line or a YAML file into values, by the types of the settings
versions.py    The versions that a run was made with, also from a checkout that is not installed
words.py       What people type, and the flags it stands for
yaml_file.py   Settings in YAML files, each value read by the type of its setting
"""
