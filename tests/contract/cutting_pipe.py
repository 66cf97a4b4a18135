"""A conduit that breaks: `cutting_pipe.py LIMIT LOG COMMAND...` hands on LIMIT bytes of stdin, and hangs up then.

It writes how many bytes it has handed on, as a line of LOG.
"""

import os
import subprocess
import sys
from pathlib import Path


def main(limit: int, log: str, command: list[str]) -> int:
    count = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        while limit < 0 or count < limit:
            data = os.read(0, min(1 << 16, limit - count) if limit >= 0 else 1 << 16)
            if not data:
                break
            try:
                process.stdin.write(data)
                process.stdin.flush()
            except BrokenPipeError:
                break
            count += len(data)
        with Path(log).open("a") as file:
            file.write(f"{count}\n")
        process.stdin.close()
    return 255 if count == limit else process.returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
