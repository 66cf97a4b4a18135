import pytest

from layerferry.errors import UsageError
from layerferry.oci.image import Layer, Name, Platform, chain_ids, digest_of, is_image_id, may_be_image_id

A, B = (f"sha256:{letter * 64}" for letter in "ab")


def test_the_bottom_layer_has_its_diff_id_for_chain_id() -> None:
    assert chain_ids([A]) == (A,)


def test_a_chain_id_takes_all_layers_below_in() -> None:
    assert chain_ids([A, B]) == (A, digest_of(f"{A} {B}".encode()))
    assert chain_ids([B, A])[1] != chain_ids([A, B])[1]


def test_layers_carry_their_chain_ids() -> None:
    layers = Layer.chain([A, B], [1, 2])
    assert [layer.chain_id for layer in layers] == list(chain_ids([A, B]))
    assert [layer.size for layer in layers] == [1, 2]


@pytest.mark.parametrize(
    ("text", "tagged", "familiar"),
    [
        ("app", "docker.io/library/app:latest", "app:latest"),
        ("app:2", "docker.io/library/app:2", "app:2"),
        ("team/app:2", "docker.io/team/app:2", "team/app:2"),
        ("index.docker.io/app", "docker.io/library/app:latest", "app:latest"),
        ("localhost/app:1", "localhost/app:1", "localhost/app:1"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("ghcr.io/a/b__c/d-e:v1.2_x", "ghcr.io/a/b__c/d-e:v1.2_x", "ghcr.io/a/b__c/d-e:v1.2_x"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "127.0.0.1:5000/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        (f"app:2@{A}", "docker.io/library/app:2", "app:2"),
    ],
)
def test_names_are_normalised_as_docker_does(text: str, tagged: str, familiar: str) -> None:
    name = Name.parse(text)
    assert (name.tagged, name.familiar) == (tagged, familiar)


@pytest.mark.parametrize(
    "text", ["", "App", "a b", "-a", "app:", "a//b", "app@sha256:12", "app:2;rm -rf", "$(id)", "a\nb"]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Name.parse(text)


def test_an_upper_case_name_is_told_its_rule() -> None:
    with pytest.raises(UsageError) as caught:
        Name.parse("App/One")
    assert caught.value.hint == "Names are lower case."


@pytest.mark.parametrize("text", ["0123456789ab", A, "f" * 64])
def test_image_ids_are_told_from_names(text: str) -> None:
    assert is_image_id(text)


@pytest.mark.parametrize("text", ["cafe", "app:2", "0123456789ag"])
def test_short_or_other_words_are_no_image_ids(text: str) -> None:
    assert not is_image_id(text)


@pytest.mark.parametrize("text", ["cafe", "9f2c41", "a", "sha256:9f2c", A, "f" * 64])
def test_what_may_be_the_beginning_of_an_image_id_is_known(text: str) -> None:
    assert may_be_image_id(text)


@pytest.mark.parametrize("text", ["cafe:1", "Cafe", "library/cafe", "cafes", "a" * 65, ""])
def test_what_cannot_be_one_is_too(text: str) -> None:
    assert not may_be_image_id(text)


def test_uname_and_go_mean_the_same_machine() -> None:
    assert Platform.parse("linux/x86_64") == Platform.parse("linux/amd64")
    assert str(Platform.parse("Linux/aarch64")) == "linux/arm64"


@pytest.mark.parametrize(
    ("told", "platform"),
    [
        ("armv5tel", "arm/v5"), ("armv6l", "arm/v6"), ("armv7l", "arm/v7"), ("armv8l", "arm/v8"), ("armhf", "arm/v7"),
        ("i586", "386"), ("i686", "386"), ("loongarch64", "loong64"), ("riscv64", "riscv64"), ("ppc64le", "ppc64le"),
        ("s390x", "s390x"), ("arm64", "arm64"), ("amd64/x86_64", "amd64"), ("386/x86_64", "386"),
        ("arm64/arm64", "arm64"),
        ("arm/aarch64", "arm/v8"), ("arm/armv7l", "arm/v7"), ("arm/armv6l", "arm/v6"), ("arm/v6", "arm/v6"),
        ("arm64/v8", "arm64/v8"), ("amd64/v3", "amd64/v3"), ("riscv64/riscv64", "riscv64"),
    ],
)  # fmt: skip
def test_each_machine_is_a_platform_of_oci(told: str, platform: str) -> None:
    """As `uname -m` says it, alone or behind the engine's own word for itself, which may be of fewer bits."""
    assert str(Platform.parse(f"Linux/{told}")) == f"linux/{platform}"


@pytest.mark.parametrize(
    ("host", "image", "runs"),
    [
        ("arm64", "arm64/v8", True), ("amd64", "arm64", False), ("amd64", "amd64/v3", True), ("arm64", "arm/v7", False),
        ("armv6l", "arm/v6", True), ("armv6l", "arm/v5", True), ("armv6l", "arm/v7", False), ("armv6l", "arm", True),
        ("armv7l", "arm/v7", True), ("armv7l", "arm/v8", False), ("arm", "arm/v7", True),
        ("arm/aarch64", "arm/v7", True),
        ("arm/aarch64", "arm64", False), ("386/x86_64", "amd64", False), ("386/x86_64", "386", True),
    ],
)  # fmt: skip
def test_a_host_runs_what_is_built_for_it_or_less(host: str, image: str, runs: bool) -> None:
    assert Platform.parse(f"linux/{host}").runs(Platform.parse(f"linux/{image}")) is runs


@pytest.mark.parametrize("text", ["linux", "linux/", "/amd64", "a/b/c/d", ""])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a platform"):
        Platform.parse(text)


@pytest.mark.parametrize("text", ["app:ñ", "app:\u0661", "a..b/x:1", "a.-b/x:1", ".a/x:1", "a-.b/x:1", "app:1\n"])
def test_what_docker_would_refuse_is_no_name_before_anybody_is_asked(text: str) -> None:
    with pytest.raises(UsageError, match="is not an image name"):
        Name.parse(text)


@pytest.mark.parametrize("text", ["app:1..2", "app:_", "a-b.c--d.example:5000/x:1", "localhost/x", "[::1]:5000/x:1"])
def test_what_docker_takes_is_a_name(text: str) -> None:
    assert Name.parse(text).tagged.endswith(text.rpartition("/")[2] if ":" in text.rpartition("/")[2] else ":latest")
