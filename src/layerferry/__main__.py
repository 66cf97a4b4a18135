"""The command. `receive` goes its own way at once: on a locked-down host the standard library has to do."""

import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from layerferry.errors import LayerferryError, UsageError
from layerferry.streams import stderr, take, trace

#: New objects from one look for garbage to the next. What is loaded stays: with Python's 700, looking through it again
#: and again took a tenth of a small push's CPU.
_COLLECTED = 20_000


def main() -> None:
    """Run the command line, and end the process with one of the exit codes of `errors`."""
    gc.set_threshold(_COLLECTED)
    if sys.platform == "win32":
        _refuse()
    if sys.argv[1:] == ["keep-tunnel"]:
        from layerferry.routes.ngrok import tunnel  # noqa: PLC0415

        return tunnel.keep()
    take()
    if sys.argv[1:2] == ["receive"]:
        from layerferry import settings  # noqa: PLC0415
        from layerferry.receive import program  # noqa: PLC0415

        sys.exit(program.main(sys.argv[2:], settings.environment()))
    trace(sys.argv[1:])
    try:
        command = _command(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        command()
    except Exception as error:  # noqa: BLE001 - the last of all
        _confess(error)
    finally:
        gc.freeze()  # the interpreter's last collection would take 30 ms, and free what ends with us


def _command(words: list[str]) -> Callable[[], None]:
    """What the words ask for: our command line, or that as a plugin of docker's."""
    if words[:1] == ["docker-plugin"]:
        from layerferry import docker_plugin  # noqa: PLC0415

        return partial(docker_plugin.main, words[1:])
    from layerferry import cli  # noqa: PLC0415

    return cli.main


def _refuse() -> NoReturn:
    """Windows has neither the signals nor the locks and sockets of a push; what follows would fail at the first."""
    refusal = UsageError(
        "layerferry runs on Linux and macOS, and not on Windows itself",
        hint="Use WSL2 (`wsl --install`), and run it there: Docker Desktop's daemon is reached from it, too.",
    )
    stderr().complain(refusal)
    sys.exit(refusal.exit_code)


def _confess(error: Exception) -> NoReturn:
    """Tell of an error that nobody foresaw: what it says may be somebody else's, and a traceback is for `--debug`."""
    fault = LayerferryError(
        f"a fault in layerferry itself: {type(error).__name__}: {error}",
        hint="With --debug it shows where; please tell us.",
    )
    fault.__cause__ = error
    stderr().complain(fault)
    sys.exit(LayerferryError.exit_code)


if __name__ == "__main__":
    main()
