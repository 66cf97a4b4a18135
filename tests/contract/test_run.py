"""`layerferry run` as each CI sees it: an engine's API and an ssh that are stand-ins, and a process that is real.

The target has the image already, so that no layer has to be read; what a route does is tested with real engines.
"""

import contextlib
import http.server
import json
import os
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import fork_server
from layerferry.cli import main
from layerferry.settings.values import FIELDS, variables
from rig.processes import wait_until

ENVIRONMENTS = {path.stem: path for path in sorted((Path(__file__).parents[1] / "unit" / "env").glob("*.env"))}
IMAGE_ID = "sha256:" + "1f" * 32
DIFF_ID = "sha256:" + "2e" * 32
TOKEN = "2aBcDeFgHiJkLmNoPqRsTuVwXyZ_4Contract5Token6Only"
KNOWN_HOSTS = "web.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKnownHostsOfTheseTestsAreNotReadByAnySsh0\n"

#: Plays ssh and the target behind it, which has whatever image it is asked for. FAKE_SSH names what goes wrong.
SSH = """\
#!{python} -IS
import json, os, re, signal, stat, sys, time
words = sys.argv[1:]
if "-G" in words:
    print("controlpath none")
    sys.exit()
options = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "-o")
files = {{}}
for name in ("IdentityFile", "UserKnownHostsFile"):
    if name in options:
        path = options[name].strip('"')
        files[name] = [path, stat.S_IMODE(os.stat(path).st_mode), open(path).read()]
with open(os.environ["FAKE_SSH_RECORD"], "a") as record:
    record.write(json.dumps([words, options, files]) + "\\n")
with open(os.environ["FAKE_SSH_RECORD"] + ".env", "a") as record:
    record.write(json.dumps(dict(os.environ)) + "\\n")
mode = os.environ.get("FAKE_SSH", "")
if mode.startswith("crowd ") and len(open(os.environ["FAKE_SSH_RECORD"]).readlines()) <= int(mode.split()[1]):
    print("kex_exchange_identification: read: Connection reset by peer", file=sys.stderr)
    sys.exit(255)
if mode == "refuse":
    print("deploy@web.example: Permission denied (publickey).", file=sys.stderr)
    sys.exit(255)
pipe = sys.stdin.buffer
pipe.read(int(pipe.readline().split()[-1]))
print("layerferry 1 sh", flush=True)
ask = iter(lambda: (pipe.readline() or sys.exit()).decode().strip(), "end")
images = [line.split()[1] for line in ask if line.startswith("image ")]
if mode == "hang":
    print("engine docker 28.5.2", flush=True)
    pipe.read()
    sys.exit()
print("engine docker 28.5.2 overlay2\\nstore chain\\nplatform linux/amd64\\naccept none gzip zstd")
for image in images:
    print(f"image {{image}}\\npresent")
print("end", flush=True)
for line in iter(lambda: pipe.readline().decode().strip(), "done"):
    if not line:
        sys.exit()
print("done", flush=True)
"""

AGENT = """\
#!{python} -IS
import json, os, sys
with open(os.environ["FAKE_AGENT_RECORD"], "a") as record:
    record.write(json.dumps([sys.argv[1:], sys.stdin.read()]) + "\\n")
with open(os.environ["FAKE_AGENT_RECORD"] + ".env", "a") as record:
    record.write(json.dumps(dict(os.environ)) + "\\n")
"""


class DockerApi(http.server.BaseHTTPRequestHandler):
    """As much of an engine's API as it takes to show an image and to tell that no registry is reached."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.paths.append(unquote(self.path))  # type: ignore[attr-defined]
        path = "/" + self.path.split("/", 2)[2] if self.path.startswith("/v1.") else self.path
        answers: dict[str, Any] = {
            "/version": {"ApiVersion": "1.43", "Version": "28.5.2"},
            "/images/json": [],
            "/info": {"ServerVersion": "28.5.2", "Driver": "overlay2", "OSType": "linux"},
        }
        image = {"Id": IMAGE_ID, "Os": "linux", "Architecture": "amd64", "Size": 1000}
        if path == "/version" and self.server.silent:  # type: ignore[attr-defined]
            self.rfile.read(1)  # for as long as the client stays
        elif path.partition("?")[0] in answers:
            self.say(200, answers[path.partition("?")[0]])
        elif path.endswith("/history"):
            self.say(200, [{"Size": 1000, "CreatedBy": "COPY a b"}])
        elif path.startswith("/images/") and "gone" not in path:
            self.say(200, image | {"GraphDriver": {"Name": "overlay2"}, "RootFS": {"Layers": [DIFF_ID]}})
        elif path.startswith("/distribution/"):
            self.say(500, {"message": "dial tcp 127.0.0.1: connect: connection refused"})
        else:
            self.say(404, {"message": "No such image: gone:1"})

    def say(self, status: int, document: Any) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, *_: object) -> None: ...


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, DockerApi)
        self.paths: list[str] = []
        #: Whether it leaves the question after its version without an answer.
        self.silent = False


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass
class Stage:
    """Where a run happens: its environment, its folders, and what the stand-ins have seen."""

    folder: Path
    env: dict[str, str]
    server: UnixServer

    @property
    def paths(self) -> list[str]:
        return self.server.paths

    def as_on(self, name: str) -> "Stage":
        """With the environment of one of the files, whose paths lead into our folder."""
        lines = ENVIRONMENTS[name].read_text(encoding="utf-8").splitlines()
        pairs = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        ours = {name: value for name, value in self.env.items() if name != "DOCKER_TLS_VERIFY"}
        for variable in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV", "BASH_ENV"):
            if variable in pairs:
                pairs[variable] = str(self.folder / variable)
        if "AGENT_TEMPDIRECTORY" in pairs:
            pairs["AGENT_TEMPDIRECTORY"] = str(self.folder / "agent")
        dropped = ("DOCKER_", "HOME", "PATH", "TMPDIR", "XDG_", "LOCAL_")
        pairs = {name: value for name, value in pairs.items() if not name.startswith(dropped)}
        return Stage(self.folder, pairs | ours, self.server)

    def start(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        return fork_server.start(
            fork_server.command(*(arguments or ("run",))),
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def run(self, *arguments: str, code: int = 0, **env: str) -> Ran:
        process = self.start(*arguments, **env)
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert process.returncode == code, out + err
        assert "Traceback" not in err
        return Ran(process.returncode, out, err)

    def ssh(self) -> list[tuple[list[str], dict[str, str], dict[str, Any]]]:
        """Every call of ssh: its words, its options, and the files that those name as they were then."""
        file = self.folder / "ssh.record"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    def agent(self) -> list[tuple[list[str], str]]:
        file = self.folder / "agent.record"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def temporary(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "tmp").rglob("*"))


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "deploy", "-f", path], check=True)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def stage(key: str) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-")))
        for name in ("bin", "home", "tmp", "agent"):
            (folder / name).mkdir()
        for name, text in (("ssh", SSH), ("buildkite-agent", AGENT)):
            (folder / "bin" / name).write_text(text.format(python=sys.executable), encoding="utf-8")
            (folder / "bin" / name).chmod(0o755)
        server = stack.enter_context(UnixServer(str(folder / "docker.sock")))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        env = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "DOCKER_HOST": f"unix://{folder / 'docker.sock'}",
            "FAKE_SSH_RECORD": str(folder / "ssh.record"),
            "FAKE_AGENT_RECORD": str(folder / "agent.record"),
            "LAYERFERRY_IMAGES": "app:1",
            "LAYERFERRY_TARGETS": "deploy@web.example",
            "LAYERFERRY_SSH_KEY": key,
            "LAYERFERRY_SSH_KNOWN_HOSTS": KNOWN_HOSTS,
            "LAYERFERRY_NGROK_AUTHTOKEN": TOKEN,
            "LAYERFERRY_RETRIES": "1",
        }
        made = Stage(folder, env, server)
        yield made
        assert made.temporary() == []


# Another try.


def test_who_is_refused_in_a_crowd_comes_again_and_says_so(stage: Stage) -> None:
    ran = stage.run(FAKE_SSH="crowd 1")
    assert len((stage.folder / "ssh.record").read_text().splitlines()) == 2
    assert "kex_exchange_identification: read: Connection reset by peer); tried again in" in ran.out


def test_no_more_tries_are_made_than_are_allowed(stage: Stage) -> None:
    ran = stage.run(FAKE_SSH="crowd 9", code=4)
    assert len((stage.folder / "ssh.record").read_text().splitlines()) == 2
    assert "MaxStartups" in ran.err


def test_a_key_that_is_refused_is_not_tried_again(stage: Stage) -> None:
    ran = stage.run(FAKE_SSH="refuse", code=4)
    assert len((stage.folder / "ssh.record").read_text().splitlines()) == 1
    assert "tried again" not in ran.out


# Each CI's way, on each environment that we know of.

#: How a group opens; plain where a CI has none.
GROUPS = {
    "github": "::group::layerferry",
    "gitea": "::group::layerferry",
    "forgejo": "::group::layerferry",
    "gitlab": "\x1b[0Ksection_start:",
    "azure": "##[group]layerferry",
    "buildkite": "--- layerferry",
    "teamcity": "##teamcity[blockOpened name='layerferry']",
}
#: Files whose provider is not the first word of their name.
ODD = {"teamcity-wrapper": "teamcity", "none-switched-off": "none"}


def provider_of(name: str) -> str:
    return ODD.get(name, name.partition("-")[0])


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_gets_its_dialect(
    name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, for they are many."""
    there = stage.as_on(name)
    for variable in os.environ:
        monkeypatch.delenv(variable)
    for variable, value in there.env.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(tempfile, "tempdir", there.env["TMPDIR"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(SystemExit) as ended:
            main(["run"])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    captured = capsys.readouterr()
    assert ended.value.code == 0, captured.out + captured.err
    lines = captured.out.splitlines()
    is_mask = [line.startswith(("::add-mask::", "##vso[task.setsecret]")) for line in lines]
    first = is_mask.index(False)
    assert not any(is_mask[first:]), "masks come before any other output"
    masks_itself = provider_of(name) in {"github", "gitea", "forgejo", "azure"}
    assert bool(first) is masks_itself
    assert lines[first].startswith(GROUPS.get(provider_of(name), "layerferry"))
    # No secret is told to a log that does not hide it.
    assert (TOKEN in captured.out) is masks_itself
    assert TOKEN not in "\n".join(lines[first:])
    assert "app:1 is sha256:1f1f1f1f1f1f…, verified on deploy@web.example" in captured.out


ERRORS = {
    "github-vm": "::error title=layerferry::cannot connect to deploy@web.example: it refused our authentication",
    "gitea-host": "::error title=layerferry::cannot connect to deploy@web.example: it refused our authentication",
    "forgejo-dind": "::error title=layerferry::cannot connect to deploy@web.example: it refused our authentication",
    "gitlab-shell": "layerferry: cannot connect to deploy@web.example: it refused our authentication",
    "circleci-machine": "layerferry: cannot connect to deploy@web.example: it refused our authentication",
    "azure-vm": "##vso[task.logissue type=error]cannot connect to deploy@web.example: it refused our authentication",
    "buildkite-machine": "layerferry: cannot connect to deploy@web.example: it refused our authentication",
    "teamcity-agent": "##teamcity[buildProblem description='cannot connect to deploy@web.example: it refused our",
    "jenkins-agent": "layerferry: cannot connect to deploy@web.example: it refused our authentication",
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_failure_is_annotated_as_the_ci_wants_it(name: str, stage: Stage) -> None:
    there = stage.as_on(name)
    ran = there.run(FAKE_SSH="refuse", code=4)
    (error,) = (line for line in ran.lines if line.startswith(ERRORS[name]))
    assert "Permission denied (publickey)" in error
    hint = "Check the user name and the key"
    assert hint in ran.out
    if name == "buildkite-machine":
        words, text = next(call for call in there.agent() if "error" in call[0])
        assert words[:3] == ["annotate", "--style", "error"]
        assert hint in text


def test_github_gets_a_summary_and_outputs(stage: Stage) -> None:
    there = stage.as_on("github-vm")
    ran = there.run(LAYERFERRY_TARGETS="deploy@web.example, root@db.example:2222")
    summary = there.read("GITHUB_STEP_SUMMARY")
    assert summary.startswith("### layerferry: 2 done in ")
    assert "| ✅ | `app:1` | `root@db.example:2222` | " in summary
    outputs = read_outputs(there.read("GITHUB_OUTPUT"))
    assert outputs["image-id"] == IMAGE_ID
    assert outputs["targets"] == "deploy@web.example,root@db.example:2222"
    assert (outputs["layers-sent"], outputs["layers-reused"], outputs["bytes-image"]) == ("0", "2", "2000")
    assert int(outputs["bytes-sent"]) > 0
    assert ran.lines[-1] == "::endgroup::"


def read_outputs(text: str) -> dict[str, str]:
    """As the runner reads GITHUB_OUTPUT."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, _, end = line.partition("<<")
        found[name] = "\n".join(iter(lambda: next(lines), end))
    return found


def test_the_summary_can_be_switched_off(stage: Stage) -> None:
    there = stage.as_on("github-vm")
    there.run(LAYERFERRY_SUMMARY="false")
    assert not (there.folder / "GITHUB_STEP_SUMMARY").exists()
    assert (there.folder / "GITHUB_OUTPUT").exists()


def test_a_failed_target_stands_in_the_summary_and_the_outputs_tell_the_others(stage: Stage) -> None:
    there = stage.as_on("github-vm")
    there.run(FAKE_SSH="refuse", code=4)
    assert "❌" in there.read("GITHUB_STEP_SUMMARY")
    assert read_outputs(there.read("GITHUB_OUTPUT"))["targets"] == ""


def test_a_dry_run_leaves_no_summary_and_no_outputs(stage: Stage) -> None:
    there = stage.as_on("github-vm")
    ran = there.run("run", "--dry-run")
    assert "dry run: nothing was sent" in ran.out
    assert not (there.folder / "GITHUB_STEP_SUMMARY").exists()
    assert not (there.folder / "GITHUB_OUTPUT").exists()


def test_circleci_gets_variables_for_later_steps(stage: Stage) -> None:
    there = stage.as_on("circleci-classic")
    there.run()
    shell = 'set -eu; . "$1"; echo "$LAYERFERRY_OUTPUT_IMAGE_ID $LAYERFERRY_OUTPUT_TARGETS"'
    shown = subprocess.run(
        ["sh", "-c", shell, "sh", str(there.folder / "BASH_ENV")], check=True, capture_output=True, text=True
    )
    assert shown.stdout.split() == [IMAGE_ID, "deploy@web.example"]


def test_any_ci_gets_a_dotenv_file_on_request(stage: Stage) -> None:
    stage.as_on("gitlab-shell").run(LAYERFERRY_DOTENV=str(stage.folder / "out.env"))
    assert f"LAYERFERRY_OUTPUT_IMAGE_ID={IMAGE_ID}\n" in stage.read("out.env")


def test_azure_and_teamcity_and_buildkite_get_theirs(stage: Stage) -> None:
    azure = stage.as_on("azure-vm").run()
    assert f"##vso[task.setvariable variable=image_id;isoutput=true]{IMAGE_ID}" in azure.lines
    (upload,) = (line for line in azure.lines if line.startswith("##vso[task.uploadsummary]"))
    assert "### layerferry: 1 done" in Path(upload.partition("]")[2]).read_text(encoding="utf-8")
    teamcity = stage.as_on("teamcity-agent").run()
    assert f"##teamcity[setParameter name='layerferry.image-id' value='{IMAGE_ID}']" in teamcity.lines
    buildkite = stage.as_on("buildkite-machine")
    buildkite.run()
    calls = buildkite.agent()
    assert (["meta-data", "set", "layerferry-image-id"], IMAGE_ID) in calls
    masked = [text for words, text in calls if words == ["redactor", "add"]]
    assert TOKEN in masked
    # The values go through stdin, and before anything that could show them.
    assert [words[0] for words, _ in calls[: len(masked)]] == ["redactor"] * len(masked)


def test_json_is_all_of_stdout_and_the_dialect_goes_to_stderr(stage: Stage) -> None:
    ran = stage.as_on("github-vm").run("run", "--json")
    (result,) = json.loads(ran.out)["results"]
    assert result["verified"] is True
    assert "::group::layerferry" in ran.err
    assert result["route"] == {"name": "none", "reason": "nothing had to be read"}


# The ssh key and known hosts.


def test_key_and_known_hosts_are_private_while_ssh_runs_and_the_key_is_on_no_disk(stage: Stage, key: str) -> None:
    stage.run()
    ((_, options, files),) = stage.ssh()
    assert options["IdentitiesOnly"] == "yes"
    assert options["StrictHostKeyChecking"] == "yes"
    for name, content in (("IdentityFile", key), ("UserKnownHostsFile", KNOWN_HOSTS)):
        path, mode, text = files[name]
        assert (mode, text) == (0o600, content)
        assert Path(path).is_relative_to("/proc" if name == "IdentityFile" else stage.folder / "tmp")
        assert not Path(path).exists()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "LAYERFERRY_SSH_KEY is empty"),
        ("ssh-ed25519 AAAAC3Nza deploy", "LAYERFERRY_SSH_KEY holds a public key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "LAYERFERRY_SSH_KEY holds a key that is cut off"),
    ],
)
def test_a_key_that_is_none_is_refused_before_ssh_starts(stage: Stage, value: str, sentence: str) -> None:
    ran = stage.as_on("github-vm").run(LAYERFERRY_SSH_KEY=value, code=2)
    assert f"::error title=layerferry::{sentence}" in ran.out
    assert stage.ssh() == []


@pytest.mark.parametrize("name", ["disk-1", "ssh-key", "ecdsa-deploy", "BEGIN"])
def test_a_path_may_look_a_little_like_a_key(stage: Stage, key: str, name: str) -> None:
    path = stage.folder / name
    path.write_text(key, encoding="utf-8")
    stage.run(LAYERFERRY_SSH_KEY=str(path))
    ((_, _, files),) = stage.ssh()
    assert files["IdentityFile"][2] == key


def test_known_hosts_that_are_none_are_refused(stage: Stage) -> None:
    ran = stage.run(LAYERFERRY_SSH_KNOWN_HOSTS="not a line of it", code=2)
    assert "LAYERFERRY_SSH_KNOWN_HOSTS" in ran.err
    assert stage.ssh() == []


def test_accepting_new_host_keys_has_to_be_said(stage: Stage) -> None:
    del stage.env["LAYERFERRY_SSH_KNOWN_HOSTS"]
    stage.run()
    stage.run(LAYERFERRY_SSH_ACCEPT_NEW_HOST_KEY="true")
    silent, said = (options for _, options, _ in stage.ssh())
    assert "StrictHostKeyChecking" not in silent
    assert said["StrictHostKeyChecking"] == "accept-new"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_is_left_after_a_signal(stage: Stage, number: signal.Signals) -> None:
    process = stage.start(FAKE_SSH="hang")
    wait_until(lambda: any("images" in path for path in stage.paths) and bool(stage.ssh()), "it has not begun")
    assert any(name.startswith("layerferry-run-") for name in stage.temporary())
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in out + err
    assert "Traceback" not in err
    assert stage.temporary() == []


def test_a_killed_run_leaves_no_key_and_the_next_one_sweeps_and_says_so(stage: Stage, key: str) -> None:
    process = stage.start(FAKE_SSH="hang")
    wait_until(lambda: bool(stage.ssh()), "no ssh")
    process.kill()
    process.communicate(timeout=20)
    left = [path for path in (stage.folder / "tmp").rglob("*") if path.is_file()]
    assert "known_hosts" in {path.name for path in left}
    assert not [path for path in left if key.splitlines()[1] in path.read_text(encoding="utf-8")]
    ran = stage.run()
    (line,) = [line for line in ran.lines if "earlier runs" in line]
    assert line.endswith(f"which were killed, had left in {stage.folder / 'tmp'}")


@pytest.mark.parametrize("where", ["circleci-machine", "buildkite-machine"])
def test_no_child_gets_a_secret_of_ours_under_any_name(stage: Stage, key: str, where: str) -> None:
    """ssh hands on what its SendEnv says, and so do ProxyCommands and whatever else is started by it."""
    secrets = {"DEPLOY_KEY": key, "NGROK_AUTHTOKEN": TOKEN, "DOCKER_AUTH_CONFIG": '{"auths": {}}', "MINE": f"x={TOKEN}"}
    there = stage.as_on(where)
    there.run(**secrets, DOCKER_REGISTRY_NGROK="true", layerferry_jobs="3", code=0)
    dumps = [line for file in stage.folder.glob("*.env") for line in file.read_text().splitlines()]
    assert len(dumps) >= (2 if "buildkite" in where else 1)
    for dump in dumps:
        told = json.loads(dump)
        assert {"PATH", "HOME", "TMPDIR"} <= told.keys()
        assert not [name for name in told if name.upper().startswith("LAYERFERRY_")]
        assert not secrets.keys() & told.keys()
        assert TOKEN not in dump
        assert key.splitlines()[1] not in dump


def wait_for_version(stage: Stage, process: "subprocess.Popen[str]") -> None:
    wait_until(lambda: "/version" in stage.paths or process.poll() is not None, "nobody asks for the version")
    time.sleep(0.2)


def test_a_signal_is_heard_while_the_engine_is_being_asked_for_its_version(stage: Stage) -> None:
    stage.server.silent = True
    process = stage.start()
    wait_for_version(stage, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err


def test_so_is_the_timeout(stage: Stage) -> None:
    stage.server.silent = True
    assert "gave up after 2 s" in stage.run(LAYERFERRY_TIMEOUT="2", code=4).err


@pytest.mark.parametrize("targets", ["deploy@web.example", "deploy@web.example root@db.example"])
def test_the_timeout_bounds_all_of_it(stage: Stage, targets: str) -> None:
    ran = stage.as_on("github-vm").run(FAKE_SSH="hang", LAYERFERRY_TIMEOUT="2.5", LAYERFERRY_TARGETS=targets, code=4)
    assert "::error title=layerferry::gave up after 2.5 s" in ran.out
    assert "LAYERFERRY_TIMEOUT" in ran.out


# What is said of the settings.


def test_without_images_or_targets_it_says_what_to_set(stage: Stage) -> None:
    for missing in ("LAYERFERRY_IMAGES", "LAYERFERRY_TARGETS"):
        ran = stage.as_on("github-vm").run(**{missing: ""}, code=2)
        assert "::error title=layerferry::LAYERFERRY_IMAGES and LAYERFERRY_TARGETS must say" in ran.out
    assert stage.ssh() == []


def test_several_mistakes_are_told_at_once_each_with_its_variable_and_no_secret(stage: Stage) -> None:
    mistakes = {
        "LAYERFERRY_ROUTE": "tunel",
        "LAYERFERRY_TIMEOUT": "soon",
        "LOCAL_DOCKER_REGISTRY_PORT": "70000",
        "LAYERFERRY_COMPRESSION": "lzma",
        "LAYERFERRY_SUMMARY": "perhaps",
    }
    ran = stage.run(**mistakes, code=2)
    for variable in mistakes:
        assert f"{variable}: " in ran.err
    assert TOKEN not in ran.out + ran.err


def test_a_mistake_in_the_settings_is_annotated_too(stage: Stage) -> None:
    ran = stage.as_on("github-vm").run(LAYERFERRY_ROUTE="tunel", code=2)
    assert "::error title=layerferry::LAYERFERRY_ROUTE: " in ran.out


def test_an_image_that_is_not_there_is_an_error_of_the_source(stage: Stage) -> None:
    ran = stage.as_on("github-vm").run(LAYERFERRY_IMAGES="gone:1", code=3)
    assert "::error title=layerferry::the docker daemon at unix://" in ran.out
    assert "has no image gone:1" in ran.out


def test_print_config_shows_each_setting_once_with_its_source_and_no_secret(stage: Stage, key: str) -> None:
    del stage.env["LAYERFERRY_NGROK_AUTHTOKEN"]
    ran = stage.run("run", "--print-config", NGROK_AUTHTOKEN=TOKEN, DOCKER_REGISTRY_NGROK=TOKEN, LAYERFERRY_ROUTE="")
    shown = dict(line.split("=", 1) for line in ran.lines)
    assert list(shown) == [variables(field.name)[0] for field in FIELDS]
    assert shown["LAYERFERRY_NGROK_AUTHTOKEN"] == "***  # NGROK_AUTHTOKEN"
    assert shown["LAYERFERRY_DOCKER_REGISTRY_NGROK"] == "***  # DOCKER_REGISTRY_NGROK"
    assert shown["LAYERFERRY_SSH_KEY"] == "***  # LAYERFERRY_SSH_KEY"
    assert shown["LAYERFERRY_IMAGES"] == "app:1  # LAYERFERRY_IMAGES"
    assert shown["LAYERFERRY_COMPRESSION"] == "auto  # default"
    assert shown["LAYERFERRY_SSH_KNOWN_HOSTS"].endswith("  # LAYERFERRY_SSH_KNOWN_HOSTS")
    for secret in (TOKEN, *(line for line in key.splitlines() if not line.startswith("-"))):
        assert secret not in ran.out + ran.err
    assert stage.ssh() == []


def test_several_known_hosts_stay_on_one_line_of_print_config(stage: Stage) -> None:
    ran = stage.run("run", "--print-config", LAYERFERRY_SSH_KNOWN_HOSTS=KNOWN_HOSTS * 2)
    assert len(ran.lines) == len(FIELDS)


def test_the_command_line_has_no_secret_of_the_environment(stage: Stage) -> None:
    """What ssh is called with names files, and never what is in them."""
    stage.run()
    words = " ".join(word for call, _, _ in stage.ssh() for word in call)
    for secret in (TOKEN, *(line for line in stage.env["LAYERFERRY_SSH_KEY"].splitlines() if line)):
        assert secret not in words
