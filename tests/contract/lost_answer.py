"""An ssh whose line breaks once: `lost_answer.py WORD FLAG COMMAND...` hands on what COMMAND says up to a line of WORD.

It reads on until the names are given, writes FLAG, and ends as OpenSSH's client does. Where FLAG is there it hands on
all.
"""

import subprocess
import sys
from pathlib import Path


def main(word: str, flag: Path, command: list[str]) -> int:
    if flag.exists():
        return subprocess.run(command, check=False).returncode
    lost = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lost = lost or line.split()[:1] == [word.encode()]
            if line == b"done\n":
                break
            if not lost:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
        process.kill()
    flag.touch()
    sys.stderr.write("client_loop: send disconnect: Broken pipe\n")
    return 255


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
