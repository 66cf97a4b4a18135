"""A project's file: how it is found, what it may say, and what of it counts."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layerferry import settings
from layerferry.errors import UsageError
from layerferry.named_targets import Names
from layerferry.settings import file_rules, project_file
from layerferry.settings.values import FIELDS, origins

DOCUMENT = (Path(__file__).parents[2] / "docs" / "project.md").read_text(encoding="utf-8")
EXAMPLE = DOCUMENT.partition("```toml\n")[2].partition("```")[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, in which we are."""
    root = tmp_path / "home" / "project"
    (root / ".git").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.chdir(root)
    return root


def write(folder: Path, text: str, name: str = "layerferry.toml") -> None:
    (folder / name).write_text(text, encoding="utf-8")
    (folder / name).chmod(0o644)


def refused(text: str, folder: Path) -> UsageError:
    write(folder, text)
    with pytest.raises(UsageError) as caught:
        Names(["prod"])
    return caught.value


def test_the_example_of_the_docs(folder: Path) -> None:
    write(folder, EXAMPLE)
    (folder / "compose.yaml").touch()
    job = Names(["prod"]).job(["app:7"], ["prod"])
    assert job.images == ("ghcr.io/team/app:7",)
    assert job.targets == ("deploy@web1.example", "deploy@web2.example")
    chosen = settings.load({}, job.filed)
    assert (chosen.prune, chosen.keep_previous, chosen.then_after) == (5, "previous", "one-by-one")
    assert chosen.copy == ("compose.yaml:compose.yaml", "deploy/prod.env:.env")
    assert job.told[0] == "prod is deploy@web1.example, deploy@web2.example (layerferry.toml)"


def test_every_setting_is_allowed_or_refused_and_the_docs_name_the_allowed() -> None:
    keys = {field.name for field in file_rules.KEYS.values()}
    secret = {field.name for field in FIELDS if field.metadata["secret"]}
    assert keys | secret | set(file_rules._REFUSED) | {"images", "targets"} == {field.name for field in FIELDS}
    assert keys.isdisjoint(secret | set(file_rules._REFUSED))
    assert [key for key in (*file_rules.KEYS, "engine") if f"`{key}`" not in DOCUMENT] == []


def test_command_line_environment_file_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, 'prune = 5\nretries = 7\njobs = 2\n[targets]\nprod = "a.example"\n')
    monkeypatch.setenv("LAYERFERRY_RETRIES", "1")
    monkeypatch.setenv("layerferry_prune", "4")
    monkeypatch.setenv("LAYERFERRY_JOBS", "")
    job = Names(["prod"]).job(["app"], ["prod"])
    chosen = settings.load({"prune": 3}, job.filed)
    assert (chosen.prune, chosen.retries, chosen.jobs, chosen.timeout) == (3, 1, 2, 0)
    found = {one.variable: one.source for one in origins(chosen, settings.environment(), {"prune": 3}, job.filed)}
    assert found["LAYERFERRY_PRUNE"] == "command line"
    assert found["LAYERFERRY_RETRIES"] == "LAYERFERRY_RETRIES"
    assert found["LAYERFERRY_JOBS"] == "layerferry.toml, jobs"
    assert found["LAYERFERRY_TIMEOUT"] == "default"


def test_a_host_that_is_written_out_is_as_without_a_file(folder: Path) -> None:
    write(folder, 'prune = 5\n[images]\napp = "other"\n[targets]\nprod = "a.example"\n')
    for target in ("deploy@a.example", "elsewhere", "ssh://prod", "prod:22"):
        job = Names([target]).job(["app"], [target])
        assert (job.images, job.targets, job.filed) == (("app",), (target,), {})


def test_without_a_name_no_file_is_looked_at(folder: Path) -> None:
    write(folder, "this is no TOML")
    assert Names(["deploy@prod", "web.example"]).job(["app"], ["deploy@prod"]).filed == {}
    with pytest.raises(UsageError, match=r"layerferry.toml cannot be read"):
        Names(["prod"])


def test_a_misspelt_target_is_told(folder: Path) -> None:
    write(folder, '[targets]\nproduction = "a.example"\n')
    assert "production may be meant" in Names(["prodution"]).job(["app"], ["prodution"]).told[0]


def test_pyproject_counts_where_it_has_the_table_and_no_other_file_is_beside_it(folder: Path) -> None:
    write(folder, '[project]\nname = "layerferry"\n', "pyproject.toml")
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("prod",)
    write(folder, '[tool.layerferry.targets]\nprod = "b.example"\n', "pyproject.toml")
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("b.example",)
    write(folder, '[targets]\nprod = "a.example"\n')
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("a.example",)


def test_it_is_found_above_up_to_the_repositorys_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder.parent, '[targets]\nprod = "home.example"\n')
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("prod",)
    write(folder, '[targets.prod]\nto = "a.example"\nthen-file = "a/run.sh"\n')
    job = Names(["prod"]).job(["app"], ["prod"])
    assert job.targets == ("a.example",)
    assert job.filed["then_file"].value == Path("../run.sh")
    (folder / ".git").rmdir()
    (folder / "layerferry.toml").unlink()
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("home.example",)


def test_it_is_not_looked_for_above_the_home_folder(folder: Path) -> None:
    (folder / ".git").rmdir()
    write(folder.parent.parent, '[targets]\nprod = "evil.example"\n')
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("prod",)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_others_may_write_to_is_refused_unless_the_user_names_it(folder: Path, what: str) -> None:
    write(folder, '[targets]\nprod = "a.example"\n')
    (folder if what == "folder" else folder / "layerferry.toml").chmod(0o777)
    with pytest.raises(UsageError, match="may be written to by others") as caught:
        Names(["prod"])
    assert "LAYERFERRY_CONFIG" in caught.value.hint
    job = Names(["prod"], Path("layerferry.toml")).job(["app"], ["prod"])
    assert job.targets == ("a.example",)


def test_so_is_another_users(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, '[targets]\nprod = "a.example"\n')
    owner = folder.stat().st_uid
    if owner == 0:
        os.chown(folder, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UsageError, match=r"belongs to another user \(uid \d+\)"):
        Names(["prod"])


def test_a_folder_as_tmp_ends_the_search_without_a_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, '[targets]\nprod = "evil.example"\n')
    own = folder / "own"
    own.mkdir()
    folder.chmod(0o1777)
    monkeypatch.chdir(own)
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("prod",)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """We are a user whom closed folders are closed to, as they are not to root."""
    own = os.geteuid()
    os.seteuid(own or 65534)
    try:
        yield
    finally:
        os.seteuid(own)


@pytest.mark.parametrize("below", [".", "project"])
def test_a_folder_that_cannot_be_looked_into_has_no_file(below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `cd /root/project; sudo -u deploy layerferry push app prod`."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to others
        root = Path(name)
        start = root / "closed" / below
        start.mkdir(parents=True)
        for folder in (root, root / "closed", start):
            folder.chmod(0o755)
            write(folder, '[targets]\nprod = "evil.example"\n')
        monkeypatch.chdir(start)
        (root / "closed").chmod(0)
        with nobody():
            job = Names(["prod"]).job(["app"], ["prod"])
        (root / "closed").chmod(0o700)
        monkeypatch.chdir(root.parent)
    assert job.targets == ("prod",)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE])
def test_whatever_the_system_says_of_a_folder_is_no_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write(folder, '[targets]\nprod = "a.example"\n')

    def stat(path: Path, **_: object) -> os.stat_result:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", stat)
        names = Names(["prod"])
    assert names.job(["app"], ["prod"]).targets == ("prod",)


def test_a_folder_and_a_loop_of_its_name_are_no_file(folder: Path) -> None:
    (folder / "layerferry.toml").symlink_to("layerferry.toml")
    (folder / "pyproject.toml").mkdir()
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("prod",)


def test_a_home_that_is_a_loop_is_no_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "home").symlink_to("home")
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("prod",)


def test_a_named_file_counts_where_the_working_folder_has_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, '[targets.prod]\nto = "a.example"\nthen-file = "run.sh"\n')
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    job = Names(["prod"], folder / "layerferry.toml").job(["app"], ["prod"])
    assert job.filed["then_file"].value == folder / "run.sh"


def test_a_file_that_is_named_has_to_be_one(folder: Path) -> None:
    for name in ("nothing.toml", "x" * 300, ".git"):
        with pytest.raises(UsageError, match=r"is no file of layerferry|cannot be read: File name too long"):
            Names(["deploy@prod"], Path(name))


@pytest.mark.parametrize(
    ("line", "sentence", "hint"),
    [
        ('ssh-key = "s3cr3t"', "a secret has no place", "LAYERFERRY_SSH_KEY"),
        ('sudo_password = "s3cr3t"', "a secret has no place", "LAYERFERRY_SUDO_PASSWORD"),
        ('password = "s3cr3t"', "a secret has no place", "ssh's agent"),
        ('ssh-option = "ProxyCommand=s3cr3t"', "what calls ssh", "~/.ssh/config"),
        ('ssh-config = "s3cr3t"', "what calls ssh", "~/.ssh/config"),
        ('command = ["s3cr3t"]', "what calls ssh", "~/.ssh/config"),
        ('ssh-known-hosts = "s3cr3t"', "which hosts to trust", "LAYERFERRY_SSH_KNOWN_HOSTS"),
        ("ssh-accept-new-host-key = true", "which hosts to trust", "LAYERFERRY_SSH_ACCEPT_NEW_HOST_KEY"),
        ("ngrok-install = true", "downloaded", "LAYERFERRY_NGROK_INSTALL"),
        ('log = "/s3cr3t"', "written", "LAYERFERRY_LOG"),
        ("keep-previos = 'a'", "there is no such key", "keep-previous may be meant"),
        ('"\\u001b[2J" = 1', "there is no such key", "There are"),
        ("prune = true", "it is no whole number", ""),
        ("prune = 0", "it must be 1 or more", ""),
        ('then-after = "never"', "it is none of", ""),
        ("up = 'yes'", "it is neither true nor false", ""),
        ("then = 5", "it is no text", ""),
        ('route = "a\\u0000"', "control character", ""),
        ("names = [['a']]", "it is no text", ""),
        ("services = ' '", "it is empty", ""),
        ("then-file = 'a:b.sh'", "has a colon in it", ""),
        ("copy = '../s3cr3t'", "is not in the folder", ""),
        ("copy = '/etc/passwd:x'", "is not in the folder", ""),
        ("then-file = 'link'", "is not in the folder", ""),
        ("compose = 'link'", "is not in the folder", ""),
    ],
)
def test_what_is_refused_is_told_with_its_place(folder: Path, line: str, sentence: str, hint: str) -> None:
    (folder / "link").symlink_to("/etc/hostname")
    write(folder, f'[targets.prod]\nto = "a.example"\n{line}\n')
    with pytest.raises(UsageError) as caught:
        settings.load({}, Names(["prod"]).job(["app"], ["prod"]).filed)
    assert sentence in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.message.startswith("layerferry.toml, targets.prod.")
    assert caught.value.message.isprintable()
    if "copy" not in line:
        assert "s3cr3t" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a = " + "[" * 100_000,
        "a = " + "1" * 10_000,
        "\x00",
        "x" * (300 << 10),
        "targets = 5",
        "[targets.prod]",
        "[targets]\nprod = []",
        "[targets]\nprod = 5",
        '[targets]\nprod = "a\\u001b"',
        "[targets]\n'a b' = 'c'",
        "[images]\napp = 5",
        "[images]\napp = 'oci:../app'",
        "[images]\napp = 'archive:/etc/passwd'",
    ],
)
def test_a_hostile_file_is_refused_in_one_printable_sentence(folder: Path, text: str) -> None:
    error = refused(text, folder)
    assert error.message.isprintable()
    assert len(error.message) < 1000


def test_a_file_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "layerferry.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        Names(["prod"])


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "layerferry.toml")
    assert Names(["prod"]).job(["app"], ["prod"]).targets == ("prod",)


def test_targets_that_differ_are_not_pushed_to_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, '[targets]\none = "a.example"\n[targets.two]\nto = "b.example"\nprune = 5\n')
    for other in ("one", "deploy@c.example"):
        with pytest.raises(UsageError, match=r"differ in prune \(layerferry.toml\)"):
            Names(["two", other]).job(["app"], ["two", other])
    given: dict[str, Any] = {"prune": 2}
    assert Names(["one", "two"]).job(["app"], ["one", "two"], given).targets == ("a.example", "b.example")
    monkeypatch.setenv("LAYERFERRY_PRUNE", "2")
    assert Names(["one", "two"]).job(["app"], ["one", "two"]).filed == {}


def test_an_engine_goes_to_hosts_that_name_none(folder: Path) -> None:
    write(
        folder,
        '[targets.prod]\nto = ["a.example", "b.example?engine=k3s", "registry://r.example"]\nengine = "podman"\n',
    )
    names = Names(["prod"])
    assert names.job(["app"], ["prod"]).targets == (
        "a.example?engine=podman",
        "b.example?engine=k3s",
        "registry://r.example",
    )
    assert names.job(["app"], ["prod"], {"engine": "docker"}).targets[0] == "a.example"


def test_an_image_that_is_a_file_gets_no_tag(folder: Path) -> None:
    write(folder, '[images]\napp = "archive:app.tar"\nweb = "registry:r.example/web"\n[targets]\nprod = "a.example"\n')
    names = Names(["prod"])
    assert names.image("app") == "archive:app.tar"
    assert names.image("web:2") == "registry:r.example/web:2"
    with pytest.raises(UsageError, match="gets no tag"):
        names.image("app:2")


def test_names_of_the_file_are_there_for_completion(folder: Path) -> None:
    from layerferry.named_targets import named  # noqa: PLC0415

    assert named(None) == ([], [])
    write(folder, EXAMPLE)
    assert named(None) == (["staging", "prod"], ["app", "docs"])
    assert project_file.find(folder, None) is not None
