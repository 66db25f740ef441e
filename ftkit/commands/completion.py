"""Prints the script that completes ftkit's command lines in a shell: commands, flags, bundled names and files.

ftkit completion bash >> ~/.bashrc
ftkit completion zsh > ~/.zfunc/_ftkit
ftkit completion fish > ~/.config/fish/completions/ftkit.fish

The script asks `ftkit completion words -- WORDS` what may come next, so it stays true when ftkit changes.
"""

import importlib

from ftkit.config.assets import MODEL_NAMES, list_assets
from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.flags import read_settings
from ftkit.config.parser import CommandParser, Described
from ftkit.runs.command_table import COMMANDS
from ftkit.runs.recipes import TRAINERS, load_recipe

FILES = ":files"  # a line that stands for the files here
SCRIPTS = {
    "bash": """_ftkit() {
    local reply word=${COMP_WORDS[COMP_CWORD]} IFS=$'\\n'
    reply=$(ftkit completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ $word == "=" ]] && word=
    COMPREPLY=($(compgen -W "${reply//:files/}" -- "$word"))
    if [[ $reply == *:files* ]]; then
        compopt -o filenames 2>/dev/null
        COMPREPLY+=($(compgen -f -- "$word"))
    fi
}
complete -F _ftkit ftkit
""",
    "zsh": """#compdef ftkit
_ftkit() {
    local -a found
    found=(${(f)"$(ftkit completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${found[(Ie):files]} )); then
        found=(${found:#:files})
        _files
    fi
    compadd -a found
}
if [[ $funcstack[1] == _ftkit ]]; then _ftkit "$@"; else compdef _ftkit ftkit; fi
""",
    "fish": """function __ftkit_words
    set -l words (commandline -opc) (commandline -ct)
    for line in (ftkit completion words -- $words[2..-1] 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c ftkit -f -a '(__ftkit_words)'
""",
}


def main(argv: list[str]) -> None:
    """Print the script of a shell, or for that script the words that may come next."""
    if argv[:2] == ["words", "--"]:
        print("\n".join(next_words(argv[2:])))
        return
    parser = CommandParser(prog="ftkit completion", examples=__doc__, description="Complete command lines in a shell.")
    parser.add_argument("shell", help=f"one of {', '.join(SCRIPTS)}")
    shell = parser.parse_args(argv).shell
    if shell not in SCRIPTS:
        hint = did_you_mean(shell, SCRIPTS)
        raise UserError(f'no completion for the shell "{shell}"{hint}; there are {", ".join(SCRIPTS)}')
    print(SCRIPTS[shell], end="")


def next_words(words: list[str]) -> list[str]:
    """What may stand in place of the last of `words`, which may be empty; the words after `ftkit`."""
    *before, current = [word for word in words if word != "="] or [""]
    if current == "" and words[-1:] == ["="]:
        before, current = before[:-1], ""
    if not before:
        return starting(current, [*COMMANDS, "help"])
    name, *rest = before if before[0] != "help" else [*before[1:], "help"]
    if name not in COMMANDS:
        return starting(current, COMMANDS) if name == "help" else []
    if name in TRAINERS:
        settings = read_settings(load_recipe(name).flags)
        flags = {f"--{setting}": (list(one.choices), one.is_switch) for setting, one in settings.items()}
        flags |= {"--model": ([], False), "--config": ([], False), "--help": (["all"], True)}
    else:
        module = importlib.import_module(COMMANDS[name][0])
        actions = getattr(module, "ACTIONS", None)
        if actions and not rest:
            return starting(current, actions)
        flags = flags_of(module, rest[:1] if actions else [])
    if current.startswith("-"):
        return starting(current, flags)
    last = rest[-1] if rest else ""
    if last in flags and not flags[last][1]:
        return values_of(last[2:], current, flags[last][0])
    return [*starting(current, list_assets("datasets") if name in ("data", "try") else []), FILES]


def flags_of(module, action: list[str]) -> dict[str, tuple[list[str], bool]]:
    """The flags of a command, each with its allowed values and whether it takes none."""
    try:
        module.main([*action, "--describe"])
    except Described as answer:
        return {
            option: (list(map(str, action.choices or [])), action.nargs == 0)
            for action in answer.parser._actions
            for option in action.option_strings
        }
    except UserError:  # no such action
        pass
    return {}


def values_of(flag: str, current: str, choices: list[str]) -> list[str]:
    """What may follow a flag: its allowed values, bundled names, files."""
    if choices:
        return starting(current, choices)
    if flag in ("tasks", "benchmark_tasks"):
        from ftkit.evaluation.bench.task_file import bundled_tasks

        *listed, last = current.split(",")
        return [",".join([*listed, name]) for name in starting(last, bundled_tasks())]
    bundled = {
        "model": MODEL_NAMES, "model_name_or_path": MODEL_NAMES, "dataset_name": list_assets("datasets"),
        "template": ["auto", *list_assets("templates")], "files": list_assets("datasets"),
    }  # fmt: skip
    return [*starting(current, bundled.get(flag, ())), FILES]


def starting(current: str, words) -> list[str]:
    """Those of `words` that begin as typed; dashes and underscores are the same."""
    return [word for word in words if word.replace("-", "_").startswith(current.replace("-", "_"))]
