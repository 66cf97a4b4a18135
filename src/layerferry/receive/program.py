"""The program `layerferry receive`: the target's end of the conversation, as a forced command.

    restrict,command="layerferry receive --allow 'app:*'" ssh-ed25519 AAAA... deploy

Its stdin and stdout are the client's. They are moved to other descriptors at once, so that nothing that we load or
start can read from the client or write to it.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from layerferry.errors import Interrupted, LayerferryError, OutputError, UsageError
from layerferry.protocol import Reply, VerdictKind
from layerferry.receive.decision_log import DecisionLog
from layerferry.receive.decompression import Expander
from layerferry.receive.dialogue import Dialogue, Host
from layerferry.receive.engine import clean_environment, find_engine, find_program
from layerferry.receive.frames import Client
from layerferry.receive.policy import MEMORY, POLICY_FILE, Policy, Rules, is_there, read_file
from layerferry.receive.refusal import Refusal, one_line
from layerferry.streams import keep_pipes, stderr, stdout, take

_NOT_RULES = ("policy", "print_authorized_key", "program")


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `layerferry receive` with `arguments`; the exit code of the process."""
    try:
        given = _parser().parse_args(arguments)
        rules = {key: value for key, value in vars(given).items() if key not in _NOT_RULES and value not in (None, [])}
        if given.print_authorized_key:
            from layerferry.receive.authorized_key import authorized_key  # noqa: PLC0415

            Rules.read(rules)
            _print(authorized_key(given.print_authorized_key, given.program, arguments))
            return 0
        if os.isatty(0):
            raise UsageError(
                "this speaks to `layerferry push`, not to a person",
                hint="Set it as a forced command: layerferry receive --print-authorized-key KEY.pub --allow 'app:*'",
            )
        return _serve(given.policy, rules, environment)
    except LayerferryError as error:
        stderr().complain(error, "layerferry receive")
        return error.exit_code


def _print(line: str) -> None:
    out = stdout()
    out.write(f"{line}\n")
    out.flush()
    if out.trouble:
        raise OutputError(f"stdout could not be written: {out.trouble}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint="`layerferry receive --help` shows what there is.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="layerferry receive",
        description="Play the target's part, over stdin and stdout: a forced command for a locked-down host. "
        f"What {POLICY_FILE} says holds as well. Names are allowed by patterns: app:*, ghcr.io/acme/**:v[0-9]*, "
        "app@sha256:... for just that image.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--allow", action="append", metavar="PATTERN", help="names that images may get, and build on  [repeatable]")
    add("--reuse", action="append", metavar="PATTERN", help="names of further images to build on  [repeatable]")
    add("--platform", dest="platforms", action="append", metavar="OS/ARCH", help="[default: the host's; repeatable]")
    add("--max-bytes", metavar="SIZE", help="of one push, unpacked: 500M, 2G  [default: 16G]")
    add("--max-bytes-per-day", metavar="SIZE", help="of all pushes of a day, UTC  [default: no limit]")
    add("--immutable-tags", action="store_true", default=None, help="a name never moves to another image")
    add(
        "--whole-layers", action="store_true", default=None, help="take no patches, which tell digests of images' files"
    )
    add("--run", metavar="COMMAND", help="run this after a push, with LAYERFERRY_IMAGE and LAYERFERRY_IMAGE_ID set")
    add("--run-timeout", metavar="SECONDS", help="[default: 300]")
    add("--engine", metavar="NAME", help="docker or podman, or a path to it  [default: found]")
    add("--label", metavar="NAME", help="what the log and the day's count call this key  [default: default]")
    add("--log", metavar="PATH", help="syslog or a file  [default: syslog]")
    add(
        "--state",
        metavar="FOLDER",
        help="for the day's count  [default: ~/.local/state/layerferry], and for the "
        f"newest statements of signers  [default: {MEMORY}]",
    )
    add("--spool", metavar="FOLDER", help="where archives wait to be checked  [default: /var/tmp]")
    add("--idle", metavar="SECONDS", help="hang up on a client that is silent for so long  [default: 300]")
    add("--session", metavar="SECONDS", help="hang up after so long  [default: 14400]")
    _add_signatures(parser)
    add("--policy", type=Path, metavar="FILE", help=f"a file of root's, beside {POLICY_FILE}")
    add("--print-authorized-key", type=Path, metavar="KEY.pub", help="print the line for authorized_keys, and end")
    add("--program", default="layerferry", metavar="PATH", help="what that line calls us  [default: layerferry]")
    return parser


def _add_signatures(parser: _Parser) -> None:
    add = parser.add_argument
    add(
        "--signers",
        metavar="FILE",
        help="allowed_signers(5): names are given to images that these have signed for them",
    )
    add("--require", metavar="N", help="so many of them  [default: 1]")
    add("--max-signature-age", metavar="TIME", help="30d, 12h: a statement that is older counts for nothing")
    add("--revoked", metavar="FILE", help="keys that count no longer: a KRL of ssh-keygen's, or public keys")
    add("--allow-rollback", action="store_true", default=None, help="an older signed image may come back under a name")


def _serve(policy_file: Path | None, rules: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    incoming, outgoing = keep_pipes()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _interrupt)
    os.umask(0o077)
    until = time.monotonic() + 60.0
    try:
        policy = _policy(policy_file, rules)
        until = time.monotonic() + policy.session
        client = Client(incoming, outgoing, idle=policy.idle, until=until)
        decisions = DecisionLog(policy.log, **_facts(policy, environment))
    except LayerferryError as error:
        Client(incoming, outgoing, idle=60.0, until=until).say(
            f"{Reply.FAILED} {VerdictKind.REFUSED} {one_line(error.message)}"
        )
        return 1
    try:
        return _converse(client, policy, decisions, environment)
    finally:
        decisions.close()


def _converse(client: Client, policy: Policy, decisions: DecisionLog, environment: Mapping[str, str]) -> int:
    clean = clean_environment(environment)
    expander = Expander(find_program("zstd", clean), clean)
    home = Path(environment.get("HOME", "/nonexistent"))
    keygen = find_program("ssh-keygen", clean) if policy.signs else ""
    host = Host(lambda engine: find_engine(engine, clean), expander, clean, home, keygen)
    start = time.monotonic()
    try:
        decisions.write("start", command=environment.get("SSH_ORIGINAL_COMMAND", ""))
    except Refusal as error:
        client.say(f"{Reply.FAILED} {VerdictKind.REFUSED} {error.message}")
        return 1
    code = 1
    try:
        code = Dialogue(client, policy, host, decisions).run()
    except Interrupted as error:
        code = error.exit_code
    except Exception:  # noqa: BLE001 - a fault of ours: the client hears of it, the log has where
        import traceback  # noqa: PLC0415

        _note(decisions, "fault", text=traceback.format_exc(limit=-3))
        client.say(f"{Reply.FAILED} {VerdictKind.INTERNAL} the receiver's log says why")
    finally:
        _note(decisions, "end", code=code, seconds=round(time.monotonic() - start, 3))
    return code


def _note(decisions: DecisionLog, event: str, **facts: Any) -> None:
    """Log an event that is over, whether or not its line can be written."""
    with contextlib.suppress(LayerferryError):
        decisions.write(event, **facts)


def _policy(path: Path | None, rules: Mapping[str, Any]) -> Policy:
    files = [file for file in (POLICY_FILE, path) if file is not None and (file == path or is_there(file))]
    sources = [*map(read_file, files), Rules.read(rules, os.getuid())]
    policy = Policy(tuple(sources))
    if not any(source.allow for source in sources):
        raise Refusal("the policy allows no names")
    return policy


def _facts(policy: Policy, environment: Mapping[str, str]) -> dict[str, Any]:
    peer = environment.get("SSH_CONNECTION", "").partition(" ")[0]
    return {"key": policy.label, "user": environment.get("USER", ""), "peer": peer, "pid": os.getpid()}


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Once: what tidies up afterwards is not interrupted."""
    for other in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(f"ended by signal {number}")


if __name__ == "__main__":
    take()
    sys.exit(main(sys.argv[1:], os.environ))
