"""The mistakes that people make: each is told in one sentence, with what to write, before anything connects."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import layerferry.context
import layerferry.targets.address
from layerferry.ci.cures import without_daemon, without_image
from layerferry.ci.ssh_identity import read_key, read_known_hosts
from layerferry.cli import main
from layerferry.cli.push_command import _advise
from layerferry.doctor import Findings, _find_target
from layerferry.errors import LayerferryError, MissingImageError, SourceError, UsageError
from layerferry.mistakes import of_image, of_target, shown, without_password
from layerferry.named_targets import Names
from layerferry.push.delivery import Delivery
from layerferry.push.fan_out import _failed
from layerferry.push.request import NO_ROUTE, Options, Wanted
from layerferry.report import QuietReport
from layerferry.result import Result, exit_code, failures
from layerferry.settings.values import Settings
from layerferry.targets.address import Ssh, Target
from layerferry.targets.link import Link
from layerferry.targets.ssh_failures import explain

ORDER = "The images come first, then the target"

#: Words of `layerferry push`, a part of the sentence, and a part of what it says to do.
PUSH = [
    # the target before the image
    ("deploy@prod app:2", "'deploy@prod' is a target, and stands before the image", "push app:2 deploy@prod"),
    ("ssh://prod app:2", "'ssh://prod' is a target, and stands before the image", "push app:2 ssh://prod"),
    ("prod app:latest", "'app:latest' is no target: 'latest' is no port", ORDER),
    ("prod team/app:1", "'team/app:1' is no host: it has a path, as an image has",
     f"{ORDER}: layerferry push team/app:1 prod. Write a host"),
    ("team/app:1 team/web:1", "'team/web:1' is no host", f"{ORDER}: layerferry push team/app:1 team/web:1 HOST. Write"),
    ("app:1 team/web:1 --to eu --to a@us", "'team/web:1' is no host",
     "The last word is a target, beside --to as well: layerferry push app:1 team/web:1 eu --to a@us."),
    ("app:1 registry://r.example.com --via team/web:1", "'team/web:1' is no host", "  Write a host as"),
    # a second host as a word
    ("app:2 deploy@a deploy@b", "'deploy@a' is a target, and stands where an image", "deploy@b --to deploy@a"),
    # a registry without registry://
    ("app:2 registry.example.com/app", "is no host: it has a path, as a registry has",
     "registry://registry.example.com/app"),
    ("app:2 registry.example.com:5000/team", "as a registry has", "registry://registry.example.com:5000/team"),
    ("app:2 localhost:5000/team", "as a registry has", "registry://localhost:5000/team"),
    ("app:2 https://registry.example.com/app", "as a registry has", "registry://registry.example.com/app"),
    ("app:2 ssh://deploy@prod/srv", "is no target: it has a path", "Write ssh://deploy@prod; the engine"),
    ("app:2 ssh://tgt/var/run/docker.sock", "is no target: it has a path", "Write ssh://tgt; the engine"),
    ("app:2 ssh://10.0.0.5:22/run/docker.sock", "is no target: it has a path", "Write ssh://10.0.0.5:22; the"),
    # variables that nobody has expanded, or that are empty
    ("app:$CI_COMMIT_SHA prod", "the image 'app:$CI_COMMIT_SHA' holds $CI_COMMIT_SHA, which", "single quotes"),
    ("app:${TAG} prod", "holds ${TAG}, which nobody has expanded", "a CI leaves it as it is"),
    ("app:${{github.sha}} prod", "holds ${{github.sha}}, which nobody has expanded", "in the CI's own file"),
    ("app:$(Build.BuildId) prod", "holds $(Build.BuildId), which nobody has expanded", "Azure"),
    ("app:%TAG% prod", "holds %TAG%, which nobody has expanded", "quotes"),
    ("app:2 $HOST", "the target '$HOST' holds $HOST, which nobody has expanded", "single quotes"),
    ("app:2 deploy@${{secrets.HOST}}", "holds ${{secrets.HOST}}, which nobody has expanded", "CI's own file"),
    ("app:2 @prod", "there is no user before the @ in '@prod'", "A variable may be empty"),
    ("app:2 deploy@", "there is no host in 'deploy@'", "A variable may be empty"),
    ("app:2 :22", "there is no host in ':22'", "A variable may be empty"),
    ("app: prod", "there is no tag behind the : in 'app:'", "A variable may be empty"),
    ("registry.example.com/app: prod", "there is no tag behind the :", "A variable may be empty"),
    (":2 prod", "there is no name in ':2'", "A variable may be empty"),
    # other words for what there is
    ("./image.tar prod", "'./image.tar' is a path", "archive:PATH"),
    ("https://registry.example.com/app prod", "is a web address", "registry:HOST/NAME:TAG"),
    ("App:2 prod", "'App:2' is not an image name", "lower case"),
]  # fmt: skip


#: The same of other commands.
OTHERS = [
    ("rollback team/app tgt", "'team/app' is no host: it has a path, as an image has",
     "The targets come first, then the name: layerferry rollback tgt team/app. Write a host"),
    ("rollback app:latest deploy@prod", "'deploy@prod' is a target, and stands where an image is wanted",
     "The targets come first, then the name: layerferry rollback deploy@prod app:latest."),
    ("rollback app:latest team/app", "'app:latest' is no target: 'latest' is no port",
     "layerferry rollback HOST app:latest."),
    ("rollback app a@one b@two", "is a target, and stands", "layerferry rollback app a@one b@two IMAGE."),
    ("pull tgt team/app:1", "'team/app:1' is no host",
     "The images come first, then the host: layerferry pull team/app:1 tgt. Write a host"),
    ("pull app:1 root@a root@b", "'root@a' is a target, and stands where an image is wanted",
     "Images are pulled from one host, the last word: layerferry pull app:1 root@b."),
    ("pull root@a app:1", "'root@a' is a target, and stands", "then the host: layerferry pull app:1 root@a."),
    ("gc team/app:1", "'team/app:1' is no host", "  Write a host as"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layerferry.targets.address, "SshConduit", lambda *_, **__: pytest.fail("it has connected"))


@pytest.mark.parametrize(("words", "says", "hint"), PUSH, ids=[words for words, _, _ in PUSH])
def test_a_mistake_in_the_words_of_a_push(words: str, says: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["push", *words.split()])
    assert ended.value.code == UsageError.exit_code
    told = capsys.readouterr()
    assert told.out == ""
    first, *rest = told.err.splitlines()
    assert says in first
    assert hint in " ".join(rest)


@pytest.mark.parametrize(("words", "says", "hint"), OTHERS, ids=[words for words, _, _ in OTHERS])
def test_a_mistake_in_the_words_of_another_command(
    words: str, says: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == UsageError.exit_code
    first, *rest = capsys.readouterr().err.splitlines()
    assert says in first
    assert hint in " ".join(rest)
    assert "layerferry push" not in " ".join(rest)


@pytest.mark.parametrize("targets", ["app:latest", "team/app:2", "deploy@prod/x"])
def test_run_names_no_order_of_words(
    targets: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAYERFERRY_IMAGES", "app:1")
    monkeypatch.setenv("LAYERFERRY_TARGETS", targets)
    with pytest.raises(SystemExit):
        main(["run"])
    told = capsys.readouterr()
    assert "layerferry push" not in told.out + told.err


# A second host that is taken for an image.


def advised(word: str, images: list[str], error: LayerferryError, ssh_config: Path | None = None) -> str:
    """The hint of an error for an image, once advice was added twice."""
    error.image = word
    target = Target("blobs", Link.__new__(Link))
    results = _failed(Delivery([Wanted(image, ()) for image in images], Options(), lambda _: None), target, error)
    for _ in range(2):
        _advise(results, images=images, target="blobs", given={"config": None, "ssh_config": ssh_config})
    return error.hint


def missing(word: str, *tags: str) -> SourceError:
    error = MissingImageError(f"the docker daemon at /x has no image {word}", hint="Build or pull it first.")
    error.tags = tags
    return error


def test_a_bare_word_that_is_no_image_may_be_a_host(tmp_path: Path) -> None:
    images = ["lab/app:1", "tgt"]
    takes = "each target but the last takes --to: layerferry push lab/app:1 blobs --to tgt. Build or pull it first."
    assert advised("tgt", images, missing("tgt")) == f"If tgt is a host: {takes}"
    config = tmp_path / "config"
    config.write_text("Host tgt other\n  User deploy\n")
    assert advised("tgt", images, missing("tgt"), config) == f"tgt is a host of ssh_config, too: {takes}"


@pytest.mark.parametrize(
    ("word", "images", "error"),
    [
        ("lab/app:1", ["lab/app:1", "tgt"], missing("lab/app:1")),
        ("tgt", ["tgt"], missing("tgt")),
        ("tgt", ["app", "tgt"], missing("tgt", "tgt:1")),
        ("tgt", ["app", "tgt"], SourceError("the daemon does not answer")),
        ("composed", ["app", "tgt"], missing("composed")),
    ],
)
def test_what_is_no_bare_word_or_is_there_is_no_host(word: str, images: list[str], error: SourceError) -> None:
    before = error.hint
    assert advised(word, images, error) == before


def test_errors_are_advised_before_anybody_is_told_them(monkeypatch: pytest.MonkeyPatch) -> None:
    result = Result("tgt", "blobs", NO_ROUTE, error=missing("tgt"))

    def fan_out(*_: object, tell: Callable[[Sequence[Result]], None]) -> list[Result]:
        tell([result])
        return [result]

    monkeypatch.setattr(layerferry.context, "fan_out", fan_out)
    told: list[str] = []

    class Hears(QuietReport):
        def delivered(self, results: Sequence[Result]) -> None:
            told.append("delivered")

        def finish(self, results: Sequence[Result], seconds: float) -> None:
            told.append("finished")

    around = layerferry.context.Context.look(Settings(), {})
    around.push([], [], Options(), Hears(told.append), lambda _: told.append("advised"))
    assert told == ["advised", "delivered", "advised", "finished"]


@pytest.mark.parametrize("text", ["u:hush@host", "ssh://u:hush@host", "u:hush@host/app", "u:hush@"])
def test_a_password_is_not_repeated(text: str) -> None:
    assert "hush" not in shown(text)
    for mistake in (of_image(text), of_target(text)):
        assert mistake is None or "hush" not in mistake.message + mistake.hint


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("deploy:hush@prod", "deploy:***@prod"),
        (" ssh://deploy:hush@prod:22?engine=k3s", " ssh://deploy:***@prod:22?engine=k3s"),
        ("deploy:h@us/h?:@[::1]:22", "deploy:***@[::1]:22"),
        ("ssh://deploy%3Ahush@prod", "ssh://deploy%3A***@prod"),
        ("ssh://deploy:hush%40prod", "ssh://deploy:***%40prod"),
        ("registry://anna:hush@r:5000/team", "registry://***@r:5000/team"),
        ("registry:http://hush@r", "registry:http://***@r"),
        ("registry://anna:h@u/sh@r", "registry://***@r"),
        ("registry://r:5000/x?via=deploy:hush@b", "registry://r:5000/x?via=deploy:***@b"),
        ("registry://anna:hush@r?via=deploy%3Ahush@b", "registry://***@r?via=deploy%3A***@b"),
        ("https://anna:hush@r/app", "https://anna:***@r/app"),
    ],
)
def test_of_a_login_the_user_alone_is_shown(text: str, seen: str) -> None:
    assert without_password(text) == seen


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prod",
        "deploy@prod:22",
        "ssh://user%40corp@prod:22",
        "::1",
        "deploy@[::1]:22?engine=podman&as=root",
        "registry://r:5000/x?via=deploy@b:22",
        "registry.example:5000/app",
        "app:2@sha256:" + "a" * 64,
    ],
)
def test_where_there_is_no_login_all_is_shown(text: str) -> None:
    assert without_password(text) == text


@pytest.mark.parametrize("target", ["deploy:hush@prod", "ssh://deploy%3Ahush@prod", "registry://anna:hush@r"])
def test_neither_doctor_nor_the_name_of_a_target_nor_a_pull_shows_a_password(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = Findings()
    _find_target(findings, target, Ssh(), {})
    assert findings.exit_code == UsageError.exit_code
    assert "hush" not in str(findings)
    (tmp_path / "layerferry.toml").write_text(f'[targets]\nweb = "{target}"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "hush" not in Names(["web"]).job(["app"], ["web"]).told[0]
    with pytest.raises(SystemExit):
        main(["pull", "app", target])
    assert "hush" not in capsys.readouterr().err


def test_what_is_right_is_no_mistake() -> None:
    for image in ("app", "app:2", "host:5000/team/app:2", f"app@sha256:{'a' * 64}", "app:2@sha256:" + "a" * 64):
        assert of_image(image) is None, image
    for target in ("prod", "deploy@prod", "deploy@prod:22", "::1", "[::1]:22", "CORP\\ana@prod"):
        assert of_target(target) is None, target


def test_an_image_that_was_taken_for_a_host_is_told_where_that_has_no_address() -> None:
    said = "ssh: Could not resolve hostname app: Name or service not known"
    assert "If it is an image: a push and a pull end with the target" in explain("app:2", 255, said).hint
    assert "image" not in explain("app", 255, said).hint


# Keys.

KEYS = [
    ("***", "holds what a log shows in a secret's place", "own file"),
    ("[MASKED]", "holds what a log shows in a secret's place", "own file"),
    ("$SSH_KEY", "holds $SSH_KEY, which nobody has expanded", "single quotes"),
    ("${{ secrets.SSH_KEY }}", "holds ${{ secrets.SSH_KEY }}, which nobody has expanded", "CI's own file"),
    ("$(SSH_KEY)", "holds $(SSH_KEY), which nobody has expanded", "Azure"),
    (
        "~/.ssh/id",
        "names a file HOME/.ssh/id that cannot be read: No such file",
        "the path of a file that this job has",
    ),
    ("/no/such/key", "names a file /no/such/key that cannot be read", "the path of a file that this job has"),
]


@pytest.mark.parametrize(("value", "says", "hint"), KEYS, ids=[value for value, _, _ in KEYS])
def test_a_mistake_in_a_key(tmp_path: Path, value: str, says: str, hint: str) -> None:
    for read in (read_key, read_known_hosts):
        with pytest.raises(UsageError) as caught:
            read(value, setting="LAYERFERRY_X", home=tmp_path)
        assert "LAYERFERRY_X " + says.replace("HOME", str(tmp_path)) in caught.value.message
        assert hint in caught.value.hint


def test_a_key_under_the_home_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("host ssh-ed25519 AAAAC3Nza\n")
    assert read_known_hosts("~/hosts", setting="X", home=tmp_path) == "host ssh-ed25519 AAAAC3Nza\n"


# What a CI lacks.


@pytest.mark.parametrize(
    ("environ", "daemon", "image"),
    [
        ({"GITHUB_ACTIONS": "true"}, "/var/run/docker.sock", "load: true"),
        ({"GITLAB_CI": "true"}, "docker:dind", "--load"),
        ({"CIRCLECI": "true"}, "setup_remote_docker", "--load"),
        ({"BITBUCKET_BUILD_NUMBER": "1"}, "services: [docker]", "--load"),
        ({"TF_BUILD": "True"}, "target: host", "--load"),
        ({}, "", "--load"),
        ({"LAYERFERRY_CI": "no-such-ci"}, "", "--load"),
    ],
)
def test_each_ci_has_a_cure_of_its_own(environ: dict[str, str], daemon: str, image: str) -> None:
    assert daemon in without_daemon(environ)
    assert bool(daemon) == bool(without_daemon(environ))
    assert image in without_image(environ)


# Several images, of which one is missing.


def test_of_two_images_the_one_that_is_missing_is_blamed() -> None:
    error: LayerferryError = SourceError("the docker daemon has no image two:1")
    error.image = "two:1"
    target = Target("prod", Link.__new__(Link))
    delivery = Delivery([Wanted("one:1", ()), Wanted("two:1", ())], Options(), lambda _: None)
    results = _failed(delivery, target, error)
    one, two = (result.error for result in results)
    assert two is error
    assert one is not None
    assert one.message == "not pushed, for two:1 could not be"
    assert list(failures(results)) == [error]
    assert exit_code(results) == SourceError.exit_code
