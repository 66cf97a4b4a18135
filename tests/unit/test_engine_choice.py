"""Engines of targets as users name them."""

import pytest

from layerferry.errors import UsageError
from layerferry.targets.engine_choice import ENGINES, TargetEngine
from layerferry.targets.ssh_target import SshTarget


@pytest.mark.parametrize(
    "text",
    [
        *ENGINES,
        "k3s+pin",
        "root@ctr:k8s.io+pin",
        "+pin",
        "ctr:k8s.io",
        "k3s:k8s.io",
        "nerdctl:a-b_c.d1",
        "root@podman",
        "user@docker",
        "root@ctr:k8s.io",
        "root@",
    ],
)
def test_an_engine_is_shown_as_it_was_written(text: str) -> None:
    assert str(TargetEngine.parse(text)) == text
    assert TargetEngine.of_query(TargetEngine.parse(text).query) == TargetEngine.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is one of docker, podman, k3s, rke2, k0s, microk8s, ctr, nerdctl"),
        ("dockerd", "is one of docker, podman, k3s, rke2, k0s, microk8s, ctr, nerdctl"),
        ("Docker", "is one of docker"),
        ("docker:x", "have: k3s, rke2, k0s, microk8s, ctr, nerdctl"),
        ("podman:k8s.io", "have: k3s, rke2, k0s, microk8s, ctr, nerdctl"),
        ("ctr:", "Write ctr:k8s.io, or ctr alone"),
        ("ctr:-n", "k8s.io"),
        ("ctr:a b", "k8s.io"),
        ("ctr:a;b", "k8s.io"),
        ("ctr:$(x)", "k8s.io"),
        ("ctr:a:b", "k8s.io"),
        ("ctr:" + "a" * 77, "k8s.io"),
        ("ctr\nimage x", "is one of docker"),
        ("alice@podman", "is one of root, user"),
        ("@podman", "root@podman"),
        ("root@podmen", "is one of docker"),
        ("root@:x", "have: k3s, rke2, k0s, microk8s, ctr, nerdctl"),
    ],
)
def test_a_mistake_is_told_with_what_is_possible(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        TargetEngine.parse(text)
    assert says in caught.value.hint


@pytest.mark.parametrize(
    ("text", "shown", "engine"),
    [
        ("ssh://host?engine=k3s", "host?engine=k3s", "k3s"),
        ("deploy@host:22?engine=ctr&namespace=k8s.io", None, "ctr:k8s.io"),
        ("host/?namespace=k8s.io&engine=ctr", "host?engine=ctr&namespace=k8s.io", "ctr:k8s.io"),
        ("[::1]:22?engine=podman", None, "podman"),
        ("host?engine=podman&as=root", None, "root@podman"),
        ("host?as=user", None, "user@"),
        ("host?engine=k3s&pin=yes", None, "k3s+pin"),
        ("host?pin=yes", None, "+pin"),
    ],
)
def test_a_target_may_say_its_engine(text: str, shown: str | None, engine: str) -> None:
    target = SshTarget.parse(text)
    assert str(target) == (shown or text)
    assert str(target.engine) == engine
    assert SshTarget.parse(str(target)) == target


@pytest.mark.parametrize(
    "query",
    [
        "x", "engine", "engine=", "engin=k3s", "namespace=k8s.io", "engine=k3s&engine=ctr", "engine=k3s&",
        "engine=k3s&namespace=", "as=", "as=alice",
        "pin=no", "engine=docker&pin=yes", "engine=nerdctl&pin=yes", "as=root&namespace=x",
        "engine=docker&namespace=x", "engine=k3s&x=y", "engine=ctr:x",
    ],
)  # fmt: skip
def test_a_query_that_means_nothing_is_refused(query: str) -> None:
    with pytest.raises(UsageError) as caught:
        SshTarget.parse(f"host?{query}")
    assert caught.value.hint
