"""The command `completion`: what a shell reads to complete our command lines."""

import click
from click.shell_completion import get_completion_class

from layerferry.cli import options
from layerferry.cli.around import end
from layerferry.errors import UsageError
from layerferry.streams import stdout

#: click's own takes each colon for the end of a word, as bash does, and images have one.
_BASH = r"""_layerferry_completion() {
    local line=${COMP_LINE:0:COMP_POINT} begun kind value
    local -a words
    read -r -a words <<<"$line"
    case $line in *[[:space:]]) words+=('') ;; esac
    begun=${words[${#words[@]}-1]}
    case $COMP_WORDBREAKS in *:*) begun=${begun%"${begun##*:}"} ;; *) begun= ;; esac
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            plain) COMPREPLY+=("${value#"$begun"}") ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done < <(COMP_WORDS=$line COMP_CWORD=$((${#words[@]}-1)) _LAYERFERRY_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _layerferry_completion layerferry
"""
_SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=options.Command,
    examples=(
        'eval "$(layerferry completion bash)"             # in ~/.bashrc',
        'eval "$(layerferry completion zsh)"              # in ~/.zshrc, after compinit',
        "source (layerferry completion fish | psub)       # in ~/.config/fish/config.fish",
    ),
)
@click.argument("shell", metavar="bash|zsh|fish", shell_complete=options.values("shell"))
@options.DEBUG
def completion(shell: str) -> None:
    """Print what a shell reads to complete options, their values, ssh_config's hosts and the daemon's images."""
    from layerferry.cli import COMPLETE, cli  # noqa: PLC0415 - it is what has loaded us

    if shell not in _SHELLS:
        raise UsageError(f"{shell!r} is no shell that is known here", hint=f"There are {', '.join(_SHELLS)}.")
    found = get_completion_class(shell)
    assert found is not None
    source = _BASH if shell == "bash" else found(cli, {}, "layerferry", COMPLETE).source()
    stdout().write(source)
    end(0, asked=True)
