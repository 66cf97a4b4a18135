"""The host script where sudo asks for a password: in every POSIX shell here, before a sudo and an engine that play."""

from pathlib import Path

import pytest

from contract.fake_engine import OVERLAY2, FakeEngine, ask, preamble
from layerferry.targets.host.script import SUDO
from rig.processes import wait_until

PASSWORD = 'it\'s "$(id)" `x` \\ % *'
REFUSED = "permission denied while trying to connect to the docker API"
#: What sudo does with -n, -S and -A (sudo(8)); it tells $FAKE/tried how it was called.
_SUDO = """#!/bin/sh
echo "sudo $*" >>"$FAKE/tried"
{ tr '\\0' ' ' </proc/$PPID/cmdline; tr '\\0' ' ' </proc/$PPID/environ; } >>"$FAKE/seen"
how=$1
shift
case $how in
  -n) echo 'sudo: a password is required' >&2; exit 1 ;;
  -S) IFS= read -r line; shift 2 ;;
  -A) line=$("$SUDO_ASKPASS" "$2"); shift 2 ;;
esac
printf '%s\\n' "$line" | cmp -s - "$FAKE/password" || { echo 'sudo: 1 incorrect password attempt' >&2; exit 1; }
[ "$1" = -v ] || SUDO=1 exec "$@"
"""
_DOCKER = f"""#!/bin/sh
[ "$SUDO" ] || {{ echo ' / '; echo '{REFUSED}' >&2; exit 1; }}
case $1 in info) echo '{OVERLAY2}' ;; esac
"""


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    engine = FakeEngine(tmp_path)
    for name, text in (("sudo", _SUDO), ("docker", _DOCKER)):
        (engine.bin / name).write_text(text)
        (engine.bin / name).chmod(0o755)
    engine.say("password", f"{PASSWORD}\n")
    return engine


def talk(engine: FakeEngine, shell: list[str], *said: bytes) -> tuple[list[str], str]:
    """A session: all that is said at once, and what comes back; and how sudo was called."""
    with engine.start(shell) as process:
        out, err = process.communicate(preamble(SUDO) + b"engine docker\n" + b"".join(said), timeout=60)
    assert PASSWORD.encode() not in out + err
    assert PASSWORD not in (engine.state / "seen").read_text()
    wait_until(lambda: not left(), "a file is left")
    return out.decode().splitlines()[2:], (engine.state / "tried").read_text()


def left() -> list[Path]:
    """Files with a name; those of other tests that run now go, too."""
    return [path for path in Path("/dev/shm").glob("layerferry.*") if path.is_file()]


def framed(password: str) -> bytes:
    line = f"{password}\n".encode()
    return b"%d\n%b0\n" % (len(line), line)


ASK = ask({}).partition(b"\n")[2]


def test_it_asks_for_the_password_and_sudo_reads_it_each_time(engine: FakeEngine, shell: list[str]) -> None:
    lines, tried = talk(engine, shell, framed(PASSWORD), ASK)
    assert lines[:2] == ["sudo", f"engine docker {OVERLAY2.split()[0]} {OVERLAY2.split()[2]}"]
    assert lines[-1] == "end"
    calls = tried.splitlines()
    assert calls.count("sudo -S -p  -v") == 1
    assert all(
        call.startswith(("sudo -n docker info", "sudo -n docker image", "sudo -A -p /proc/", "sudo -S"))
        for call in calls
    )


def test_a_wrong_one_is_told_sudo_once(engine: FakeEngine, shell: list[str]) -> None:
    lines, tried = talk(engine, shell, framed("another"), ASK)
    assert lines == ["sudo", "failed engine sudo refused the password"]
    assert tried.count("sudo -S") == 1
    assert "sudo -A" not in tried


def test_no_password_is_asked_for_where_sudo_does_not(engine: FakeEngine, shell: list[str]) -> None:
    (engine.bin / "sudo").write_text(_SUDO.replace("-n) echo", '-n) SUDO=1 exec "$@"; echo'))
    lines, _ = talk(engine, shell, ASK)
    assert lines[0].startswith("engine docker")
    assert lines[-1] == "end"


def test_a_client_that_goes_leaves_nothing(engine: FakeEngine, shell: list[str]) -> None:
    with engine.start(shell) as process:
        process.stdin.write(preamble(SUDO) + b"engine docker\n30\nhalf")  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
        process.stdin = None
        out, _ = process.communicate(timeout=60)
    assert out.decode().splitlines()[2] == "sudo"
    wait_until(lambda: not left(), "a file is left")
    assert process.returncode not in (None, 0)
