"""What a release is made of, built and used as a person would: from nothing, twice, and where there is no Python."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rig import Engine, Rig, packages

ROOT = Path(__file__).parents[2]
#: Of any time; a commit's is taken where the checkout is one of git's.
EPOCH = "1790000000"
OLDEST_GLIBC = (2, 28)
LARGEST = 30_000_000
#: What the build, and the look at what it made, take from a Debian that may lack it.
TOOLS = ("binutils", "debian-archive-keyring", "dpkg-dev", "patch", "xz-utils")
#: The kinds of files that layerferry is made of, and what an sdist has at its top.
SOURCES = {".awk", ".py", ".sh", ".typed"}
SDIST = {
    *(".ci", ".circleci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "PKG-INFO", "README.md"),
    *("SECURITY.md", "ci-examples", "docs", "pyproject.toml", "release", "requirements", "src", "tests"),
}
SOURCE, TARGET = "docker28-overlay2", "docker28-containerd"

pytestmark = pytest.mark.kinds(source=[SOURCE], target=[TARGET])


def build(checkout: Path) -> Path:
    """Build a release in `checkout`; returns its folder."""
    packages.install(TOOLS)
    done = subprocess.run(
        ["bash", "release/build.sh"],
        cwd=checkout,
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout / "build/release"


@pytest.fixture(scope="module")
def release() -> Path:
    return build(ROOT)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, release: Path) -> Path:
    """The root folder of a system with a shell and an ssh client, and with no Python: it has no /proc either."""
    root = tmp_path_factory.mktemp("bare")
    for program in (Path("/bin/sh"), Path("/usr/bin/ssh"), release / "layerferry"):
        copy(program, root)
    for folder in ("dev", "etc", "proc", "root/.ssh", "tmp"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
    (root / "dev/null").chmod(0o666)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "bin").symlink_to("usr/bin")
    assert not list(root.rglob("*python*"))
    return root


def copy(program: Path, root: Path) -> None:
    """Put a program into the /usr/bin of `root`, and the libraries that it is linked with where it finds them."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [Path(name) for name in re.findall(r"(/\S+) \(", listing)]
    libraries += [
        file for library in libraries if library.name == "libc.so.6" for file in library.parent.glob("librt.so*")
    ]
    places = {f"/usr/bin/{program.name}": program} | {str(library): library for library in libraries}
    for name, file in places.items():
        (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.resolve(), root / name.lstrip("/"))


@pytest.fixture
def connected(rig: Rig, target: Engine, bare: Path) -> Path:
    """The bare system, whose ssh reaches the target."""
    folder = bare / "root/.ssh"
    (folder / "config").write_text(rig.ssh.config.read_text().replace(str(rig.ssh.folder), "/root/.ssh"))
    for name in ("id", "known_hosts"):
        shutil.copy(rig.ssh.folder / name, folder / name)
    (folder / "id").chmod(0o600)
    return bare


#: root socket command...: as root sees it who has just that; "" for no socket.
_ENTER = """
root=$1 socket=$2
if [ -n "$socket" ]; then : >"$root/docker.sock"; mount --bind "$socket" "$root/docker.sock"; fi
if [ "$PROC" = True ]; then mount --rbind /proc "$root/proc"; fi
shift 2
exec env -i PATH=/usr/bin DOCKER_HOST=unix:///docker.sock /usr/sbin/chroot "$root" "$@"
"""


def in_bare(
    root: Path, *arguments: str, docker: Engine | None = None, proc: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `layerferry` there; `docker` is its daemon."""
    namespace = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _ENTER, "sh"]
    socket = docker.host.removeprefix("unix://") if docker else ""
    return subprocess.run(
        [*namespace, str(root), socket, "layerferry", *arguments],
        env=os.environ | {"PROC": str(proc)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def image(source: Engine) -> str:
    name = "release-test/app:1"
    source.build(name, "FROM scratch\nCOPY content /content\n", {"content": os.urandom(200_000)})
    return name


# How it is built.


def test_the_same_sources_give_the_same_bytes(release: Path, tmp_path: Path) -> None:
    left_out = shutil.ignore_patterns("build", ".git", "__pycache__", ".*_cache", ".hypothesis")
    again = build(Path(shutil.copytree(ROOT, tmp_path / "elsewhere", ignore=left_out)))
    assert (again / "SHA256SUMS").read_text() == (release / "SHA256SUMS").read_text()


@pytest.mark.slow
def test_so_does_an_interpreter_that_is_built_again(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = shutil.ignore_patterns("build", ".git", "__pycache__", ".*_cache", ".hypothesis")
    elsewhere = Path(shutil.copytree(ROOT, tmp_path / "elsewhere", ignore=left_out))
    monkeypatch.setenv("LAYERFERRY_RELEASE_CACHE", str(tmp_path / "cache"))
    assert (build(elsewhere) / "SHA256SUMS").read_text() == (release / "SHA256SUMS").read_text()


def test_wheel_and_sdist_have_what_is_ours_and_nothing_else(release: Path) -> None:
    sources = {str(file.relative_to(ROOT / "src")) for file in (ROOT / "src").rglob("*") if file.suffix in SOURCES}
    (wheel,), (sdist,) = release.glob("*.whl"), release.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == sources
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {f"src/{name}" for name in sources} < names
    assert {name.partition("/")[0] for name in names} == SDIST


def test_the_sums_are_those_of_all_files(release: Path) -> None:
    lines = (line.split("  ", 1) for line in (release / "SHA256SUMS").read_text().splitlines())
    sums = {name: digest for digest, name in lines}
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in release.iterdir()}
    assert sums == {name: digest for name, digest in files.items() if name != "SHA256SUMS"}


@pytest.mark.parametrize(("document", "debian"), [("layerferry.pyz.cdx.json", False), ("layerferry.cdx.json", True)])
def test_an_sbom_names_each_package_that_is_in_it(release: Path, document: str, *, debian: bool) -> None:
    bom = json.loads((release / document).read_bytes())
    lock = (ROOT / "requirements/run.txt").read_text()
    locked = {f"pkg:pypi/{name}@{version}" for name, version in re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", lock)}
    found = {component["purl"] for component in bom["components"]}
    assert bom["metadata"]["component"]["name"] == "layerferry"
    assert {purl for purl in found if purl.startswith("pkg:pypi/")} == {p for p in locked if "/pywin32@" not in p}
    assert any(purl.startswith("pkg:deb/debian/libssl-dev@") for purl in found) is debian


def test_the_executable_wants_no_newer_glibc_and_nothing_but_it(release: Path) -> None:
    program = release / "layerferry"
    table = subprocess.run(["objdump", "-p", program], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", table)}
    assert max(versions) <= OLDEST_GLIBC
    assert set(re.findall(r"NEEDED +(\S+)", table)) <= {
        *("libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "libutil.so.1", "ld-linux-x86-64.so.2")
    }
    assert program.stat().st_size < LARGEST


# How it is used.


@pytest.mark.parametrize("proc", [False, True], ids=["no /proc", "/proc"])
def test_the_executable_pushes_where_there_is_no_python(
    connected: Path, source: Engine, target: Engine, image: str, *, proc: bool
) -> None:
    done = in_bare(connected, "push", image, target.ssh_alias, "--json", docker=source, proc=proc)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["verified"]
    assert target.diff_ids(image) == source.diff_ids(image)
    assert not list((connected / "tmp").iterdir())


def test_it_checks_certificates_with_its_own(bare: Path) -> None:
    done = in_bare(bare, "push", "registry:127.0.0.1:1/app:1", "nowhere.invalid")
    assert "127.0.0.1:1" in done.stderr  # requests is loaded, and with it the certificates
    assert not list((bare / "tmp").iterdir())


def test_the_pyz_pushes_and_unpacks_nothing(
    release: Path, rig: Rig, source: Engine, target: Engine, image: str
) -> None:
    before = set(rig.scratch.iterdir())
    command = [sys.executable, "-I", str(release / "layerferry.pyz"), "push", image, target.ssh_alias, "--json"]
    environment = {**rig.environment, "DOCKER_HOST": source.host}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert target.diff_ids(image) == source.diff_ids(image)
    assert set(rig.scratch.iterdir()) == before


@pytest.mark.parametrize("name", ["layerferry", "layerferry.pyz"])
def test_an_archive_keeps_a_tunnel(release: Path, rig: Rig, name: str) -> None:
    """The keeper is a process of its own, which has to be found without a Python beside it."""
    program = release / name
    command = [sys.executable, "-I", str(program)] if program.suffix else [str(program)]
    order: dict[str, Any] = {"agent": "/nonexistent/ngrok", "token": "t" * 30, "user": "u", "password": "p"}
    order |= {
        "upstream": "http://127.0.0.1:1",
        "domain": "",
        "install": False,
        "timeout": 5,
        "folder": str(rig.scratch / "nothing"),
    }
    with subprocess.Popen(
        [*command, "keep-tunnel"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as keeper:
        assert keeper.stdin
        assert keeper.stdout
        keeper.stdin.write(json.dumps(order).encode() + b"\n")
        keeper.stdin.flush()
        assert set(json.loads(keeper.stdout.readline())) == {"code", "detail"}
        keeper.stdin.close()


@pytest.fixture
def step(source: Engine, release: Path, connected: Path) -> str:
    """The container image of a CI step, built from the Containerfile of the release, on a base with an ssh client."""
    base, name = "release-test/base:1", "release-test/layerferry:1"
    tar = subprocess.run(
        ["tar", "--create", "--directory", connected, "--exclude", "./usr/bin/layerferry", "--exclude", "./dev", "."],
        capture_output=True,
        check=True,
    ).stdout
    source.docker("import", "-", base, stdin=tar)
    context = subprocess.run(
        ["tar", "--create", "--directory", release, "Containerfile", "layerferry"], capture_output=True, check=True
    ).stdout
    source.docker(
        *("build", "--quiet", "--network", "none", "--build-arg", f"BASE={base}", "--file", "Containerfile"),
        *("--tag", name, "-"),
        stdin=context,
    )
    return name


def test_the_container_image_runs_as_a_step(source: Engine, target: Engine, image: str, step: str) -> None:
    socket = "/run/docker.sock:/run/docker.sock"
    run = ["run", "--rm", "--network", "host", "--volume", socket, "--env", "DOCKER_HOST=unix:///run/docker.sock"]
    settings = ["--env", f"LAYERFERRY_IMAGES={image}", "--env", f"LAYERFERRY_TARGETS={target.ssh_alias}"]
    said = source.docker(*run, *settings, step, "sh", "-c", "layerferry run")
    assert image in said
    assert target.diff_ids(image) == source.diff_ids(image)
