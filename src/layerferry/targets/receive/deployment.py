"""What follows a verified push: the names, and the policy's command."""

import contextlib
import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from layerferry.image import Name
from layerferry.targets.receive.engine import Engine
from layerferry.targets.receive.refusal import Refusal

_TOLD = 2000


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Let one session at a time look whether a name is free and take it; raises `Refusal` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "names.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        raise Refusal("the lock on names cannot be taken") from None
    try:
        yield
    finally:
        os.close(descriptor)


def deploy(engine: Engine, tags: Sequence[tuple[str, Name]], *, immutable: bool) -> dict[str, str]:
    """Give names to images, by the engine's name or ID for them; the image IDs by name.

    With `immutable`, no name moves from one image to another, and none is given if one of them would.
    """
    ids: dict[str, str] = {}
    for image, name in tags:
        shown = engine.inspect(image)
        if shown is None:
            raise Refusal("the image has gone", kind="tag")
        if ids.setdefault(name.tagged, shown.id) != shown.id:
            raise Refusal(f"{name.familiar} is to name two images")
        before = engine.inspect(name.tagged) if immutable else None
        if before is not None and before.id != shown.id:
            raise Refusal(f"{name.familiar} is taken, and names do not move here")
    for image, name in tags:
        engine.tag(image, name.tagged)
    return ids


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit status, None where it took too long, and the end of what it told."""

    status: int | None
    told: str

    def __str__(self) -> str:
        return "no end in time" if self.status is None else f"status {self.status}"


def run_command(argv: Sequence[str], environment: Mapping[str, str], patience: float) -> Outcome:
    """Run the policy's command. It hears nothing from the client, and says nothing to it."""
    with tempfile.TemporaryFile() as told:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(127, error.strerror or "")
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        told.seek(max(0, os.fstat(told.fileno()).st_size - _TOLD))
        return Outcome(status, told.read(_TOLD).decode(errors="replace"))
