"""Our end of the conversation, over a conduit that plays the target."""

import itertools
import re
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from layerferry.compression.stream import Compression
from layerferry.errors import ConnectError, LayerferryError, SourceError, TargetError, VerificationError
from layerferry.oci import limits
from layerferry.oci.image import Descriptor, Image, Layer, Platform
from layerferry.oci.plan import Inventory, plan
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import FRAME, Verb
from layerferry.push.request import Options, Wanted
from layerferry.push.to_host import HostDestination
from layerferry.push.way_back import NamesBefore
from layerferry.targets.conduit import Conduit, SilenceError
from layerferry.targets.conversation import Conversation
from layerferry.targets.greeting import Greeting, Holding, Place
from layerferry.targets.host.script import ON_NODES, SentScript, script
from layerferry.targets.named_images import look, resolve
from layerferry.targets.verdict import verdict

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
ONE, TWO, HOLDER = (f"sha256:{digit * 64}" for digit in "123")
INCOMING = "localhost/layerferry:1"


class FakeConduit(Conduit):
    """Says `lines`, one by one, and then that the other side has gone."""

    def __init__(self, *lines: str, pipelined: bool = True, takes: int | None = None) -> None:
        self.name = "host"
        self.sent = 0
        self.pipelined = pipelined
        self.written = b""
        self.lines = deque(lines)
        self.takes = takes
        self.silent_until = 0
        #: How many lines come while we send; the others come after the archive.
        self.stray: int | None = None

    def write(self, data: bytes, meanwhile: Callable[[], None] | None = None) -> None:
        if self.takes is not None and len(self.written) + len(data) > self.takes:
            raise ConnectError("host closed the connection")
        self.written += data
        self.sent += len(data)

    def read_line(self, timeout: float | None = None) -> str:
        if not self.lines:
            raise TargetError("host: the remote command ended with status 1", hint="A POSIX sh must be there.")
        return self.lines.popleft()

    @property
    def answered(self) -> bool:
        if self.stray is not None:
            self.stray -= 1
            return self.stray >= 0
        return bool(self.lines) and len(self.written) >= self.silent_until

    @property
    def said(self) -> bytes:
        """What was written after the script and the engine that it is to find."""
        preamble, _, said = bytes(self.written).partition(b"\n")
        said = said[int(preamble.rpartition(b" ")[2]) :].removeprefix(b"engine\n")
        while part := re.search(rb"^part (\d+)(?: gzip)?\n", said, re.MULTILINE):
            said = said[: part.start()] + said[part.end() + int(part[1]) :]
        return said


def first(*, packed: bool) -> bytes:
    """The script as far as every host gets it."""
    return SentScript(packed=packed).first()


def image(image_id: str, *diff_ids: str) -> Image:
    return Image("app:1", image_id, Platform("linux", "amd64"), Layer.chain(diff_ids, [1] * len(diff_ids)))


GREETING = ("layerferry 1 sh", "engine docker 28.5.2+dfsg overlay2", "store chain", "platform linux/x86_64",
            "accept none gzip zstd")  # fmt: skip


def greeted(*lines: str) -> Greeting:
    """The greeting of a target that was asked for ONE, TWO and A, each with A, B, C and seven more layers."""
    conversation = Conversation(FakeConduit(*GREETING, *lines, "end"))
    layers = (A, B, C, *(f"sha256:{number:064x}" for number in range(7)))
    conversation.ask([image(ONE, *layers), image(TWO, *layers), image(A, *layers)])
    return conversation.greeting()


@pytest.mark.parametrize(
    ("line", "maker", "free"),
    [
        ("maker 12-34-5eed-4026-0", "12-34-5eed-4026-0", None),
        ("maker 12--34", "", None),
        ("maker -12", "", None),
        ("maker 1:2", "", None),
        ("maker " + "a" * 100, "", None),
        ("free 81604378624", "", 81604378624),
        ("free -1", "", None),
        ("free 9" + "9" * 20, "", None),
        ("free", "", None),
    ],
)
def test_what_names_are_to_end_with_and_the_room_are_taken_only_as_what_they_are(
    line: str, maker: str, free: int | None
) -> None:
    greeting = greeted(line)
    assert (greeting.maker, greeting.free) == (maker, free)


def test_data_without_a_byte_are_lines_that_nobody_asked_for() -> None:
    """`0` is base85, of nothing: a target may say it as long as it likes."""
    conversation = Conversation(FakeConduit(*["data 0"] * (limits.LINES_SKIPPED + 1)))
    with pytest.raises(TargetError, match="thousands of lines that nobody asked for"):
        list(conversation.match("blocks", b""))


# The ask.


def test_the_preamble_is_a_no_op_for_a_shell_and_tells_how_long_the_script_is() -> None:
    conduit = FakeConduit()
    Conversation(conduit)
    first, _, rest = conduit.written.partition(b"\n")
    text = SentScript(packed=True).first()
    assert first == b": layerferry 1 %d" % len(text)
    assert rest == text + b"engine\n"


def test_the_script_is_sent_without_comments_and_is_small() -> None:
    assert len(first(packed=True)) < 4_250, "it crosses the wire with each push"
    further = SentScript(packed=True)
    assert len(further.before([Verb.TAG, Verb.DONE])) < 1_600, "for an image that is there, where it gets a name"
    assert len(further.before([Verb.EXPECT, Verb.LOAD])) < 1_300, "for one that is not"
    assert further.before([Verb.EXPECT, Verb.LOAD, Verb.TAG, Verb.DONE]) == b""
    assert len(further.needed("need engines")) < 4_600, "for what is no docker"
    assert further.needed("need engines") == further.needed("need blobs") == further.needed("need rm -rf") == b""
    assert not [line for line in script().splitlines() if line.startswith(b"#") or not line.strip()]
    assert script().endswith(b"exit 0\n")


def test_each_image_is_asked_for_with_its_layers() -> None:
    conduit = FakeConduit()
    Conversation(conduit).ask([image(ONE, A, B), image(TWO)])
    assert conduit.said.decode() == f"image {ONE}\nlayer {A}\nlayer {B}\nimage {TWO}\nend\n"


def test_an_engine_that_was_named_is_asked_for_before_anything_is_known_of_the_images() -> None:
    conduit = FakeConduit()
    conversation = Conversation(conduit, "podman")
    assert conduit.said == b"engine podman\n"
    conversation.ask([image(ONE)])
    assert conduit.said.decode() == f"engine podman\nimage {ONE}\nend\n"


def test_a_shell_that_reads_ahead_gets_the_ask_only_after_its_greeting() -> None:
    conduit = FakeConduit(pipelined=False)
    with pytest.raises(TargetError):
        Conversation(conduit).ask([image(ONE)])
    assert conduit.said == b""
    conduit = FakeConduit("layerferry 1 sh", pipelined=False)
    Conversation(conduit).ask([image(ONE)])
    assert conduit.written.endswith(f"exit 0\nengine\nimage {ONE}\nend\n".encode())


# The greeting.


def test_a_greeting_tells_engine_store_platform_and_what_it_takes() -> None:
    greeting = greeted()
    assert (greeting.engine, greeting.version, greeting.driver) == ("docker", "28.5.2+dfsg", "overlay2")
    assert (greeting.store, greeting.platform) == ("chain", Platform("linux", "amd64"))
    assert greeting.accept == ("none", "gzip", "zstd")
    assert str(greeting) == "docker 28.5.2 (overlay2)"


@pytest.mark.parametrize(
    ("engine", "owner", "shown"),
    [
        ("podman", ["owner root"], "podman 5.8.6 (overlay, root's)"),
        ("podman", ["owner ana"], "podman 5.8.6 (overlay, rootless of ana)"),
        ("podman", [r"owner CORP\ana von x@y"], r"podman 5.8.6 (overlay, rootless of CORP\ana von x@y)"),
        ("podman", ["owner \x1b[31m"], "podman 5.8.6 (overlay, rootless of ??31m)"),
        ("podman", [], "podman 5.8.6 (overlay)"),
        ("docker", ["owner root"], "docker 5.8.6 (overlay)"),
        ("docker", ["owner ana"], "docker 5.8.6 (overlay, rootless of ana)"),
    ],
)
def test_it_is_told_whose_images_they_are(engine: str, owner: list[str], shown: str) -> None:
    lines = ("layerferry 1 sh", f"engine {engine} 5.8.6 overlay", *owner, "store layer", "platform linux/amd64", "end")
    assert str(Conversation(FakeConduit(*lines)).greeting()) == shown


@pytest.mark.parametrize(
    ("version", "shown"),
    [("dev", "dev"), ("v27.5.1", "v27.5.1"), ("27.5.1~rc1+dfsg", "27.5.1~rc1"), ("4f2c9aa", "4f2c9aa"),
     ("(devel)", "devel"), ("1:27.5/x", "1-27.5-x")],
)  # fmt: skip
def test_a_version_may_be_any_word(version: str, shown: str) -> None:
    lines = ("layerferry 1 sh", f"engine docker {version} overlay2", "store chain", "platform linux/amd64", "end")
    assert str(Conversation(FakeConduit(*lines)).greeting()) == f"docker {shown} (overlay2)"


def test_a_blob_store_is_called_by_its_name() -> None:
    lines = ("layerferry 1 sh", "engine docker 28.5.2 overlayfs", "store blob", "platform linux/arm64", "end")
    assert str(Conversation(FakeConduit(*lines)).greeting()) == "docker 28.5.2 (containerd store)"


def test_what_is_here_of_each_image() -> None:
    greeting = greeted(
        f"image {ONE}", f"present <none>:<none> app:1 ghcr.io/x/app ../x \x1b[31m app@{A} {'x' * 999} {'x' * 260}",
        f"image {TWO}", f"chain 2 {HOLDER}", f"loose {C} 9 {HOLDER}",
        f"image {A}", "chain 0 ",
    )  # fmt: skip
    assert greeting.holdings == {
        ONE: Holding(present=True, names=frozenset({"docker.io/library/app:1", "ghcr.io/x/app:latest"})),
        TWO: Holding(depth=2, holder=HOLDER, loose={C: Place(HOLDER, 9)}),
        A: Holding(),
    }


@pytest.mark.parametrize(
    "line",
    [
        "capability resume", "presents", "chain", "chain x y", "chain -1 sha256:1", "loose",
        "loose nonsense 1 x", f"loose {C} x {HOLDER}", "", "   ", "\x00", "chain ² x", f"loose {C} ² {HOLDER}",
    ],
)  # fmt: skip
def test_words_that_we_do_not_know_are_skipped(line: str) -> None:
    assert greeted("future word", f"image {ONE}", line).holdings == {ONE: Holding()}


@pytest.mark.parametrize("line", ["present", f"chain 1 {HOLDER}", f"loose {C} 1 {HOLDER}"])
def test_an_answer_to_no_question_counts_for_nothing(line: str) -> None:
    assert greeted(line).holdings == {}


@pytest.mark.parametrize("missing", ["engine", "store", "platform"])
def test_a_greeting_that_lacks_a_fact_is_no_greeting(missing: str) -> None:
    lines = [line for line in GREETING if not line.startswith(missing)]
    with pytest.raises(TargetError, match="host does not say what engine"):
        Conversation(FakeConduit(*lines, "end")).greeting()


@pytest.mark.parametrize(
    "line", ["platform", "platform linux", "platform //", "engine", "store", "store chains", "store CHAIN"]
)
def test_a_fact_without_a_value_is_no_fact(line: str) -> None:
    lines = [line if known.startswith(line.partition(" ")[0]) else known for known in GREETING]
    with pytest.raises(TargetError, match="does not say what engine"):
        Conversation(FakeConduit(*lines, "end")).greeting()


@pytest.mark.parametrize("noise", ["Welcome to Debian", "failed logins: 0", "failed", "end", "done", "loaded x y", ""])
def test_what_a_login_shell_prints_before_is_skipped(noise: str) -> None:
    conversation = Conversation(FakeConduit(noise, *GREETING, "end"))
    assert conversation.greeting().engine == "docker"


def test_a_receiver_that_refuses_before_it_greets_is_heard() -> None:
    with pytest.raises(TargetError, match=r"the receiver refuses this .the policy is not readable"):
        Conversation(FakeConduit("failed refused the policy is not readable")).greeting()


def test_a_host_that_only_makes_noise_is_quoted() -> None:
    with pytest.raises(TargetError, match="host does not greet, it says: row 0"):
        Conversation(FakeConduit(*(f"row {number}" for number in range(1000)))).greeting()


def test_the_last_noise_is_the_hint_when_the_session_ends() -> None:
    with pytest.raises(TargetError) as caught:
        Conversation(FakeConduit("Welcome", "This account is not available.")).greeting()
    assert "This account is not available." in caught.value.hint


def test_the_last_noise_is_the_hint_even_where_the_pipe_breaks_first() -> None:
    conduit = FakeConduit("This account is not available.", "")
    conduit.takes = 0
    with pytest.raises(ConnectError) as caught:
        Conversation(conduit).ask([image(ONE)])
    assert "This account is not available." in caught.value.hint


def test_another_protocol_is_refused_in_words() -> None:
    with pytest.raises(TargetError, match="speaks protocol 2, we speak 1") as caught:
        Conversation(FakeConduit("layerferry 2 receive")).greeting()
    assert "same version" in caught.value.hint


# The load.


def loaded(*lines: str, stream: Sequence[bytes] = (b"archive",)) -> tuple[FakeConduit, dict[str, str]]:
    conduit = FakeConduit("layerferry 1 sh", *lines)
    conduit.silent_until = 1 << 60
    conversation = Conversation(conduit)
    conversation._hello()
    return conduit, conversation.load({INCOMING: [A, B]}, "zstd", stream)


def test_the_header_goes_before_the_archive_and_a_zero_after_it() -> None:
    conduit, shown = loaded(f"loaded {INCOMING} {ONE}", "end", stream=[b"some ", b"archive"])
    assert conduit.said == f"expect {INCOMING} {A} {B}\nload zstd\n12\nsome archive0\n".encode()
    assert shown == {INCOMING: ONE}


@pytest.mark.parametrize(
    ("sizes", "frames"),
    [
        ([], []),
        ([0, 0], []),
        ([1], [1]),
        ([FRAME], [FRAME]),
        ([FRAME + 1], [FRAME, 1]),
        ([FRAME - 1, 2], [FRAME, 1]),
        ([3 * FRAME + 5], [FRAME] * 3 + [5]),
    ],
)
def test_an_archive_goes_in_frames_of_a_bounded_size(sizes: list[int], frames: list[int]) -> None:
    data = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    conduit, _ = loaded(f"loaded {INCOMING} {ONE}", "end", stream=data)
    rest = conduit.said.partition(b"load zstd\n")[2]
    lengths, whole = [], b""
    while not rest.startswith(b"0\n"):
        length, _, rest = rest.partition(b"\n")
        lengths.append(int(length))
        whole, rest = whole + rest[: int(length)], rest[int(length) :]
    assert lengths == frames
    assert whole == b"".join(data)


def test_a_verdict_while_we_send_ends_the_sending() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(FRAME)

    conduit = FakeConduit("layerferry 1 sh", "failed load no space left on device")
    conversation = Conversation(conduit)
    conversation._hello()
    conduit.silent_until = 4 * FRAME
    with pytest.raises(TargetError, match="its disk is full"):
        conversation.load({INCOMING: [A]}, "none", endless())
    assert conduit.sent < 6 * FRAME


def test_a_verdict_is_heard_even_where_the_pipe_breaks_first() -> None:
    conduit = FakeConduit("layerferry 1 sh", "some noise", "failed load no space left on device", takes=FRAME)
    conversation = Conversation(conduit)
    conversation._hello()
    conduit.silent_until = 1 << 60
    with pytest.raises(TargetError, match="its disk is full"):
        conversation.load({INCOMING: [A]}, "none", [bytes(FRAME)])


def test_a_pipe_that_breaks_without_a_verdict_is_told_as_such() -> None:
    conduit = FakeConduit("layerferry 1 sh", takes=FRAME)
    conversation = Conversation(conduit)
    conversation._hello()
    with pytest.raises(ConnectError, match="closed the connection"):
        conversation.load({INCOMING: [A]}, "none", [bytes(FRAME)])


@pytest.mark.parametrize("lines", [["end"], [f"loaded localhost/layerferry:2 {ONE}", "end"], ["hello", "end"]])
def test_a_target_that_does_not_name_what_it_loaded_is_not_believed(lines: list[str]) -> None:
    with pytest.raises(VerificationError, match="does not say what it loaded"):
        loaded(*lines)


@pytest.mark.parametrize("line", ["loaded ", "loaded x", f"loaded  {ONE}"])
def test_a_broken_line_about_what_was_loaded_is_an_error_of_ours_to_tell(line: str) -> None:
    with pytest.raises(LayerferryError):
        loaded(line, "end")


# The names.


def test_names_are_set_and_the_end_is_awaited() -> None:
    conduit = FakeConduit("layerferry 1 sh", "done")
    conversation = Conversation(conduit)
    conversation._hello()
    conversation.commit({INCOMING: ["app:1", "app:2"], ONE: ["app:3"]}.items())
    expected = f"tag {INCOMING} app:1\ntag {INCOMING} app:2\ntag {ONE} app:3\ndone\n"
    assert conduit.said.decode() == expected


def test_what_ends_the_naming_tells_the_names_that_were_given_before() -> None:
    conversation = Conversation(FakeConduit("layerferry 1 sh", "done", "failed stopped after app:1: EOF"))
    conversation._hello()
    conversation.commit({INCOMING: ["app:0"]}.items())
    with pytest.raises(TargetError) as caught:
        conversation.commit({INCOMING: ["app:1", "app:2"], ONE: ["app:3"]}.items(), [(ONE, "app:kept")])
    assert caught.value.hint.endswith("The new image is already under app:1, and may be under app:2.")


@pytest.mark.parametrize("line", ["", "don", "done done", "loaded"])
def test_anything_but_the_expected_word_is_an_error(line: str) -> None:
    conversation = Conversation(FakeConduit("layerferry 1 sh", line))
    conversation._hello()
    with pytest.raises(ConnectError, match="where 'done' should stand") as caught:
        conversation.commit({INCOMING: ["app:1"]}.items())
    assert caught.value.hint == "The new image may be under app:1."


def test_a_line_that_breaks_while_names_are_given_tells_which_may_have_been() -> None:
    conduit = FakeConduit("layerferry 1 sh", "was docker.io/library/app:1")
    conversation = Conversation(conduit, also=("follow",))
    conversation._hello()
    with pytest.raises(TargetError) as caught:
        conversation.commit({INCOMING: ["app:1", "app:2"]}.items())
    assert caught.value.named == "The new image may be under app:1, app:2."
    assert caught.value.hint.endswith(caught.value.named)


def test_a_line_that_breaks_before_says_nothing_of_names() -> None:
    conversation = Conversation(FakeConduit("layerferry 1 sh"))
    conversation._hello()
    with pytest.raises(TargetError) as caught:
        conversation.load({INCOMING: [A]}, "none", [bytes(FRAME)])
    assert "new image" not in caught.value.hint


@pytest.mark.parametrize(("line", "expected"), [("learned yes", True), ("learned no", False), ("what?", False)])
def test_whether_the_daemon_has_pushed(line: str, expected: bool) -> None:
    conduit = FakeConduit("layerferry 1 sh", line)
    conversation = Conversation(conduit)
    conversation._hello()
    assert conversation.learn(ONE, "127.0.0.1:1/x:learn", "dG9rZW4=", "YmFzaWM=") is expected
    assert conduit.said.decode() == f"learn {ONE} 127.0.0.1:1/x:learn dG9rZW4= YmFzaWM=\n"


# Verdicts.


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("failed no-engine looked for docker in /bin", 5, "host: there is no container engine"),
        ("failed engine docker: permission denied while trying to connect", 5, "the user may not use the engine"),
        ("failed engine sudo -n docker: sudo: a password is required", 5, "the user may not use the engine"),
        ("failed engine Cannot connect to the Docker daemon at unix:///x", 5, "its engine does not run"),
        ("failed engine what?", 5, "its engine cannot be used (what?)"),
        ("failed load write: no space left on device", 5, "its disk is full"),
        ("failed load archive/tar: invalid tar header", 5, "the engine refused the image"),
        ("failed tag invalid reference", 5, "the engine refused the name"),
        ("failed refused app is not allowed", 5, "the receiver refuses this"),
        ("failed verify the engine shows other layers than were sent", 6, "what was loaded is not what was sent"),
        ("failed verify no space left on device", 6, "what was loaded is not what was sent"),
        ("failed something new", 5, "host: failed to something (new)"),
        ("failed load", 5, "host: the engine refused the image"),
        ("failed ", 5, "host: failed"),
    ],
)
def test_a_verdict_names_the_host_what_failed_and_has_its_exit_code(line: str, code: int, says: str) -> None:
    error = verdict("host", line)
    assert error.exit_code == code
    assert says in error.message
    assert error.message.startswith("host: ")
    assert "\n" not in error.message


def test_a_verdict_says_what_to_do() -> None:
    assert "prune" in verdict("host", "failed load no space left on device").hint
    assert "docker group" in verdict("host", "failed engine permission denied").hint


@pytest.mark.parametrize("why", ["permission denied", "what?"])
def test_where_the_engine_that_is_meant_fails_it_is_told_how_to_choose_another(why: str) -> None:
    told = verdict("host", f"failed engine docker: {why}; also here: podman ctr $(x)")
    assert told.hint.endswith(" Or choose another: ?engine=podman or ?engine=ctr.")
    assert "choose" not in verdict("host", f"failed engine docker: {why}; also here: x").hint
    assert "choose" not in verdict("host", f"failed load docker: {why}; also here: podman").hint
    assert "old image is still there" in verdict("host", "failed verify x").hint


NAMES = [f"docker.io/lab/{name}:1" for name in "abc"]
#: What the new image is under, as a hint has it.
SOME = "The new image is already under lab/a:1, lab/b:1"


@pytest.mark.parametrize(
    ("said", "exit_code", "message", "hint"),
    [
        (f"verify after {NAMES[2]}: moved {NAMES[2]}={ONE}", 6,
         f"somebody else has moved a name meanwhile (lab/c:1 shows {ONE})",
         f"See who else gives it; then push again. {SOME}."),
        (f"verify moved {NAMES[2]}={ONE[:-1]} docker.io/lab/x:1={ONE}", 6, "(lab/c:1 shows another image, or none)",
         SOME),
        (f"verify moved {NAMES[0]}= {NAMES[1]}={ONE} {NAMES[2]}={TWO}", 6,
         f"(lab/a:1 shows another image, or none, lab/b:1 shows {ONE}, lab/c:1 shows {TWO})",
         "See who else gives it; then push again."),
        ("verify the name lab/a:1 shows another image", 6,
         "somebody else has moved a name meanwhile (the name lab/a:1 shows another image)",
         "See who else gives it; then push again. The new image may be under lab/a:1, lab/b:1, lab/c:1."),
        ("tag no", 5, "the engine refused the name (no)", "The old image is still there under its name."),
        (f"tag after {NAMES[1]}: no", 5, "the engine refused the name (no)", f"{SOME}."),
        (f"tag after {NAMES[1]}: no space left on device", 5, "its disk is full (no space left on device)",
         f"Free some space there, with `docker image prune` for one. {SOME}."),
        (f"tag after lab/kept:1: {NAMES[1]}", 5, f"the engine refused the name ({NAMES[1]})",
         "The old image is still there under its name."),
        (f"stopped after {NAMES[1]}: EOF", 5, "its engine does not run (EOF)",
         f"Start it, and push again. {SOME}, and may be under lab/c:1."),
        ("stopped EOF", 5, "does not run", "Start it, and push again. The new image may be under lab/a:1."),
        (f"stopped after {NAMES[2]}: EOF", 5, "does not run", f"Start it, and push again. {SOME}, lab/c:1."),
        ("internal the script was killed", 5, "its part", "may be under lab/a:1, lab/b:1, lab/c:1."),
        ("refused no", 5, "the receiver refuses this (no)", "Its policy stands in authorized_keys on the target."),
    ],
)  # fmt: skip
def test_what_fails_while_names_are_given_tells_where_the_new_image_is(
    said: str, exit_code: int, message: str, hint: str
) -> None:
    error = verdict("host", f"failed {said}", NAMES)
    assert error.exit_code == exit_code
    assert message in error.message
    assert error.hint.endswith(hint) or f"{hint}." in error.hint
    assert ("old image is still there" in error.hint) == ("old image is still there" in hint)


def test_of_many_names_some_are_told() -> None:
    names = [f"docker.io/lab/a:{number}" for number in range(40)]
    error = verdict("host", f"failed stopped after {names[30]}: x", names)
    assert error.hint.endswith("lab/a:9 and 21 more, and may be under lab/a:31.")


# What a store tells of its blobs.

BLOB = f"blob {A} {B} 2811 application/vnd.oci.image.layer.v1.tar+gzip"


def test_blobs_are_told_by_diff_id_for_all_images_at_once() -> None:
    greeting = greeted(f"image {ONE}", BLOB, "chain 0 ", f"image {TWO}", f"same {HOLDER}")
    assert greeting.blobs == {A: Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", B, 2811)}
    assert greeting.holdings == {ONE: Holding(), TWO: Holding(same=HOLDER)}


def test_dockers_media_types_are_told_as_ocis_and_the_first_blob_counts() -> None:
    docker = f"blob {A} {C} 1 application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert greeted(docker, BLOB).blobs == {A: Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", C, 1)}


@pytest.mark.parametrize(
    "line",
    [
        "blob", f"{BLOB} more", BLOB.replace("2811", "-1"), BLOB.replace("2811", "2.8kB"), BLOB.replace("2811", "²"),
        BLOB.replace(A, "sha256:1"), BLOB.replace(B, "sha512:1"), BLOB.replace("+gzip", "+encrypted"),
        BLOB.replace("layer.v1", "layer.nondistributable.v1"), BLOB.rpartition(" ")[0], f"same {ONE} {TWO}", "same x",
    ],
)  # fmt: skip
def test_a_blob_that_we_could_not_name_in_a_manifest_counts_for_nothing(line: str) -> None:
    greeting = greeted(f"image {ONE}", line)
    assert greeting.blobs == {}
    assert greeting.holdings == {ONE: Holding()}


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("ctr:k8s.io", "engine ctr k8s.io"), ("k3s", "engine k3s"), ("root@podman", "engine podman - root"),
        ("root@", "engine - - root"), ("user@nerdctl:x", "engine nerdctl x user"),
        ("k3s+pin", "engine k3s - - pin"),
    ],
)  # fmt: skip
def test_a_target_that_names_its_engine_goes_before_what_is_said_for_all(engine: str, said: str) -> None:
    conduit = FakeConduit()
    conduit.engine = engine
    Conversation(conduit, "podman")
    assert conduit.said.decode() == f"{said}\n"


def test_a_containerd_is_called_by_its_namespace() -> None:
    lines = ("layerferry 1 sh", "engine k3s 2.1.5-k3s1 k8s.io", "store blob", "platform Linux/x86_64", "end")
    greeting = Conversation(FakeConduit(*lines)).greeting()
    assert str(greeting) == "k3s 2.1.5-k3s1 (namespace k8s.io)"
    assert "?pin=yes" in greeting.hint
    assert greeted().hint == ""


# What we say is words, whoever made them; what we hear is bounded.


@pytest.mark.parametrize("bad", ["a b", "a\nend", "a\rb", "", "caf\u00e9", "\x1b[0m", "a\x00", "a\tb", "\u2028"])
def test_what_is_not_one_word_is_not_said(bad: str) -> None:
    conduit = FakeConduit("layerferry 1 sh", "done")
    conversation = Conversation(conduit)
    conversation._hello()
    with pytest.raises(SourceError, match="is not one word"):
        conversation.commit({ONE: ["app:1", bad]}.items())
    with pytest.raises(SourceError, match="is not one word"):
        conversation.load({INCOMING: [A, bad]}, "zstd", [b"x"])
    with pytest.raises(SourceError, match="is not one word"):
        conversation.load({INCOMING: [A]}, bad, [b"x"])
    assert conduit.said == b""


def test_a_host_without_gzip_gets_the_script_plain_and_all_that_was_said_once_more() -> None:
    conduit = FakeConduit(
        "Welcome", "layerferry plain", *GREETING, "capability parts", f"image {ONE}", "present", "end"
    )
    conversation = Conversation(conduit)
    conversation.ask([image(ONE, A)])
    conversation.greeting()
    plain = first(packed=False)
    again = f": layerferry 1 {len(plain)}\n".encode() + plain + f"engine\nimage {ONE}\nlayer {A}\nend\n".encode()
    assert conduit.written.endswith(again)
    conversation.tell(Verb.DONE)
    assert conduit.written.partition(again)[2].startswith(b"part 3")
    assert b"\nfinish(){\n" in conduit.written, "what comes later is plain, too"
    assert conduit.written.count(f"layer {A}".encode()) == 2


def test_a_host_that_gets_no_image_is_not_waited_for_before_its_ask_though_there_is_a_password_for_sudo() -> None:
    """It hears the ask before it says anything (node.sh), and asks no sudo."""
    conduit = FakeConduit("layerferry 1 sh", *GREETING[1:], "end")
    conduit.sudo_password = b"secret"
    conversation = Conversation(conduit, also=ON_NODES)
    conversation.ask(())
    assert conduit.said == b"end\n"
    assert len(conduit.lines) == len(GREETING) + 1, "and nothing was read"
    conversation.greeting()
    assert b"secret" not in conduit.written


def test_a_host_that_asks_for_it_again_and_again_is_refused() -> None:
    conduit = FakeConduit(*["layerferry plain"] * 400)
    conversation = Conversation(conduit)
    conversation.ask([image(ONE)])
    with pytest.raises(TargetError, match="does not greet"):
        conversation.greeting()
    assert conduit.written.count(first(packed=False)) == 1


def test_a_dry_run_is_told_before_any_word_of_the_source() -> None:
    for pipelined, lines in ((True, ()), (False, ("layerferry 1 sh",))):
        conduit = FakeConduit(*lines, pipelined=pipelined)
        Conversation(conduit, dry_run=True).ask([image(ONE)])
        assert conduit.said.decode() == f"dry-run\nimage {ONE}\nend\n"


@pytest.mark.parametrize(
    "line",
    [
        f"chain 11 {HOLDER}", "chain 2 not-a-digest", f"chain {'9' * 5000} {HOLDER}", f"chain \u0663 {HOLDER}",
        f"loose {HOLDER} 1 {HOLDER}", f"loose {C} 1001 {HOLDER}", f"loose {C} {'1' * 5000} {HOLDER}", f"loose {C} 1 x",
        f"blob {HOLDER} {B} 1 application/vnd.oci.image.layer.v1.tar", "same ../volumes/prune",
        f"blob {A} {B} {'9' * 5000} application/vnd.oci.image.layer.v1.tar", f"image {HOLDER}",
    ],
)  # fmt: skip
def test_an_answer_beyond_the_question_counts_for_nothing(line: str) -> None:
    greeting = greeted(f"image {ONE}", line)
    assert (greeting.holdings, greeting.blobs) == ({ONE: Holding()}, {})


def test_what_follows_an_image_that_was_not_asked_for_counts_for_nothing() -> None:
    assert greeted(f"image {ONE}", f"image {HOLDER}", "present").holdings == {ONE: Holding()}


@pytest.mark.parametrize(
    "line",
    [
        "engine \x1b]0;x\x07", "engine docker \x1b[31m", "engine docker 28 ::add-mask::x", "store anything",
        "platform li\x1bnux/amd64", "accept none \x07", "layers ##vso[x]", "engine " + "x" * 1000, "capability \x9b",
    ],
)  # fmt: skip
def test_a_fact_that_is_not_a_word_is_no_fact(line: str) -> None:
    lines = [known for known in GREETING if not line.startswith(known.partition(" ")[0])]
    with pytest.raises(TargetError, match=r"^host does not say what engine it has$"):
        Conversation(FakeConduit(*lines, line, "end")).greeting()


@pytest.mark.parametrize("version", ["dev", "library-import", "v27.5.1", "20.10.24+dfsg1", ""])
def test_a_version_is_any_word(version: str) -> None:
    lines = (GREETING[0], f"engine docker {version}".strip(), *GREETING[2:], "end")
    assert Conversation(FakeConduit(*lines)).greeting().version == version


def test_an_answer_of_more_lines_than_were_asked_for_ends_the_session() -> None:
    with pytest.raises(TargetError, match="says more than it was asked for"):
        greeted(*[f"image {ONE}"] * 1000)
    with pytest.raises(TargetError, match="says more than it was asked for"):
        greeted(*[f"word{number} x" for number in range(1000)])


def test_noise_is_bounded_in_bytes_and_quoted_in_part() -> None:
    conduit = FakeConduit(*["x" * 60_000] * 199)
    with pytest.raises(TargetError, match="does not greet") as caught:
        Conversation(conduit).greeting()
    assert len(caught.value.message) < 300
    assert len(conduit.lines) > 190


class Clock:
    """Each answer comes after some seconds; nobody waits for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
        self.now, self.step = 0.0, step
        monkeypatch.setattr("layerferry.targets.waiting.time.monotonic", lambda: self.now)


class SlowConduit(FakeConduit):
    """Says a line every few seconds, `lines` first, then the last of them for ever; silent where that is too long."""

    def __init__(self, clock: Clock, *lines: str) -> None:
        super().__init__(*lines)
        self.clock = clock
        self.count = 0

    def read_line(self, timeout: float | None = None) -> str:
        assert timeout is not None, "a wait without a bound"
        self.count += 1
        if self.clock.step > timeout:
            self.clock.now += timeout
            raise SilenceError("host")
        self.clock.now += self.clock.step
        return self.lines.popleft() if len(self.lines) > 1 else self.lines[0]


ABLE = (*GREETING, "capability alive login")


@pytest.mark.parametrize("lines", [["Welcome"], [*GREETING, "hello"], [*GREETING, f"image {ONE}", "hello"]])
def test_a_greeting_without_end_ends(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    clock = Clock(monkeypatch, 5)
    with pytest.raises((TargetError, ConnectError)):
        Conversation(SlowConduit(clock, *lines)).greeting()
    assert clock.now <= limits.HELLO + limits.ANSWERS


def conversing(
    clock: Clock, *lines: str, told: Callable[[str], None] = lambda _: None
) -> tuple[Conversation, SlowConduit]:
    conduit = SlowConduit(clock, *lines)
    conduit.silent_until = 1 << 60
    conversation = Conversation(conduit, told=told)
    conversation.greeting()
    return conversation, conduit


@pytest.mark.parametrize(("greeting", "silence"), [(GREETING, 900 + 4), (ABLE, 120)])
def test_silence_after_the_archive_ends_and_says_on_whom_we_waited_for_what(
    monkeypatch: pytest.MonkeyPatch, greeting: Sequence[str], silence: float
) -> None:
    clock = Clock(monkeypatch, 0)
    conversation, _ = conversing(clock, *greeting, "end")
    clock.step = 1e9
    with pytest.raises(ConnectError) as caught:
        conversation.load({INCOMING: [A]}, "none", [bytes(4 << 20)])
    said = f"host gave no answer: we have waited {silence} s for its engine to load 4194304 bytes"
    assert caught.value.message == said
    assert clock.now == silence


@pytest.mark.parametrize("word", ["alive", "hello", f"loaded {INCOMING} {ONE}"])
def test_lines_without_end_after_the_archive_end(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """`alive` is believed for as long as it may take; a line each microsecond is more than may be said."""
    clock = Clock(monkeypatch, 0)
    conversation, _ = conversing(clock, *ABLE, "end", word)
    clock.step = 10
    # Whoever says that it lives is there, and its engine is what hangs.
    with pytest.raises(TargetError if word == "alive" else ConnectError, match="we have waited 904 s"):
        conversation.load({INCOMING: [A]}, "none", [bytes(4 << 20)])
    clock.step = 1e-6
    with pytest.raises(TargetError, match="thousands of lines that nobody asked for"):
        conversation.load({INCOMING: [A]}, "none", [b"x"])


@pytest.mark.parametrize(("word", "count"), [("swept 2", 2), ("swept", 0), ("swept x", 0), ("swept 9999999", 0)])
def test_what_the_target_has_swept_is_known(word: str, count: int) -> None:
    conduit = FakeConduit(*GREETING, "end", word, f"loaded {INCOMING} {ONE}", "end")
    conduit.silent_until = 1 << 30
    conversation = Conversation(conduit)
    conversation.ask([])
    conversation.greeting()
    assert conversation.load({INCOMING: [A]}, "none", [b"x"]) == {INCOMING: ONE}
    assert conversation.swept == count


def test_whoever_waits_for_long_hears_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """And hears of each wait anew."""
    clock = Clock(monkeypatch, 0)
    said: list[str] = []
    conversation, conduit = conversing(clock, *ABLE, "end", "end", told=said.append)
    conduit.lines = deque([*["alive"] * 60, f"loaded {INCOMING} {ONE}", "end", *["alive"] * 5, "done"])
    clock.step = 10
    conversation.load({INCOMING: [A]}, "none", [b"x"])
    assert said == [f"waiting for its engine to load 1 bytes for {seconds} s" for seconds in (30, 60, 120, 240, 480)]
    conversation.commit({INCOMING: ["app:1"]}.items())
    assert said[5:] == ["waiting for its engine to give the names for 30 s"]


def test_a_target_that_lives_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0)
    conversation, conduit = conversing(clock, *ABLE, "end", "end")
    conduit.lines = deque([*["alive"] * 60, f"loaded {INCOMING} {ONE}", "end", *["alive"] * 60, "done"])
    clock.step = 10
    assert conversation.load({INCOMING: [A]}, "none", [b"x"]) == {INCOMING: ONE}
    conversation.commit({INCOMING: ["app:1"]}.items())


@pytest.mark.parametrize("line", ["hello", "", "alive", "done"])
def test_a_stray_line_during_the_load_does_not_end_the_sending(line: str) -> None:
    conduit = FakeConduit("layerferry 1 sh", line, f"loaded {INCOMING} {ONE}", "end")
    conversation = Conversation(conduit)
    conversation._hello()
    conduit.stray = 1
    assert conversation.load({INCOMING: [A]}, "none", [bytes(FRAME)] * 3) == {INCOMING: ONE}
    assert conduit.said.endswith(b"0\n")
    assert conduit.sent > 3 * FRAME


def test_stray_lines_without_end_end_the_sending() -> None:
    conduit = FakeConduit("layerferry 1 sh", *["hello"] * 50_000)
    conversation = Conversation(conduit)
    conversation._hello()
    with pytest.raises(TargetError, match="thousands of lines"):
        conversation.load({INCOMING: [A]}, "none", [bytes(FRAME)] * 3)


def test_a_target_that_breaks_off_and_trickles_on_is_heard_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0)
    conversation, conduit = conversing(clock, *GREETING, "end", "hello")
    conduit.takes, clock.step = 0, 0.9
    with pytest.raises(ConnectError, match="closed the connection"):
        conversation.load({INCOMING: [A]}, "none", [b"x"])
    assert clock.now <= limits.LAST_WORDS
    clock.step = 0
    conduit.count = 0
    with pytest.raises(ConnectError, match="closed the connection"):
        conversation.load({INCOMING: [A]}, "none", [b"x"])
    assert conduit.count == limits.LAST_WORDS_LINES


def test_words_of_the_greeting_are_no_hint_to_why_the_pipe_broke() -> None:
    conduit = FakeConduit(*GREETING, "layers tar gzip zstd")
    conduit.takes = 0
    with pytest.raises(ConnectError) as caught:
        Conversation(conduit).ask([image(ONE)])
    assert caught.value.hint == ""


@pytest.mark.parametrize("line", [f"loaded {INCOMING} x", f"loaded {INCOMING} ../x", f"loaded {INCOMING}"])
def test_what_was_loaded_is_a_digest(line: str) -> None:
    with pytest.raises(VerificationError, match="does not say what it loaded"):
        loaded(line, "end")


def test_a_verdict_of_any_length_is_one_short_sentence() -> None:
    said = "failed load no such file or directory " + "no such file or directory " * 40_000
    error = verdict("host", said)
    assert len(error.message.encode()) < 2000
    assert len(verdict("host", "failed " + "x" * 1_000_000).message) < 200
    assert len(verdict("host", "failed load " + "\ufffd" * 100_000).message.encode()) < 2000


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("failed stopped Cannot connect", 5, "its engine does not run"),
        ("failed stopped EOF", 5, "its engine does not run (EOF)"),
        ("failed engine open /var/run/docker.sock: no such file or directory", 5, "its engine does not run"),
        ("failed protocol 'x' is no image ID", 5, "it does not take what we say"),
    ],
)
def test_a_verdict_of_an_engine_that_died(line: str, code: int, says: str) -> None:
    error = verdict("host", line)
    assert (error.exit_code, says in error.message) == (code, True)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("refused the policy file /etc/layerferry/receive.toml cannot be read: [Errno 13] Permission denied",
         "the receiver refuses this"),
        ("refused the name daemon/running:1 is not allowed here; daemon running?", "the receiver refuses this"),
        ("refused sudo: a password is required", "the receiver refuses this"),
        ("load lchown /run/app: permission denied", "the engine refused the image"),
        ("load open /run/app.sock: no such file or directory", "the engine refused the image"),
        ("load dial tcp 127.0.0.1:5000: connection refused", "the engine refused the image"),
    ],
)  # fmt: skip
def test_what_a_receiver_says_of_itself_or_an_engine_of_an_image_is_not_told_of_the_engine(
    said: str, message: str
) -> None:
    """Nobody is sent into the docker group of a locked-down host."""
    error = verdict("host", f"failed {said}")
    assert error.message == f"host: {message} ({said.partition(' ')[2]})"
    assert not re.search("docker group|sudo|Start it", error.hint)


def test_a_receiver_whose_disk_is_full_is_told_so() -> None:
    error = verdict("host", "failed refused the log cannot be written: No space left on device")
    assert "its disk is full" in error.message


def test_what_was_removed_meanwhile_is_told_with_what_to_do() -> None:
    error = verdict("host", "failed load open /var/lib/docker/overlay2/x/diff: no such file or directory")
    assert "removed there meanwhile, push again" in error.hint


def test_what_a_target_says_of_its_images_has_a_meaning_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*lines: list[str]) -> Any:
        return SimpleNamespace(target="host", question=lambda *_: iter(lines))

    with pytest.raises(TargetError, match=r"^host says 'odd words' of its images, which has no meaning$"):
        resolve(asked(["odd", "words"]), ["docker.io/library/app:1"])
    monkeypatch.setattr(limits, "IMAGES_TOLD", 0)
    with pytest.raises(TargetError, match=r"^host tells of more images than any host has$"):
        look(asked(["named", ONE, "app:1"], ["named", TWO, "app:2"]), [], [])


@pytest.mark.parametrize("words", [["a"] * 30_000, ["a" * 60_000]])
def test_many_words_of_a_target_about_its_images_take_little_memory(words: list[str]) -> None:
    """A line has 64 KiB at most, and there may be 50,000."""
    said = itertools.count()
    lines = (["named", ONE, *map(str.upper, words)] for _ in said)
    asked: Any = SimpleNamespace(target="host", question=lambda *_: lines)
    tracemalloc.start()
    with pytest.raises(TargetError, match=r"^host tells of more images than any host has$"):
        look(asked, [], [])
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


def test_an_image_whose_names_come_in_several_lines_has_all_of_them() -> None:
    lines = [["named", ONE, "app:1", "app:2"], ["named", TWO], ["named", ONE, "app:3"]]
    asked: Any = SimpleNamespace(target="host", question=lambda *_: iter(lines))
    assert {image.id: image.names for image in look(asked, [], []).images.values()} == {
        ONE: ["app:1", "app:2", "app:3"],
        TWO: [],
    }


LINUX = Platform("linux", "amd64")


@pytest.mark.parametrize("store", StoreKind)
@pytest.mark.parametrize(
    ("greeting", "says"),
    [
        (
            {"platform": Platform("linux", "arm64"), "holdings": {ONE: Holding(present=True)}},
            "app:1 is for linux/amd64, host runs linux/arm64",
        ),
        ({"platform": LINUX, "holdings": {}}, "host does not say what it has of app:1"),
        ({"platform": LINUX, "holdings": {TWO: Holding()}}, "host does not say what it has of app:1"),
    ],
)
def test_a_host_must_fit_the_image_and_know_what_it_has(store: StoreKind, greeting: dict[str, Any], says: str) -> None:
    host = host_of(SimpleNamespace(**greeting, store=store, blobs={}))
    source: Any = SimpleNamespace(image=image(ONE, A), names=())
    with pytest.raises(TargetError) as caught:
        host.plan([Wanted.of("app:1", ())], [[source]])
    assert caught.value.message == says


def test_a_host_must_have_room_and_take_the_compression() -> None:
    host = host_of(SimpleNamespace(free=2, accept=("none",)))
    item: Any = SimpleNamespace(present=False, plan=plan(image(ONE, A, B, C), Inventory()))
    with pytest.raises(TargetError) as caught:
        host._check_room([item])
    assert caught.value.message == "host: its disk is full (2 bytes free where its engine keeps layers, 3 needed)"
    with pytest.raises(TargetError, match=r"^host does not take zstd$"):
        host.deliver([])


def test_what_breaks_before_the_names_are_said_gives_none_of_them() -> None:
    """Else the next try would say that nobody knows what they stood for."""
    host = host_of(SimpleNamespace())
    host._before = NamesBefore()
    host._upkeep = Mock(keep=Mock(side_effect=ConnectError("host: the line broke")))
    item: Any = SimpleNamespace(names=["app:1"], image_id=ONE)
    with pytest.raises(ConnectError):
        host._commit([(ONE, item.names)], [item])
    assert host._before.of(item.names, ONE, {"app:1": ONE}) == {"app:1": ONE}
    assert not host._before.unknown


def host_of(greeting: Any) -> HostDestination:
    host = object.__new__(HostDestination)
    host._greeting = greeting
    host._conversation = SimpleNamespace(target="host")  # type: ignore[assignment]
    host._conduit = SimpleNamespace(is_here=False)  # type: ignore[assignment]
    host._options = Options(compression=Compression.parse("zstd"))
    return host
