"""The rig by hand: `python3 tests/rig COMMAND`. What `up` starts runs until `down`."""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(sys.path.pop(0)).resolve().parent))

from rig import packages
from rig.kinds import BARE, ENGINES, KINDS, THIS_MACHINE
from rig.machine import ENVIRONMENT
from rig.processes import RigError
from rig.rig import Rig, cannot_run, machines_of, records, take_down


def up(arguments: argparse.Namespace) -> None:
    """Start engines, each on a machine of its own with an sshd."""
    if arguments.state.exists():
        raise RigError(f"{arguments.state} is in use: take it down first, or choose another --state")
    wanted = [word.partition("=") for word in arguments.kind or ENGINES]
    rig = Rig(arguments.state, guard=False)
    try:
        packages.prepare(KINDS[kind].suite for kind, _, _ in wanted if kind in KINDS)
        with ThreadPoolExecutor() as pool:
            engines = list(pool.map(lambda word: rig.engine(word[0], name=word[2]), wanted))
    except BaseException:
        rig.down()
        raise
    for engine in engines:
        print(f"{engine.ssh_alias:20} DOCKER_HOST={engine.host}")
    print(f"\nssh -F {rig.ssh.config} {engines[0].ssh_alias}\nexport PATH={rig.ssh.bin}:$PATH")


def run_on(arguments: argparse.Namespace) -> None:
    """Run a command on the machine of an engine that is up."""
    for machine in machines_of(arguments.state):
        if machine.name == arguments.name:
            argv = machine.argv(*(arguments.command or ["bash"]))
            os.execvpe(argv[0], argv, {**ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")})
    raise RigError(f"no {arguments.name} is up in {arguments.state}")


def list_machines(arguments: argparse.Namespace) -> None:
    """Show what is up, as JSON."""
    print(json.dumps(records(arguments.state), indent=2))


def down(arguments: argparse.Namespace) -> None:
    """End everything that `up` has started, and remove it."""
    take_down(arguments.state)


def guard(arguments: argparse.Namespace) -> None:
    """Wait for the end of stdin, then do as `down`: what a rig in another process starts for its own safety."""
    while sys.stdin.buffer.read(4096):
        pass
    take_down(arguments.state)


def install(arguments: argparse.Namespace) -> None:
    """Install the packages that the rig needs, and unpack the Debian suites of all engines."""
    packages.prepare(kind.suite for kind in KINDS.values())


def tools(arguments: argparse.Namespace) -> None:
    """Install what tests use that start no engine: shells, ssh, openssl, zstd."""
    packages.install(packages.TOOLS)


def check(arguments: argparse.Namespace) -> None:
    """Say why engines cannot run on this machine, with exit code 1, or nothing if they can."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/rig", description=__doc__)
    parser.add_argument(
        "--state", type=Path, default=Path(tempfile.gettempdir(), "layerferry-rig"), help="folder of this rig"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (
        ("up", up),
        ("on", run_on),
        ("list", list_machines),
        ("down", down),
        ("install", install),
        ("tools", tools),
        ("check", check),
        ("guard", guard),
    ):
        command = commands.add_parser(name, help=(function.__doc__ or "").split("\n")[0])
        command.add_argument("--state", type=Path, default=argparse.SUPPRESS)
        command.set_defaults(function=function)
        if name == "up":
            kinds = f"{', '.join(ENGINES)} (all of these by default), {', '.join(BARE)} or {THIS_MACHINE.name}"
            command.add_argument("kind", nargs="*", metavar="KIND[=NAME]", help=kinds)
        if name == "on":
            command.add_argument("name")
            command.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    if reason := cannot_run():
        print(f"rig: {reason}", file=sys.stderr)
        return 1
    try:
        arguments.function(arguments)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
