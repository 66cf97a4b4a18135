"""Standard streams that are closed, full, gone or of another character set, and words that are no text."""

from pathlib import Path

import pytest

from hostile import layouts
from hostile.claims import one_sentence, within_bounds
from hostile.command import Command
from hostile.conduits import honest, hostile

DONE = (0,)
STREAMS = {
    "stdin closed": ('exec "$@" <&-', DONE),
    "stdout closed": ('exec "$@" >&-', DONE),
    "stderr closed": ('exec "$@" 2>&-', DONE),
    "stdin and stdout closed": ('exec "$@" <&- >&-', DONE),
    "all closed": ('exec "$@" <&- >&- 2>&-', DONE),
    "stdout full": ('exec "$@" >/dev/full', (0, 2, 3, 4, 5)),
    "stderr full": ('exec "$@" 2>/dev/full', DONE),
    "both full": ('exec "$@" >/dev/full 2>&1', (0, 2, 3, 4, 5)),
    "stdout to nobody": ('mkfifo p; exec 3<>p 4>p 3<&-; exec "$@" >&4', DONE),
}
CHARACTER_SETS = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "ascii, strict": {"PYTHONIOENCODING": "ascii:strict"},
    "POSIX": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "utf-16": {"PYTHONIOENCODING": "cp037"},
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return layouts.ImageFolder(tmp_path_factory.mktemp("images")).of(3000)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["plain", "json"])
def test_a_push_does_not_depend_on_its_streams(
    name: str, options: tuple[str, ...], image: str, layerferry: Command, tmp_path: Path
) -> None:
    shell, codes = STREAMS[name]
    if options and "full" in name:
        codes = (*codes, 1)  # what was asked for is the object, and it is not there
    record = tmp_path / "heard"
    run = layerferry("push", image, "--name", "app:1", *options, "--", *honest(record), shell=shell)
    within_bounds(run, codes)
    assert record.read_text().endswith("done\n")


@pytest.mark.parametrize("name", STREAMS)
def test_nor_does_its_failure(name: str, image: str, layerferry: Command) -> None:
    shell, _ = STREAMS[name]
    run = layerferry("push", image, "--name", "app:1", "--", *hostile("verdict: refused"), shell=shell)
    within_bounds(run, (5,))


@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_an_image_that_is_there_is_reported_as_such(name: str, image: str, layerferry: Command, tmp_path: Path) -> None:
    run = layerferry("push", image, "--name", "app:1", "--", *honest(tmp_path / "heard"), env=CHARACTER_SETS[name])
    assert run.code == 0, run.stderr
    assert run.broke == ""
    assert b"Traceback" not in run.stderr


def test_paths_and_ssh_speak_utf8_in_a_locale_that_does_not(layerferry: Command, tmp_path: Path) -> None:
    """A path of ssh's configuration, of the log, of the image and of the daemon's socket; a comment of known_hosts."""
    folder = tmp_path / "grün→"
    image = layouts.ImageFolder(folder).of(3000)
    ssh = tmp_path / "ssh"
    ssh.write_text(
        '#!/bin/sh\ncase "$*" in\n*" -G "*) echo "identityfile /home/jürgen/.ssh/id" ;;\n'
        f"*) exec {' '.join(honest(Path('/dev/null')))} ;;\nesac\n",
        encoding="utf-8",
    )
    ssh.chmod(0o755)
    key = f"ssh-ed25519 {'A' * 68}"
    env = {
        **CHARACTER_SETS["POSIX"],
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "LAYERFERRY_SSH_KNOWN_HOSTS": f"# Schlüssel\nh {key}\n",
        "LAYERFERRY_LOG": f"{folder}/lög",
    }
    run = layerferry("push", image, "--name", "app:1", "h", env=env)
    one_sentence(run, (0,), "app:1 is sha256:")
    assert (folder / "lög").stat().st_size > 0
    socket = layerferry("push", "app:1", "h", env={**env, "DOCKER_HOST": f"unix://{folder}/s"})
    one_sentence(socket, (3,), "does not answer")


@pytest.mark.parametrize("name", ["ascii", "POSIX"])
def test_so_is_a_failure(name: str, image: str, layerferry: Command) -> None:
    words = ("push", image, "--name", "app:1", "--", *hostile("verdict: painted"))
    one_sentence(layerferry(*words, env=CHARACTER_SETS[name]), (5,))


@pytest.mark.parametrize("where", ["image", "target", "name", "platform"])
def test_words_that_are_no_text_are_told_of(where: str, image: str, layerferry: Command, tmp_path: Path) -> None:
    odd = b"\xff\x1b]0;x\x07\n::error::y"
    words: dict[str, tuple[str | bytes, ...]] = {
        "image": ("push", b"oci:" + odd, "--", *honest(tmp_path / "heard")),
        "target": ("push", image, odd),
        "name": ("push", image, "--name", odd, "--", *honest(tmp_path / "heard")),
        "platform": ("push", image, "--platform", odd, "--", *honest(tmp_path / "heard")),
    }
    within_bounds(layerferry(*words[where]), (2, 3))


@pytest.mark.parametrize("command", ["run", "doctor", "push"])
def test_settings_that_are_no_text_are_told_of(command: str, layerferry: Command) -> None:
    env = {
        "LAYERFERRY_IMAGES": "oci:\udcff\x1b]0;x\x07",
        "LAYERFERRY_TARGETS": "a\udcffb\r::error::x",
        "LAYERFERRY_JOBS": "\x1b[1m",
    }
    words = {"run": ("run",), "doctor": ("doctor",), "push": ("push", "oci:x", "y")}
    within_bounds(layerferry(*words[command], env=env), (2, 3))
