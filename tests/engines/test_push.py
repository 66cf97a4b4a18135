"""One image, one host: all of it arrives, and no more is sent for it than the target lacks."""

import pytest

from engines.test_push_scene import (
    APP,
    EACH_STORE,
    NEWEST,
    SMALL,
    Scene,
    actions,
    assert_arrived,
    assert_complete,
    id_of,
    look,
    without_ctr,
)
from rig import CONTAINERD, DOCKERS, EMPTY_TAR, ENGINES, Noise

# Nothing of it is there; all of it is there.


def test_an_image_of_which_nothing_is_there_arrives_whole(scene: Scene) -> None:
    scene.load([scene.layer(1_000_000, "a"), scene.layer(50_000, "b")])
    result = scene.push(APP).result
    assert actions(result) == ["send", "send"]
    assert_arrived(scene, result)
    assert len(scene.target.images()) == 1


def test_an_image_that_is_there_is_only_tagged_and_nothing_is_read_from_the_source(scene: Scene) -> None:
    scene.load([scene.layer(300_000)])
    first = scene.push(APP).result
    second = scene.push(APP).result
    other = scene.push(APP, "--name", "push-test/again:2").result
    for result in (second, other):
        assert actions(result) == ["reuse"]
        assert result["bytes"]["received"] == result["bytes"]["delta"] == 0
        assert result["bytes"]["sent"] < SMALL
        assert result["route"]["name"] == "none"
        assert result["verified"] is True
        assert result["image_id"] == first["image_id"]
    assert {id_of(scene.target, name) for name in (APP, "push-test/again:2")} == {first["image_id"]}
    assert first["bytes"]["received"] > 300_000


@pytest.mark.kinds(target=EACH_STORE)
def test_two_names_of_an_image_that_is_there_are_both_given(scene: Scene) -> None:
    scene.load([scene.layer(300_000)])
    there = scene.push(APP).result["image_id"]
    names = ("push-test/one:3", "push-test/two:3")
    for name in names:
        scene.source.docker("tag", APP, name)
    scene.push(*names, scene.target.ssh_alias, to="")
    assert {id_of(scene.target, name) for name in names} == {there}


# A delta: one small layer, on a base that both sides pulled, compressed by another gzip than docker's.


def test_of_a_small_layer_on_a_pulled_base_that_layer_alone_is_sent(scene: Scene) -> None:
    base = scene.base()
    scene.build(base)
    result = scene.push(APP).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    assert result["bytes"]["delta"] < SMALL
    assert result["bytes"]["image"] > 2_000_000
    assert_arrived(scene, result)


@pytest.mark.kinds(target=EACH_STORE)
def test_a_further_change_on_top_is_as_cheap_and_the_image_before_keeps_whole(scene: Scene) -> None:
    scene.build(scene.base())
    scene.push(APP)
    before = scene.source.diff_ids(APP)
    scene.build(APP, "push-test/app:2")
    result = scene.push("push-test/app:2").result
    assert actions(result) == ["reuse", "reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    assert_arrived(scene, result, "push-test/app:2")
    assert_complete(scene.target, APP, before)


@pytest.mark.kinds(source=DOCKERS[1:], target=("docker26-overlay2", "docker28-containerd", "podman4"))
def test_every_daemon_is_a_source_of_deltas(scene: Scene) -> None:
    scene.build(scene.base())
    result = scene.push(APP).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert result["bytes"]["sent"] < SMALL
    assert_arrived(scene, result)
    again = scene.push(APP).result
    assert actions(again) == ["reuse", "reuse", "reuse"]
    assert again["image_id"] == result["image_id"]
    assert again["bytes"]["received"] == 0
    assert again["route"]["name"] == "none"


@pytest.mark.kinds(source=("docker28-containerd",), target=("docker28-overlay2", "podman5"))
def test_an_image_of_the_same_layers_and_another_config_is_another_one(scene: Scene) -> None:
    """A containerd store's image ID says nothing to engines that go by the config's digest."""
    base = scene.base()
    scene.push(base)
    scene.source.build(APP, f"FROM {base}\nENV COLOUR=red\n", {})
    result = scene.push(APP).result
    assert set(actions(result)) == {"reuse"}
    assert result["route"]["name"] != "none"
    assert result["image_id"] == id_of(scene.target, APP) != id_of(scene.target, base)
    again = scene.push(APP).result
    assert (again["route"]["name"], again["image_id"]) == ("none", result["image_id"])


@pytest.mark.kinds(source=DOCKERS[1:], target=("docker20-overlay2", "docker28-containerd"))
def test_every_daemon_is_a_source_of_whole_images(scene: Scene) -> None:
    scene.load([scene.layer(400_000, "a"), scene.layer(50_000, "b")])
    result = scene.push(APP).result
    assert actions(result) == ["send", "send"]
    assert_arrived(scene, result)


@pytest.mark.kinds(target=("docker28-overlay2", "docker28-containerd"))
def test_a_large_base_costs_nothing_at_either_end(scene: Scene) -> None:
    """Not read, not sent, not held: 100 MB of base, 10 kB of change."""
    scene.build(scene.base(size=100_000_000))
    run = scene.push(APP)
    assert actions(run.result) == ["reuse", "reuse", "send"]
    assert run.result["bytes"]["sent"] < SMALL
    assert run.result["bytes"]["received"] < 1 << 20
    assert run.peak < 120 << 20
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)


@pytest.mark.kinds(target=CONTAINERD)
def test_where_forwarding_is_refused_a_containerd_store_gets_every_layer(scene: Scene) -> None:
    """Where there is no ctr, its blobs cannot be learned then; an image with holes would load all the same."""
    host = scene.sshd("AllowTcpForwarding no")
    scene.build(scene.base())
    with without_ctr(scene.target):
        result = scene.push(APP, to=host).result
    assert actions(result) == ["send", "send", "send"]
    assert "not the digest" in result["layers"][0]["reason"]
    assert_arrived(scene, result)


@pytest.mark.kinds(target=EACH_STORE)
def test_layers_in_another_order_are_reused_where_the_engine_finds_them_so(scene: Scene) -> None:
    """A classic store finds a layer by all that is below it, podman by its content, a containerd store by its blob."""
    first, second, third = (scene.layer(80_000, name) for name in "abc")
    scene.load([first, second], "push-test/old:1")
    scene.load([first, third, second])
    scene.push("push-test/old:1")
    result = scene.push(APP).result
    chain = scene.target.kind.store == "overlay2"
    assert actions(result) == (["reuse", "send", "send"] if chain else ["reuse", "send", "reuse"])
    assert_arrived(scene, result)


# Odd images.


def test_an_empty_layer_arrives(scene: Scene) -> None:
    shop = scene.rig.workshop
    scene.load([scene.layer(name="a"), shop.raw_layer(EMPTY_TAR), scene.layer(name="b"), None])
    result = scene.push(APP).result
    assert len(result["layers"]) == 3
    assert_arrived(scene, result)


def test_a_layer_that_the_image_has_twice_is_sent_once(scene: Scene) -> None:
    twice, other = scene.layer(400_000, "twice"), scene.layer(name="other")
    scene.load([twice, other, twice])
    result = scene.push(APP).result
    assert actions(result) == ["send", "send", "send"]
    assert result["bytes"]["sent"] < 700_000
    assert_arrived(scene, result)


@pytest.mark.kinds(target=EACH_STORE)
def test_a_layer_that_is_added_a_second_time_arrives(scene: Scene) -> None:
    """Present below, wanted on top: what a chain-keyed store lacks is another thing than what a blob store lacks."""
    twice, other = scene.layer(90_000, "twice"), scene.layer(name="other")
    scene.load([twice], "push-test/old:1")
    scene.load([twice, other, twice])
    scene.push("push-test/old:1")
    assert_arrived(scene, scene.push(APP).result)


@pytest.mark.kinds(target=EACH_STORE)
def test_a_change_of_env_alone_sends_no_layer(scene: Scene) -> None:
    layers = [scene.layer(name="a"), scene.layer(name="b")]
    scene.load(layers, "push-test/old:1")
    scene.load([*layers, None], env={"MODE": "new"})
    scene.push("push-test/old:1")
    result = scene.push(APP).result
    assert actions(result) == ["reuse", "reuse"]
    assert result["bytes"]["delta"] == 0
    assert result["bytes"]["sent"] < SMALL
    assert_arrived(scene, result)
    assert "MODE=new" in scene.target.inspect(APP)["Config"]["Env"]


def push_120_layers(scene: Scene) -> None:
    shop = scene.rig.workshop
    layers = [shop.layer({f"f{number}": f"{scene.seed} {number}".encode()}) for number in range(119)]
    scene.load([*layers, scene.layer(name="top")])
    result = scene.push(APP).result
    assert actions(result) == ["send"] * 120
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
    scene.load([*layers, scene.layer(name="other")], "push-test/app:2")
    result = scene.push("push-test/app:2", "--name", APP).result
    assert actions(result) == ["reuse"] * 119 + ["send"]
    assert result["bytes"]["delta"] < 120_000
    assert_complete(scene.target, APP, scene.source.diff_ids("push-test/app:2"))


@pytest.mark.kinds(target=NEWEST)
def test_120_layers_arrive_and_one_that_is_changed_is_sent_alone(scene: Scene) -> None:
    push_120_layers(scene)


@pytest.mark.slow
@pytest.mark.kinds(target=tuple(name for name in ENGINES if name not in NEWEST))
def test_120_layers_arrive_everywhere(scene: Scene) -> None:
    push_120_layers(scene)


@pytest.mark.kinds(target=EACH_STORE)
def test_a_name_moves_to_the_new_image_and_the_old_one_goes_on_without_it(scene: Scene) -> None:
    scene.load([scene.layer(name="a")])
    old = scene.push(APP).result["image_id"]
    scene.target.docker("create", "--name", "uses-the-old", APP, "/app")
    scene.source.docker("rmi", APP)
    scene.load([scene.layer(name="b")])
    before = look(scene.target)["containers"]
    words = ["push", APP, scene.target.ssh_alias, "--json"]
    result = scene.layerferry(*words, source=scene.source).result
    assert id_of(scene.target, APP) == result["image_id"] != old
    assert look(scene.target)["containers"] == before
    assert [name for name in scene.target.images() if "layerferry" in name] == []


# The long suite.


@pytest.mark.slow
@pytest.mark.kinds(source=("docker20-overlay2", "docker28-containerd"), target=EACH_STORE)
def test_a_cold_push_of_2_gb_in_one_layer_stays_small_in_memory(scene: Scene) -> None:
    shop = scene.rig.workshop
    layer = shop.layer({"huge": Noise(2_000_000_000, scene.seed)})
    scene.load([layer, scene.layer(name="small")])
    run = scene.push(APP, "--compression", "auto")
    assert run.peak < 120 << 20
    assert scene.target.diff_ids(APP) == scene.source.diff_ids(APP)
    assert run.result["verified"] is True
