"""The command `plugin`: lets docker find us as `docker ferry`, and no longer."""

import shutil

import click

from layerferry import plugin_launcher, settings
from layerferry.cli import options
from layerferry.cli.around import end
from layerferry.errors import UsageError
from layerferry.streams import stdout

_VERBS = ("install", "remove")


@click.command(
    cls=options.Command,
    examples=(
        "layerferry plugin install            # then: docker ferry push app:2 deploy@prod",
        "sudo layerferry plugin install --system",
        "layerferry plugin remove",
    ),
)
@click.argument("verb", metavar="install|remove", shell_complete=options.values("plugin"))
@options.option("--system", is_flag=True, help="For all users, in /usr/local/lib/docker/cli-plugins.")
@options.DEBUG
def plugin(verb: str, *, system: bool) -> None:
    """Make all of this a command of docker's, `docker ferry`, or end that.

    It is one small file, in cli-plugins of docker's own folder (~/.docker, or DOCKER_CONFIG), which starts this very
    installation. A file that is not layerferry's is never touched.
    """
    if verb not in _VERBS:
        raise UsageError(f"{verb!r} is nothing to do with a plugin", hint=f"There are {' and '.join(_VERBS)}.")
    path = plugin_launcher.place(settings.environment(), system=system)
    if verb == "remove":
        removed = plugin_launcher.remove(path)
        stdout().line(f"{path} is removed" if removed else f"there is no {path}")
        end(0)
    plugin_launcher.install(path, plugin_launcher.own_command(), system=system)
    stdout().line(f"{plugin_launcher.PROGRAM} is layerferry: {path}")
    if not shutil.which("docker"):
        stdout().line("docker itself is not on PATH here.")
    end(0)
