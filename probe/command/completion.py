"""`probe completion bash`: a script that completes subcommands, their options, groups, choices and settings.

All words are written into the script, so that the Tab key starts no Python; a new plug-in is known to a new script.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Mapping, Sequence

from probe.command.help import choices, groups
from probe.core.errors import InputError
from probe.core.files import CONF
from probe.core.terminal import tell

SHELLS = ("bash", "zsh", "fish")
READ_OVERRIDES = ("check", "describe", "extract")
KEY = re.compile(r"^(\w+):", re.MULTILINE)
BASH = """\
_probe() {
  local cur line words kept key
  line="${COMP_LINE:0:$COMP_POINT}"; cur="${line##* }"; COMPREPLY=()
  set -- $line
  case "$2" in
@@CASES@@
    *) words=@@OVERRIDES@@; [ "$2" = "$cur" ] && words="@@SUBCOMMANDS@@ $words" ;;
  esac
  kept=""; key=""
  case "$cur" in *=*,*) kept="${cur%,*},"; key="${cur%%=*}="; cur="$key${cur##*,}" ;; esac
  COMPREPLY=( $(compgen -W "$words" -- "$cur") )
  [ -n "$kept" ] && COMPREPLY=( "${COMPREPLY[@]/#$key/$kept}" )
  case "${COMPREPLY[0]}" in *=) compopt -o nospace 2>/dev/null ;; esac
  # bash takes what stands behind a = for a word of its own
  cur="${line##* }"
  case "$cur" in *=*) [ -z "$ZSH_VERSION" ] && COMPREPLY=( "${COMPREPLY[@]#"${cur%%=*}="}" ) ;; esac
  return 0
}
"""
ENDS = {
    "bash": "complete -o default -F _probe probe\n",
    "zsh": """\
_probe_zsh() {
  emulate -L zsh
  setopt sh_word_split
  local COMP_LINE="$BUFFER" COMP_POINT="$CURSOR"
  local -a COMPREPLY keys others
  _probe
  keys=(${(M)COMPREPLY:#*=}) others=(${COMPREPLY:#*=})
  (( $#keys )) && compadd -S '' -a keys
  (( $#others )) && compadd -a others
  (( $#COMPREPLY )) || _files
}
(( $+functions[compdef] )) || { autoload -U compinit && compinit; }
autoload -U bashcompinit && bashcompinit
compdef _probe_zsh probe
""",
}
FISH = """\
function __probe_words
  set -l cur (commandline -ct)
  if not string match -q '*=*,*' -- $cur
    printf '%s\\n' $argv
    return
  end
  set -l key (string replace -r '=.*' '=' -- $cur)
  set -l kept (string replace -r '[^,]*$' '' -- $cur)
  for word in $argv
    string match -q -- "$key*" $word; and echo $kept(string sub -s (math (string length -- $key) + 1) -- $word)
  end
end
set -g __probe_overrides @@OVERRIDES@@
"""


def main(argv: Sequence[str], subcommands: Mapping[str, str]) -> int:
    """Prints the script of a shell; `subcommands` are module and function of each."""
    if list(argv[1:]) or not argv or argv[0] not in SHELLS:
        raise InputError(
            f"the shell is {' '.join(argv) or 'not given'}, expected one of {', '.join(SHELLS)}: write, for example, "
            'eval "$(probe completion bash)" into ~/.bashrc'
        )
    tell(*script(argv[0], subcommands).splitlines())
    return 0


def script(shell: str, subcommands: Mapping[str, str]) -> str:
    """The script of bash, zsh or fish."""
    options = {word: options_of(where) for word, where in subcommands.items()} | {"completion": list(SHELLS)}
    return fish(options) if shell == "fish" else bash(options, shell)


def bash(options: Mapping[str, Sequence[str]], shell: str) -> str:
    """For bash, and for zsh, which asks the same function."""
    overrides = shlex.quote(" ".join(override_words()))
    cases = [
        f"    {word}) words={shlex.quote(' '.join(own))}" + f'" "{overrides}' * (word in READ_OVERRIDES) + " ;;"
        for word, own in options.items()
    ]
    parts = {"CASES": "\n".join(cases), "OVERRIDES": overrides, "SUBCOMMANDS": " ".join(options)}
    pieces = BASH.split("@@")
    text = "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))
    return text + ENDS[shell]


def fish(options: Mapping[str, Sequence[str]]) -> str:
    """For fish."""
    names, given = " ".join(options), "'(__probe_words $__probe_overrides)'"
    lines = [
        f"complete -c probe -n 'not __fish_seen_subcommand_from {names}' -f -a {words}"
        for words in (shlex.quote(names), given)
    ]
    for word, own in options.items():
        seen = f"complete -c probe -n '__fish_seen_subcommand_from {word}' -a"
        lines += [f"{seen} {shlex.quote(' '.join(own))}", *[f"{seen} {given}"] * (word in READ_OVERRIDES)]
    return FISH.replace("@@OVERRIDES@@", " ".join(override_words())) + "\n".join(lines) + "\n"


def override_words() -> list[str]:
    """`head=linear`, `head.Cs=`, `seed=`: all choices and settings of the package."""
    known = KEY.findall((CONF / "config.yaml").read_text("utf-8"))
    top = [f"{key}=" for key in known if key not in ("defaults", "hydra")]
    found = ["--multirun", "--config-dir", "--help", "--version", *top]
    for group in groups([CONF]):
        paths = choices(group, [CONF])
        found += [f"{group}={name}" for name in paths]
        keys = [key for path in paths.values() for key in KEY.findall(path.read_text("utf-8")) if group != "experiment"]
        found += [f"{group}.{key}=" for key in dict.fromkeys(keys) if key not in ("defaults", "_target_")]
    return found


def options_of(where: str) -> list[str]:
    """What the help of a subcommand names."""
    module, _, function = where.partition(":")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        getattr(importlib.import_module(module), function)(["--help"])
    commands = re.search(r"^  (\w+(?: \| \w+)+)$", said.getvalue(), re.MULTILINE)
    named = dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][\w-]*", said.getvalue()))
    return [*(commands[1].split(" | ") if commands else ()), *named]
