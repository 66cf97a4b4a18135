"""What a source that is not what it seems once made of a real engine: here its words are refused, in each way to it.

Seen before: all volumes gone, another name moved, a stranger's Dockerfile run as root; exit 0, also in a dry run.
"""

from collections.abc import Iterator

import pytest

from contract.fake_engine import ask, load, preamble
from engines.test_failures import EACH_WAY
from engines.test_push_scene import Scene, unchanged
from layerferry.targets.conduit import BOOTSTRAP
from rig import Containerd, Engine

TARGETS = (*EACH_WAY, "containerd2")
pytestmark = pytest.mark.kinds(target=TARGETS)
VICTIM = "victim:prod"
INCOMING = "localhost/layerferry:6926f3a1-0123456789abcdef"
PATHS = (
    "../volumes/prune?x=", "../build?remote=http://127.0.0.1:1/x.tar&networkmode=host", "../containers/create?name=x",
    "sha256:../../volumes/prune", "-f", "$(touch /owned)", "`touch /owned`",
)  # fmt: skip


def words(target: Engine, said: bytes) -> list[str]:
    """What the host script answers to a whole session on the target's machine."""
    command = BOOTSTRAP.removeprefix("exec sh -c '").removesuffix("'")
    return target.machine.run("sh", "-c", f"( {command} ) || :", stdin=preamble() + said).splitlines()


@pytest.fixture
def victim(scene: Scene) -> Iterator[tuple[Engine, str, str]]:
    """An engine with a volume and two images, of which one has a name to lose; its images' IDs."""
    target, shop = scene.target, scene.rig.workshop
    for name in (VICTIM, "other:1"):
        target.load(shop.archive({f"docker.io/library/{name}": shop.image([scene.layer(name=name)])}))
    volumes = [] if isinstance(target, Containerd) else [target.docker("volume", "create")]
    with unchanged(target):
        names = {name.removeprefix("docker.io/library/"): image for name, image in target.images().items()}
        yield target, names[VICTIM], names["other:1"]
    if volumes:
        assert target.docker("volume", "ls", "-q").split() == volumes
        target.docker("volume", "rm", *volumes)
    assert not target.machine.path("/owned").exists()


def verbs(path: str, image: str) -> tuple[str, ...]:
    """Every line in which a client's words go on to the engine, with `path` in the place of one."""
    return (f"tag {path} a:b", f"tag {image} {path}:b", f"learn {path} {path} a b", f"expect {path}", f"load {path}")


def test_no_word_leads_to_another_request_or_command(victim: tuple[Engine, str, str]) -> None:
    """Each path in each line: the engines share them out, so that every one gets all paths, and all lines."""
    target, image, other = victim
    engine = ("engine ctr",) if isinstance(target, Containerd) else ("engine",)
    turn = TARGETS.index(target.name)
    for number, path in enumerate(PATHS):
        lines = verbs(path, image)
        line = lines[(number + turn) % len(lines)]
        said = words(target, ask({image: [other]}, *engine) + f"{line}\ndone\n".encode())
        assert said[-1].startswith("failed "), line
        asked = ask({}, *engine).removesuffix(b"end\n") + f"image {path}\nend\n".encode()
        assert words(target, asked)[-1].startswith("failed "), path


def test_the_engines_share_out_all_pairs_of_path_and_line() -> None:
    count = len(verbs("", ""))
    pairs = {(path, (n + turn) % count) for turn in range(len(TARGETS)) for n, path in enumerate(PATHS)}
    assert len(pairs) == len(PATHS) * count


def test_no_name_moves_to_an_image_that_was_not_offered_nor_in_a_dry_run(victim: tuple[Engine, str, str]) -> None:
    target, image, other = victim
    engine = ("engine ctr",) if isinstance(target, Containerd) else ("engine",)
    move = f"tag {other} docker.io/library/{VICTIM}\ndone\n".encode()
    said = words(target, ask({image: [image]}, *engine) + move)
    assert said[-1] == f"failed tag {other} is not there"
    dry = words(target, ask({other: [other]}, *engine, "dry-run") + move)
    assert dry[-1] == "failed protocol tag has no place here"
    early = f"expect {INCOMING} {image}\ntag {INCOMING} docker.io/library/{VICTIM}\ndone\n".encode()
    assert words(target, ask({image: [image]}, *engine) + early)[-1] == "failed protocol tag has no place here"
    late = load({INCOMING: [image]}, [b"no archive"]) + f"tag {INCOMING} docker.io/library/{VICTIM}\ndone\n".encode()
    assert words(target, ask({image: [image]}, *engine) + late)[-1].startswith("failed load")
