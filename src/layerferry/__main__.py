"""The command. `receive` goes its own way at once: on a locked-down host the standard library has to do."""

import gc
import sys

from layerferry.streams import take


def main() -> None:
    """Run the command line, and end the process with one of the exit codes of `errors`."""
    take()
    if sys.argv[1:2] == ["receive"]:
        from layerferry import settings  # noqa: PLC0415
        from layerferry.targets import receiver  # noqa: PLC0415

        sys.exit(receiver.main(sys.argv[2:], settings.environment()))
    try:
        from layerferry import cli  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        cli.main()
    finally:
        gc.freeze()  # the interpreter's last collection would take 30 ms, and free what ends with us


if __name__ == "__main__":
    main()
