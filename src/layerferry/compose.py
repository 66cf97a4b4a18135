"""The images and services of a compose file, as the local `docker compose` sees it: variables, profiles, env files."""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from layerferry import log
from layerferry.ci.escape import one_line
from layerferry.errors import UsageError
from layerferry.oci import limits
from layerferry.oci.documents import Document
from layerferry.oci.image import Name
from layerferry.process_socket import last_line
from layerferry.processes import child_environment, end
from layerferry.push.compose_up import Project

#: The plugin of docker's command, and compose by itself.
_COMMANDS: Final = (("docker", "compose"), ("docker-compose",))
#: As the compose specification has it.
_SERVICE: Final = re.compile(r"[a-zA-Z0-9._-]+")


def images(file: Path, services: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The images of the services of a compose file, or of some of them; raises `UsageError`.

    Nothing but compose reads the file. What it says becomes image names, or is refused.
    """
    if not file.is_file():
        raise UsageError(f"there is no compose file {file}", hint="Say where it is: --compose deploy/compose.yaml.")
    for service in services:
        if service.startswith("-"):
            raise UsageError(f"{service!r} is not a service", hint="Services have the names that the file gives them.")
    asked = ["--file", str(file), "config", "--images", *services]
    text = _ask([*_find(environ), *asked], environ, f"{file} cannot be read by docker compose")
    found = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not found:
        raise UsageError(f"{file} names no image", hint="Services of a profile count where COMPOSE_PROFILES names it.")
    if len(found) > limits.COMPOSED:
        raise UsageError(f"{file} names more than {limits.COMPOSED} images")
    for name in found:
        Name.parse(name)
    return found


def project(file: Path, services: Sequence[str], environ: Mapping[str, str]) -> Project:
    """What `compose up` brings up: the services of a file, or some of them; raises `UsageError`.

    A service with a provider is none of the target's: compose would start a program that the file names, here.
    """
    words = (*_find(environ), "--ansi", "never", "--file", str(file))
    asked = [*words, "config", "--format", "json", *services]
    text = _ask(asked, environ, f"{file} cannot be read by docker compose", most=limits.COMPOSE_FILE)
    document = Document.parse(text, f"what docker compose says of {file}", most=limits.COMPOSE_FILE, error=UsageError)
    services_of = document.object("services")
    found = tuple(sorted(services_of.members))
    if len(found) > limits.COMPOSED or not all(map(_SERVICE.fullmatch, found)):
        raise UsageError(f"{file} has services that cannot be told from each other, or more than {limits.COMPOSED}")
    for name in found:
        if "provider" in services_of.object(name).members:
            raise UsageError(
                f"{file}: {name} has a provider, a program of this machine, and --up starts none",
                hint="Put that service into a profile, or run compose by yourself.",
            )
    return Project(words, tuple(services), found, environ)


def divided(names: Iterable[str], has: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """The images that go over, which the job's daemon has, and those that are left to the host.

    One that is named by its digest is pulled by it: a push gives tags.
    """
    here: list[str] = []
    elsewhere: list[str] = []
    for name in names:
        (here if not Name.parse(name).digest and has(name) else elsewhere).append(name)
    return here, elsewhere


def left(elsewhere: Sequence[str]) -> str:
    """The line that tells which images are left to the host."""
    them = "it" if len(elsewhere) == 1 else "them"
    return f"left to the host, since this job's daemon has not {them}: {', '.join(map(one_line, elsewhere))}"


def _find(environ: Mapping[str, str]) -> Sequence[str]:
    """The words of a compose of version 2, which `--images` needs."""
    told = ""
    for words in _COMMANDS:
        try:
            version = _ask([*words, "version", "--short"], environ, "").strip()
        except UsageError:
            continue
        if version.lstrip("v").partition(".")[0].isdecimal() and int(version.lstrip("v").partition(".")[0]) > 1:
            return words
        told = one_line(version)[:40]
    if told:
        raise UsageError(f"docker compose is {told} here", hint="--compose needs version 2 or later.")
    raise UsageError(
        "--compose needs `docker compose`, which is not here",
        hint="Install docker's compose plugin (Debian: docker-compose).",
    )


def _ask(argv: Sequence[str], environ: Mapping[str, str], trouble: str, *, most: int = limits.COMPOSE_SAID) -> str:
    """What a program says, of bounded length and in bounded time; raises `UsageError`, with its last words."""
    log.command("! compose", argv)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=child_environment(environ)
            )
        except OSError as error:
            raise UsageError(f"{argv[0]} cannot be started: {error.strerror}") from None
        try:
            status = process.wait(limits.COMPOSE)
        except subprocess.TimeoutExpired:
            raise UsageError(f"docker compose gave no answer within {limits.COMPOSE:.0f} s") from None
        finally:
            end(process)
        size = err.seek(0, 2)
        err.seek(max(0, size - limits.SAID))
        said = last_line(err.read().decode(errors="replace"))
        if status:
            raise UsageError(f"{trouble} ({one_line(said) or f'status {status}'})")
        if out.seek(0, 2) > most:
            raise UsageError(f"docker compose says more than {most} bytes")
        out.seek(0)
        return out.read().decode(errors="replace")
