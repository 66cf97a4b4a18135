"""A client of ssh that is told what to do by the host that it is to connect to: `ssh ... -- HOST COMMAND`.

A host `good` is an honest target, `env` writes down its environment; any other is a name of `SAYS`, and fails so.
"""

import json
import os
import sys
import time
from pathlib import Path

PAINT = "x\r::add-mask::x\x1b]0;owned\x07\u009b31m\x7f\u202e##vso[task.x]y ##teamcity[x]"
SAYS = {
    "painted": f"Permission denied ({PAINT}).\n",
    "painted-otherwise": f"{PAINT}\n",
    "painted-before": f"::error::banner\n{PAINT}\nConnection refused\n",
    "chewing": "No " * 350_000,
    "chewing-letters": "a" * (1 << 20),
    "chewing-lines": "No \n" * 350_000 + "host key is known",
    "long": "Could not resolve hostname " + "x" * (1 << 20),
    "bytes": "".join(map(chr, range(1, 256))),
    "empty-lines": "\n" * 1_000_000,
}


def main() -> None:
    words = sys.argv[1:]
    if "-G" in words:
        return
    host = words[words.index("--") + 1]
    here = Path(__file__).parent
    if host == "good":
        os.execv(sys.executable, [sys.executable, "-I", "-S", str(here / "honest_target.py"), os.environ["HEARD"]])
    if host == "env":
        Path(os.environ["HEARD"]).write_text(json.dumps(dict(os.environ)))
    if host == "hangs":
        os.execv(sys.executable, [sys.executable, "-I", "-S", str(here / "target.py"), os.environ["CASE"]])
    if host == "for-ever":
        while True:
            sys.stderr.write("banner " * 10_000 + "\n")
    if host == "silent":
        time.sleep(300)
    sys.stderr.buffer.write(SAYS.get(host, "oh\n").encode("utf-8"))
    sys.exit(255)


if __name__ == "__main__":
    main()
