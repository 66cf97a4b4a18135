"""Targets as users name them, and the conduits that lead to them."""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from layerferry.errors import LayerferryError
from layerferry.targets.conduit import CommandConduit, Conduit, SshConduit, SshTarget, command_name


@dataclass(frozen=True, slots=True)
class Ssh:
    """How to call ssh: `-o` values, its `-F`, and whether somebody is there to answer its questions."""

    options: tuple[str, ...] = ()
    config: Path | None = None
    interactive: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where to push: the name for people, and how to get the conduit."""

    name: str
    connect: Callable[[], Conduit]


def start(stack: contextlib.ExitStack, target: str | Sequence[str], ssh: Ssh) -> Target:
    """Start to connect at once, in a thread; what fails is raised where the conduit is wanted.

    `target` is a host or a command's words; `UsageError` is raised for what is neither. `stack` closes the conduit.
    """
    pool = stack.enter_context(ThreadPoolExecutor(1))
    future: Future[Conduit]
    if isinstance(target, str):
        host = SshTarget.parse(target)
        name = str(host)
        future = pool.submit(
            lambda: SshConduit(host, options=ssh.options, config=ssh.config, interactive=ssh.interactive)
        )
    else:
        name = command_name(target)
        future = pool.submit(lambda: CommandConduit(target))

    @stack.callback
    def hang_up() -> None:
        with contextlib.suppress(LayerferryError):
            future.result().close(hurry=True)

    return Target(name, future.result)
