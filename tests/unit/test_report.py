"""What people read: sizes, savings that are never more than true, and lines that tell what was done."""

import io
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from layerferry.ci.summary import outputs
from layerferry.errors import DeadlineError, Halt, Interrupted, LayerferryError, TargetError
from layerferry.events import Connecting, Greeted, Loading, Planned, Receiving, Sending, Stalled, Warned
from layerferry.oci.content import Route
from layerferry.oci.image import Image, Layer, Platform
from layerferry.oci.plan import Action, Inventory, Plan, plan
from layerferry.report import JsonReport, PlainReport, document, lines, widths
from layerferry.report.terminal import TerminalReport
from layerferry.result import Bytes, Result, size

IDS = [f"sha256:{letter * 64}" for letter in "abcde"]
HISTORY = (
    "/bin/sh -c #(nop) ADD file:1a2b in / ", "RUN /bin/sh -c apt-get  update # buildkit", "COPY app /app # buildkit",
    "", "WORKDIR /x",
)  # fmt: skip
EXPORT = Route("export", "as asked")


def planned(*sizes: int, there: int = 0) -> Plan:
    image = Image("app:1", IDS[0], Platform("linux", "amd64"), Layer.chain(IDS[: len(sizes)], sizes))
    image = image.created(HISTORY[: len(sizes)])
    return plan(image, Inventory(chain_ids=frozenset(layer.chain_id for layer in image.layers[:there])))


def done(made: Plan, *, sent: int = 5000, **more: Any) -> Result:
    fields: dict[str, Any] = {
        "image": "app:1", "target": "host", "route": EXPORT, "engine": "docker 28.5.2 (overlay2)",
        "steps": made.steps, "bytes": Bytes(made.image.size, made.delta, sent, 9), "seconds": 1.26,
        "image_id": IDS[1], "verified": True, "names": ("docker.io/library/app:1",),
    }  # fmt: skip
    return Result(**{**fields, **more})


# Figures.


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (64_000, "64.0 kB"),
        (812_000_000, "812.0 MB"),
        (1_000_000_000, "1.00 GB"),
        (2_345_000_000_000, "2345.00 GB"),
    ],
)
def test_sizes_are_in_powers_of_1000(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("sent", "image", "text"),
    [
        (0, 100, "100 % saved"),
        (1, 3, "66.66 % saved"),
        (1, 1_000_000, "99.99 % saved"),
        (1, 10**12, "99.99 % saved"),
        (500, 1000, "50 % saved"),
        (1000, 1000, "0 % saved"),
        (2000, 1000, "0 % saved"),
        (5, 0, "0 % saved"),
    ],
)
def test_savings_never_claim_more_than_is_true(sent: int, image: int, text: str) -> None:
    assert lines.share(Result("app:1", "host", EXPORT, bytes=Bytes(image=image, sent=sent)).saved) == text


def test_savings_are_at_most_what_was_saved_whatever_the_sizes() -> None:
    for sent in range(0, 20_000, 7):
        result = Result("app:1", "host", EXPORT, bytes=Bytes(image=20_000, sent=sent))
        percent = float(lines.share(result.saved).partition(" ")[0])
        assert percent * 20_000 <= 100 * (20_000 - sent) + 1e-6
        assert percent * 20_000 > 100 * (20_000 - sent) - 2.1 * 100


def test_what_was_pulled_was_on_the_wire_as_it_was_read() -> None:
    pulled = Result("app:1", "this machine", EXPORT, bytes=Bytes(1000, 100, sent=900, received=50), source="prod")
    assert (pulled.wire, pulled.saved) == (50, 0.95)


# What is told of an image.


def told(result: Result) -> list[str]:
    return [f"{mark} {' '.join(line.split())}" for mark, line in lines.outcome(result)]


def test_a_delta_tells_what_was_there_what_was_sent_and_what_it_is_now() -> None:
    assert told(done(planned(900_000, 90_000, 10_000, there=2))) == [
        "✓ FROM base, RUN apt-get update 990.0 kB there",
        "↑ COPY app /app 10.0 kB new",
        "✓ app:1 is sha256:bbbbbbbbbbbb…, verified on host 1.3 s, 5.0 kB on the wire, 99.5 % saved",
    ]


def test_what_was_not_there_is_not_called_there_and_what_was_not_sent_is_not_called_sent() -> None:
    assert " there" not in str(told(done(planned(10, 20))))
    assert " new" not in str(told(done(planned(10, 20, there=2), sent=300)))


def test_a_patched_layer_is_sent_and_what_of_it_is_new_is_told() -> None:
    made = planned(10_000, 2_000_000, there=1)
    patched = replace(made, steps=(made.steps[0], replace(made.steps[1], action=Action.PATCH, new=30_000)))
    assert (patched.wanted, patched.delta) == (made.wanted, 2_000_000)
    assert told(done(patched))[:3] == [
        "✓ FROM base 10.0 kB there",
        "↑ RUN apt-get update 2.0 MB patched: 30.0 kB of it is new",
        "✓ app:1 is sha256:bbbbbbbbbbbb…, verified on host 1.3 s, 5.0 kB on the wire, 99.75 % saved",
    ]
    document = done(patched).to_json()
    assert outputs({"results": [document]})["layers-sent"] == "1"


def test_a_layer_that_comes_twice_counts_once_as_sent() -> None:
    image = Image("app:1", IDS[0], Platform("linux", "amd64"), Layer.chain([IDS[0], IDS[1], IDS[0]], [10, 20, 10]))
    assert plan(image, Inventory()).delta == 30


def test_a_dry_run_says_that_nothing_was_sent() -> None:
    text = told(done(planned(900, 100, there=1), dry_run=True, verified=False, image_id=""))
    assert text == [
        "✓ FROM base 900 B there",
        "↑ RUN apt-get update 100 B new",
        "· dry run: nothing was sent, app:1 stays as it is",
    ]


def test_a_failure_is_one_line() -> None:
    result = Result("app:1", "host", EXPORT, error=TargetError("host: its disk is full"))
    (line,) = told(result)
    assert line.startswith("✗ app:1")
    assert line.endswith("host: its disk is full")


def test_all_names_are_told_as_docker_shows_them() -> None:
    names = ("docker.io/library/app:1", "docker.io/team/app:2", "ghcr.io/team/app:latest")
    assert told(done(planned(1), names=names))[-1].startswith("✓ app:1, team/app:2, ghcr.io/team/app:latest is ")


# Plain lines, for logs.


def plain(*events: Any, results: Sequence[Result] = ()) -> list[str]:
    said: list[str] = []
    report = PlainReport(said.append)
    for event in events:
        report(event)
    report.finish(results, 3.21)
    return said


def test_a_log_is_told_each_thing_once_and_no_progress() -> None:
    made = planned(900, 100, there=1)
    said = plain(
        Greeted("host", "docker 28.5.2 (overlay2)", "linux/amd64"),
        Planned("host", made, EXPORT),
        *(Sending("host", number, 100) for number in range(100)),
        Loading("host"),
        Warned("host", "the route registry failed"),
    )
    assert said == [
        "host  docker 28.5.2 (overlay2), linux/amd64",
        "host  app:1: 1 layer to send, 100 B; route: export (as asked)",
        "warning: host: the route registry failed",
    ]


def test_several_results_are_summed_up_and_failures_are_not_counted_as_done() -> None:
    failed = Result("app:1", "two", EXPORT, error=TargetError("two: no"))
    assert plain(results=[done(planned(1)), failed])[-1] == "1 of 2 done      3.2 s, 5.0 kB on the wire"
    assert not [line for line in plain(results=[done(planned(1))]) if "of 1 done" in line]


# JSON.


def test_json_is_one_object_whatever_happened_before() -> None:
    out = io.StringIO()
    report = JsonReport(out)
    report(Greeted("host", "docker 28", "linux/amd64", "mind this"))
    report(Planned("host", planned(1), EXPORT))
    report(Sending("host", 1, 2))
    report.finish([done(planned(900, 100, there=1))], 1.23456)
    (result,) = json.loads(out.getvalue())["results"]
    assert result["layers"] == [
        {
            "diff_id": IDS[0],
            "size": 900,
            "action": "reuse",
            "bytes": 0,
            "reason": "the target has it with all layers below",
            "created_by": "/bin/sh -c #(nop) ADD file:1a2b in /",
        },
        {
            "diff_id": IDS[1],
            "size": 100,
            "action": "send",
            "bytes": 100,
            "reason": "the target lacks it",
            "created_by": "RUN /bin/sh -c apt-get update # buildkit",
        },
    ]
    assert result["bytes"] == {"image": 1000, "delta": 100, "sent": 5000, "received": 9, "resumed": 0}
    assert (result["image_id"], result["verified"], result["error"]) == (IDS[1], True, None)
    assert json.loads(out.getvalue())["seconds"] == 1.235


def test_a_failure_in_json_has_message_hint_and_exit_code() -> None:
    failed = Result("app:1", "host", EXPORT, error=TargetError("host: full", hint="Free some."))
    (result,) = document([failed], 0)["results"]
    assert result["error"] == {"message": "host: full", "hint": "Free some.", "exit_code": 5}
    assert (result["layers"], result["verified"], result["image_id"]) == ([], False, "")


# A terminal.


def terminal(*events: Any, results: Sequence[Result] = (), width: int = 100, interactive: bool = True) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=interactive, width=width, color_system=None, highlight=False)
    with TerminalReport(console) as report:
        for event in events:
            report(event)
        report.finish(results, 3.2)
    return out.getvalue()


def test_a_terminal_shows_progress_while_it_lasts_and_the_summary_after() -> None:
    made = planned(900, 100_000, there=1)
    text = terminal(
        Greeted("host", "docker 28.5.2 (overlay2)", "linux/amd64"),
        Planned("host", made, EXPORT),
        Sending("host", 50_000, 100_000),
        Loading("host"),
        results=[done(made)],
    )
    assert "host  docker 28.5.2 (overlay2), linux/amd64" in text
    assert "route: export (as asked)" in text
    assert "app:1 is sha256:bbbbbbbbbbbb…, verified on host" in text
    assert text.index("verified on host") > text.index("route:")


@pytest.mark.parametrize("message", ["dial [/var/run/docker.sock] refused", "[bold]plain[/bold]", "[red]"])
def test_words_of_others_are_no_markup_on_a_terminal(message: str) -> None:
    assert f"host: {message}" in terminal(Warned("host", message))


@pytest.mark.parametrize("reason", ["reads [/x]", "[red]"])
def test_a_reason_is_no_markup_on_a_terminal(reason: str) -> None:
    assert reason in terminal(Greeted("host", "d", "p"), Planned("host", planned(1), Route("export", reason)))


@pytest.mark.parametrize("width", [20, 100])
def test_an_emoji_code_and_a_backslash_are_as_they_were(width: int) -> None:
    text = terminal(Warned("host", r":smile: [/] \[b] x\ "), width=width)
    assert r":smile: [/] \[b] x\ ".strip() in " ".join(text.split())


def test_markup_in_a_targets_name_is_none_beside_a_bar() -> None:
    for name in ("[red]x", "x\\", "[/]", "{task.total}"):
        made = planned(5_000_000)
        text = terminal(
            Greeted(name, "d", "p"), Planned(name, made, EXPORT), Sending(name, 1, 5_000_000), Loading(name)
        )
        assert f"{name}  d, p" in text


# Words of others.

PAINT = "\x1b]0;x\x07\x9b31m\r::add-mask::x\n::error::x\u2028##vso[x] ##teamcity[x]\u202e"


def painted() -> tuple[list[Any], list[Result]]:
    """Every field that others may fill."""
    image = Image(f"app{PAINT}", IDS[0], Platform("linux", "amd64"), Layer.chain(IDS[:1], [5_000_000]))
    made, route, name = plan(image, Inventory()), Route(f"r{PAINT}", f"why{PAINT}"), f"host{PAINT}"
    events = [
        Greeted(name, f"docker{PAINT}", f"linux{PAINT}"), Planned(name, made, route),
        Sending(name, 1, 5_000_000), Loading(name), Warned(name, PAINT),
    ]  # fmt: skip
    names = ("docker.io/library/app:1",)
    good = Result(image.reference, name, route, steps=made.steps, image_id=PAINT, verified=True, names=names)
    return events, [good, Result(image.reference, name, route, error=TargetError(PAINT, hint=PAINT), names=names)]


def paints(text: str) -> bool:
    hidden = any(not (character.isprintable() or character in "\n\t") for character in text)
    commands = ("##vso[", "##teamcity[")
    return (
        hidden or any(c in text for c in commands) or any(line.lstrip().startswith("::") for line in text.split("\n"))
    )


def test_no_report_lets_anything_through() -> None:
    events, results = painted()
    said = plain(*events, results=results)
    assert not paints("\n".join(said))
    assert not any("\n" in line for line in said)
    text = terminal(*events, results=results, interactive=False)
    assert not paints(text)
    out, warned = io.StringIO(), list[str]()
    report = JsonReport(out, warned.append)
    for event in events:
        report(event)
    report.finish(results, 1)
    assert not paints(out.getvalue() + "\n".join(warned))
    told = json.loads(out.getvalue())["results"][1]
    assert (told["image"], told["target"]) == (f"app{PAINT}", f"host{PAINT}")
    assert not any(paints(text) for text in (*told["error"].values(), *told["route"].values()) if isinstance(text, str))


# Outcomes as they come.


def test_what_was_told_is_not_told_again() -> None:
    good, bad = done(planned(1)), Result("app:1", "two", EXPORT, error=TargetError("two: no"))
    said: list[str] = []
    report = PlainReport(said.append)
    report.delivered([bad])
    assert said == ["  ✗ app:1 on two: no"]
    report.finish([good, bad], 3.21)
    assert len([line for line in said if "on two: no" in line]) == 1
    assert said[-1] == "1 of 2 done      3.2 s, 5.0 kB on the wire"
    assert "verified on host" in said[-2]


def test_a_terminal_shows_them_above_the_bars() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None, highlight=False)
    good, bad = done(planned(1)), Result("app:1", "two", EXPORT, error=TargetError("two: no"))
    with TerminalReport(console) as report:
        report(Sending("two", 1, 5_000_000))
        report(Sending("host", 1, 5_000_000))
        report.delivered([bad])
        assert "on two: no" in out.getvalue()
        report.finish([good, bad], 3.2)
    assert out.getvalue().count("on two: no") == 1


# What goes on.


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.asked: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        self.asked()
        return self.now


def logged(json_report: bool = False) -> tuple[PlainReport | JsonReport, list[str], Clock]:
    said: list[str] = []
    clock = Clock()
    if json_report:
        return JsonReport(io.StringIO(), said.append, clock), said, clock
    return PlainReport(said.append, clock=clock), said, clock


@pytest.mark.parametrize("json_report", [False, True])
def test_a_log_says_every_quarter_of_a_minute_what_moves(json_report: bool) -> None:
    report, said, clock = logged(json_report)
    report(Greeted("host", "d", "p"))
    report(Planned("host", planned(100_000_000), EXPORT))
    said.clear()
    for second in range(61):
        clock.now = 100 + second
        report(Sending("host", second * 500_000, 50_000_000))
    assert said == [
        "host  15 %, 7.5 of 50.0 MB on the wire, 500.0 kB/s, 85 s left",
        "host  30 %, 15.0 of 50.0 MB on the wire, 500.0 kB/s, 70 s left",
        "host  45 %, 22.5 of 50.0 MB on the wire, 500.0 kB/s, 55 s left",
        "host  60 %, 30.0 of 50.0 MB on the wire, 500.0 kB/s, 40 s left",
    ]


def test_it_says_that_nothing_moves_and_that_the_target_unpacks() -> None:
    report, said, clock = logged()
    assert isinstance(report, PlainReport)
    log = report._log
    clock.now += 15
    log.remind()
    report(Greeted("host", "d", "p"))
    clock.now += 15
    log.remind()
    report(Planned("host", planned(10_000_000), EXPORT))
    clock.now += 15
    log.remind()
    report(Sending("host", 500_000, 3_000_000))
    clock.now += 10
    report(Sending("host", 1_500_000, 3_000_000))
    for _ in range(2):
        clock.now += 5
        log.remind()
    clock.now += 15
    log.remind()
    report(Loading("host"))
    for _ in range(40):
        clock.now += 1
        log.remind()
    assert [line for line in said if "d, p" not in line and "route" not in line] == [
        "looking at the images, for 15 s",
        "host  comparing layers, for 15 s",
        "host  reading layers, for 15 s",
        "host  50 %, 1.5 of 3.0 MB on the wire, 66.7 kB/s, 22 s left",
        "host  50 %, 1.5 of 3.0 MB on the wire, nothing moves",
        "host  unpacking and verifying, for 15 s",
        "host  unpacking and verifying, for 30 s",
    ]


def test_of_a_pull_a_log_says_what_comes() -> None:
    report, said, clock = logged()
    assert isinstance(report, PlainReport)
    report(Planned("this machine", planned(100_000_000), EXPORT, "prod"))
    said.clear()
    for second in range(16):
        clock.now = 100 + second
        report(Receiving(second * 500_000, 0))
    for second in range(16, 31):
        clock.now = 100 + second
        report(Receiving(second * 500_000, 50_000_000))
    report(Receiving(50_000_000, 50_000_000))
    for _ in range(2):
        clock.now += 15
        report._log.remind()
    assert said == [
        "this machine  receiving: 7.5 MB on the wire, 500.0 kB/s",
        "this machine  30 %, 15.0 of 50.0 MB on the wire, 500.0 kB/s, 70 s left",
        "this machine  unpacking and verifying, for 15 s",
        "this machine  unpacking and verifying, for 30 s",
    ]


@pytest.mark.parametrize(
    ("total", "shown"),
    [
        (50_000_000, "↓ this machine ━━━━━━ 20 % 10.0 of 50.0 MB 5.0 MB/s 0:08 left"),
        (0, "· this machine receiving 10.0 MB 5.0 MB/s 0:02"),
    ],
)
def test_of_a_pull_a_terminal_shows_what_comes(total: int, shown: str) -> None:
    clock = Clock()
    out = io.StringIO()
    report = TerminalReport(Console(file=out, force_terminal=True, width=100, color_system=None), clock)
    report(Planned("this machine", planned(100_000_000), EXPORT, "prod"))
    for second in range(3):
        clock.now = 100 + second
        report(Receiving(second * 5_000_000, total))
    line = report._line("this machine", dict(report._activities.items())["this machine"], clock.now).plain
    assert " ".join(line.replace("─", "").split()) == shown


def test_a_terminal_that_draws_waits_for_nobody_who_prints() -> None:
    """rich draws in a thread of its own, and holds its lock meanwhile, which whoever prints waits for."""
    report = TerminalReport(Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None))
    drawn = threading.Event()

    def draw() -> None:
        report._render()
        drawn.set()

    with report._printing:
        threading.Thread(target=draw, daemon=True).start()
        assert drawn.wait(60)


def test_nobody_notes_anything_while_a_line_is_made_of_it() -> None:
    """A rate that begins anew has no samples for a moment, and whoever draws reads them."""
    clock = Clock()
    report = TerminalReport(Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None), clock)
    noting: list[bool] = []
    clock.asked = lambda: noting.append(report._noting.locked())
    for event in (Planned("host", planned(5_000_000), EXPORT), Receiving(1, 50), Receiving(20, 50), Receiving(2, 50)):
        report(event)
        clock.now += 1
    report(Receiving(9, 50))
    noting.clear()
    report._render()
    assert noting == [True] * len(noting)
    assert len(noting) > 2, "the rate asks, too"


def test_of_many_targets_one_line_tells() -> None:
    report, said, clock = logged()
    for number in range(50):
        report(Sending(f"host{number}", 1_000_000, 4_000_000))
    report(Loading("host7"))
    report.delivered([done(planned(1), target="host9")])
    said.clear()
    clock.now += 15
    report(Sending("host1", 2_500_000, 4_000_000))
    (line,) = said
    assert line.startswith("49 targets under way: 48 sending, 1 unpacking and verifying; ")
    assert line.endswith("; 49.5 of 192.0 MB on the wire, 100.0 kB/s, 15 s left")


@pytest.mark.parametrize(("rate", "told"), [(3, "3 B/s"), (600, "600 B/s, 833 min left")])
def test_a_time_left_of_more_than_a_day_is_not_told(rate: int, told: str) -> None:
    report, said, clock = logged()
    for second in range(16):
        clock.now = 100 + second
        report(Sending("host", rate * second, 30_000_000))
    assert said == [f"host  0 %, {15 * rate / 1000:.1f} kB of 30.0 MB on the wire, {told}".replace("0.0 kB", "45 B")]
    report(Sending("other", 3, 3))
    clock.now += 1
    report(Sending("other", 3, 3))
    clock.now += 15
    report(Sending("host", rate * 31, 30_000_000))
    assert ("left" in said[-1]) is ("left" in told)
    left = 30_000_000 / rate
    assert any("left" in text for text in widths.details(1, 30_000_000, rate, left)[0]) is ("left" in told)


def test_a_line_of_any_kind_is_no_silence() -> None:
    report, said, clock = logged()
    clock.now += 14
    report(Warned("host", "the route registry failed"))
    clock.now += 14
    report(Sending("host", 1, 2))
    assert said == ["warning: host: the route registry failed"]


@pytest.mark.parametrize("json_report", [False, True])
@pytest.mark.parametrize("error", [Interrupted(), DeadlineError("gave up after 5 s")])
def test_after_a_signal_a_log_says_once_that_it_ends(json_report: bool, error: LayerferryError) -> None:
    report, said, clock = logged(json_report)
    report(Connecting("host"))
    Halt(error)
    for _ in range(121):
        report(Sending("host", 1, 5_000_000))
        report(Stalled("host", "takes nothing for 20 s"))
        report._log.remind()
        clock.now += 1
    assert said == ["ending …"]


def test_an_end_that_is_made_at_once_is_not_announced() -> None:
    report, said, clock = logged()
    report(Connecting("host"))
    Halt(Interrupted())
    clock.now += 15
    report._log.remind()
    assert said == []


def test_after_a_signal_a_terminal_shows_that_it_ends_and_no_progress() -> None:
    out = io.StringIO()
    report = TerminalReport(Console(file=out, force_terminal=True, width=100, color_system=None))
    report(Sending("host", 1, 5_000_000))
    Halt(Interrupted())
    report(Stalled("host", "takes nothing for 20 s"))
    report._live.stop()
    assert str(report._render()).strip() == "ending …"
    assert "takes nothing" not in out.getvalue()


def test_it_looks_by_itself_as_long_as_it_lasts() -> None:
    report, _, _ = logged()
    before = set(threading.enumerate())  # some of other tests may end meanwhile
    with report:
        (watch,) = set(threading.enumerate()) - before
    assert not watch.is_alive()
