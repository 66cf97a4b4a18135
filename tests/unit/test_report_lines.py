"""Lines of layers, widths, several images and targets: what fits, what is said once, and what adds up."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from rich.console import Console

from layerferry.cli.around import open_report
from layerferry.errors import ConnectError, TargetError
from layerferry.events import Connecting, Greeted, Loading, Planned, Sending, Warned
from layerferry.oci.content import Route
from layerferry.oci.image import MEDIA_TYPE_LAYER_GZIP, Descriptor, Image, Layer, Platform
from layerferry.oci.manifest import parse_config
from layerferry.oci.plan import Action, Inventory, Plan, plan
from layerferry.push.progress import wire_bytes
from layerferry.report import JsonReport, PlainReport, document, lines, steps, widths
from layerferry.report.terminal import TerminalReport
from layerferry.result import Bytes, NamedImage, Result, WireEstimate
from layerferry.settings.values import Settings

IDS = [f"sha256:{number:064x}" for number in range(1, 60)]
REGISTRY = Route("registry", "the daemon reaches 127.0.0.1:41873")
SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs/report.schema.json").read_text(encoding="utf-8"))


def image(*made: tuple[str, int], name: str = "app:2", first: int = 0) -> Image:
    ids = IDS[first : first + len(made)]
    layers = Layer.chain(ids, [size for _, size in made])
    return Image(name, IDS[-1], Platform("linux", "amd64"), layers).created(text for text, _ in made)


def planned(of: Image, there: int) -> Plan:
    return plan(of, Inventory(chain_ids=frozenset(layer.chain_id for layer in of.layers[:there])))


def done(made: Plan, **more: Any) -> Result:
    fields: dict[str, Any] = {
        "image": made.image.reference, "target": "prod", "route": REGISTRY, "engine": "docker 28.5.2 (overlay2)",
        "steps": made.steps, "bytes": Bytes(made.image.size, made.delta, 2_000_000, 9), "seconds": 2.4,
        "image_id": IDS[0], "verified": True, "names": (f"docker.io/library/{made.image.reference}",),
        "platform": "linux/amd64",
    }  # fmt: skip
    return Result(**{**fields, **more})


APP = image(
    ("/bin/sh -c #(nop) ADD file:0a1b in / ", 80_000_000),
    ("RUN |1 V=1 /bin/sh -c apt-get update && apt-get install -y postgresql # buildkit", 449_000_000),
    ("RUN /bin/sh -c pip install -r requirements.txt # buildkit", 283_600_000),
    ("COPY app /app # buildkit", 10_200),
)


def result() -> Result:
    made = planned(APP, 2)
    patched = replace(made.steps[2], action=Action.PATCH, new=1_900_000)
    return done(replace(made, steps=(*made.steps[:2], patched, made.steps[3])))


# Layers.


@pytest.mark.parametrize(
    ("created_by", "told"),
    [
        ("/bin/sh -c #(nop) ADD file:0a1b2c in / ", "FROM base"),
        ("ADD rootfs.tar.xz / # buildkit", "FROM base"),
        ("# debian.sh --arch 'amd64' out/ 'bookworm' '@1'", "FROM base"),
        ("/bin/sh -c apt-get update", "RUN apt-get update"),
        ("RUN /bin/sh -c apt-get   update # buildkit", "RUN apt-get update"),
        ("RUN |2 A=1 B=two words /bin/sh -c make # buildkit", "RUN make"),
        ("|1 A=1 /bin/sh -c make", "RUN make"),
        ("RUN /bin/bash -o pipefail -c make # buildkit", "RUN make"),
        ("RUN /bin/sh -ec make # buildkit", "RUN make"),
        ("COPY app /app # buildkit", "COPY app /app"),
        ("/bin/sh -c #(nop) COPY dir:0a1b in /app ", "COPY … /app"),
        ("WORKDIR /x", "WORKDIR /x"),
        ("", "layer 000000000000"),
    ],
)
def test_a_layer_goes_by_its_instruction(created_by: str, told: str) -> None:
    (step,) = planned(image((created_by, 1)), 0).steps
    assert steps.instruction(step) == told


def test_the_lines_of_a_push_are_those_of_the_readme() -> None:
    assert [f"{mark} {line}" for mark, line in lines.outcome(result(), 80)] == [
        "✓ FROM base, RUN apt-get update &…   529.0 MB  there",
        "↑ RUN pip install -r requirements…   283.6 MB  patched: 1.9 MB of it is new",
        "↑ COPY app /app                       10.2 kB  new",
        "✓ app:2 is sha256:000000000000…, verified on prod      2.4 s, 2.0 MB on the wire, 99.75 % saved",
    ]


@pytest.mark.parametrize("width", range(30, 160))
def test_a_line_of_a_layer_fits_and_its_size_stays_whole(width: int) -> None:
    *told, _ = lines.outcome(result(), width)
    for (_, line), size in zip(told, ("529.0 MB", "283.6 MB", "10.2 kB"), strict=True):
        assert widths.cells(line) <= width
        assert size in line


def test_many_layers_share_a_line() -> None:
    made = planned(image(*((f"RUN step {number}", 1000) for number in range(40))), 0)
    told = [line for _, line in steps.lines(done(made), 100)]
    assert len(told) == 16
    assert told[-1].split() == ["25", "more", "layers", "25.0", "kB", "new"]


def test_why_a_layer_goes_whole_is_told() -> None:
    made = planned(APP, 2)
    step = replace(made.steps[2], reason="the target lacks it; whole, for nothing on the target reads its older files")
    told = [line for _, line in steps.lines(done(replace(made, steps=(step,))), 120)]
    assert told[0].endswith("new; whole, for nothing on the target reads its older files")


# Widths.


@pytest.mark.parametrize("width", range(12, 170, 3))
@pytest.mark.parametrize("name", ["prod", "deploy@very-long-name-of-a-host.region.example.com", "日本語のホスト"])
def test_whatever_the_width_numbers_are_whole_and_the_name_is_short(width: int, name: str) -> None:
    choices = widths.details(5_400_000, 12_000_000, 150_000.0, 44.0)
    shown, bar, text = widths.fitted(width, name, choices, bar=True)
    assert text in {"  ".join(choice) for choice in choices}
    if width >= 16:
        assert widths.cells(shown) + 2 + (bar + 2 if bar else 0) + widths.cells(text) <= width
        assert shown
    if width >= 100:
        assert text == " 45 %  5.4 of 12.0 MB  150.0 kB/s  0:44 left"
        assert bar >= 8


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def screen(width: int, *events: Any, seconds: float = 0.0, results: Sequence[Result] = ()) -> list[str]:
    """The last picture of what goes on, or the summary, of a terminal of that width."""
    clock = Clock()
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=24, color_system=None, highlight=False)
    report = TerminalReport(console, clock)
    for event in events:
        report(event)
        clock.now += 1
    clock.now += seconds
    if results:
        report.finish(results, 3.2)
        return out.getvalue().splitlines()
    with console.capture() as capture:
        console.print(report._render())
    report._live.stop()
    return capture.get().splitlines()


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "  ↑ prod  ━━━━━━━━━━━──────────────   45 %  5.4 of 12.0 MB  5.4 MB/s  0:01 left"),
        (40, "  ↑ prod  ━━━━───────   45 %  0:01 left"),
    ],
)
def test_progress_at_80_and_40_columns(width: int, line: str) -> None:
    (shown,) = screen(width, Sending("prod", 0, 12_000_000), Sending("prod", 5_400_000, 12_000_000), seconds=-1)
    assert shown.rstrip() == line


def test_what_takes_less_than_half_a_second_is_not_told_and_then_it_is() -> None:
    assert screen(80, Connecting("prod"), seconds=-0.6) == []
    assert screen(80, Connecting("prod"), seconds=-0.4) == ["  · connecting to prod…"]
    assert screen(80, Connecting("prod"), Loading("prod"), seconds=62)[0] == "  · prod  unpacks and verifies  1:03"


def test_what_goes_on_is_not_red() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system="standard", highlight=False)
    with TerminalReport(console) as report:
        for event in (Connecting("prod"), Greeted("prod", "d", "p"), Planned("prod", planned(APP, 2), REGISTRY)):
            report(event)
        report(Sending("prod", 1, 5_000_000))
        report(Loading("prod"))
        report.finish([result()], 1)
    assert "\x1b[31m" not in out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_word_is_broken(width: int) -> None:
    words = "the daemon reaches 127.0.0.1:41873 and not any of the other addresses of this machine"
    shown = screen(
        width,
        Greeted("prod", "docker 28.5.2 (overlay2)", "linux/amd64"),
        Planned("prod", planned(APP, 2), Route("registry", words)),
        Warned("prod", words),
        results=[result()],
    )
    plain = [line.replace("\x1b[?25l", "").replace("\x1b[?25h", "").split("\r")[-1] for line in shown]
    assert all(widths.cells(line.rstrip()) <= width for line in plain if "\x1b" not in line)
    assert {*words.split()} <= {word.strip("()") for line in plain for word in line.split()}


@pytest.mark.parametrize("width", range(30, 60))
def test_no_number_is_parted_from_its_unit(width: int) -> None:
    out = io.StringIO()
    report = TerminalReport(Console(file=out, force_terminal=True, width=width, color_system=None, highlight=False))
    report(Warned("prod", "of 30.0 MB that are to go 17.4 kB went in 12.5 s, at 1.4 kB/s, which is 5 % of it"))
    words = {"30.0 MB", "17.4 kB", "12.5 s", "1.4 kB/s", "5 %"}
    assert {word for word in words if any(word in line for line in out.getvalue().splitlines())} == words


def test_a_target_that_gets_several_images_greets_once_and_then_says_which_it_is() -> None:
    out = io.StringIO()
    report = TerminalReport(Console(file=out, force_terminal=True, width=160, color_system=None, highlight=False))
    report(Greeted("prod", "docker 28.5.2 (overlay2)", "linux/amd64"))
    for name in ("app:2", "web:2"):
        report(Planned("prod", planned(image(("RUN a", 100), name=name), 0), REGISTRY))
    first, second = out.getvalue().splitlines()
    assert first.startswith("prod  docker 28.5.2 (overlay2), linux/amd64      route: registry")
    assert second.startswith("prod  web:2      route: registry")


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_sizes_stand_below_each_other_however_long_a_reason_is(width: int) -> None:
    made = planned(APP, 2)
    reason = "the target lacks it; whole, for nothing on the target reads its older files"
    long = replace(made, steps=(*made.steps[:2], replace(made.steps[2], reason=reason), *made.steps[3:]))
    told = [line for _, line in steps.lines(done(long), width)]
    assert len({re.search(r" \d+\.\d [kM]?B", line).end() for line in told}) == 1  # type: ignore[union-attr]


def test_what_is_pulled_is_fetched_and_what_is_pushed_is_sent() -> None:
    for there in (2, len(APP.layers)):
        sent = lines.planned(Planned("prod", planned(APP, there), REGISTRY))
        fetched = lines.planned(Planned("this machine", planned(APP, there), REGISTRY, source="prod"))
        assert " to send" in sent
        assert fetched == sent.replace("prod", "this machine").replace(" to send", " to fetch")


# Several images, several targets.


def test_a_layer_that_several_images_have_counts_with_the_first() -> None:
    one = planned(image(("RUN a", 100), ("RUN b", 20)), 0)
    other = planned(image(("RUN a", 100), ("RUN c", 3), name="web:2"), 0).after([one])
    last = planned(image(("RUN a", 100), name="job:2"), 0).after([one, other])
    assert (one.delta, other.delta, last.delta) == (120, 0, 0)
    assert other.wanted == set(IDS[:2])
    assert [step.reason for step in other.steps] == ["it comes with app:2"] * 2
    said: list[str] = []
    report = PlainReport(said.append)
    for made in (one, other, last):
        report(Planned("prod", made, REGISTRY))
    assert [line.partition(";")[0] for line in said] == [
        "prod  app:2: 2 layers to send, 120 B", "prod  web:2: nothing to send", "prod  job:2: nothing to send",
    ]  # fmt: skip
    assert [layer["bytes"] for layer in done(other).to_json()["layers"]] == [0, 0]


def test_one_total_of_what_went() -> None:
    said: list[str] = []
    results = [done(planned(APP, 2), bytes=Bytes(100, 50, sent), target=name) for name, sent in (("a", 30), ("b", 12))]
    PlainReport(said.append).finish(results, 3.2)
    assert said[-1] == "2 of 2 done      3.2 s, 42 B on the wire"


def test_an_error_of_a_session_is_told_once_with_all_of_its_images() -> None:
    error = ConnectError("prod: the name is not known", hint="See ssh_config.")
    failed = [Result(name, "prod", REGISTRY, error=error) for name in ("app:2", "web:2", "job:2")]
    said: list[str] = []
    report = PlainReport(said.append)
    report.delivered(failed)
    report.finish([*failed, done(planned(APP, 2), target="eu")], 1)
    assert [line for line in said if "not known" in line] == ["  ✗ app:2, web:2, job:2 on prod: the name is not known"]


def test_the_results_of_several_targets_have_headings() -> None:
    said: list[str] = []
    report = PlainReport(said.append)
    report.delivered([done(planned(APP, 2)), done(planned(APP, 4), image="web:2")])
    assert said[0] == "prod  docker 28.5.2 (overlay2), linux/amd64"
    assert said[1] == "  app:2"


# JSON.


def closed(schema: Any) -> Any:
    """The schema, with no field but those that it describes."""
    if isinstance(schema, dict):
        more = {"additionalProperties": False} if "properties" in schema else {}
        return {**{key: closed(value) for key, value in schema.items()}, **more}
    return [closed(item) for item in schema] if isinstance(schema, list) else schema


def checked(told: Mapping[str, Any]) -> None:
    jsonschema.Draft202012Validator(closed(SCHEMA)).validate(told)


def test_json_is_as_its_schema_says() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    failed = Result("app:1", "host", Route("none", "x"), error=TargetError("host: full", hint="Free some."))
    dry = done(planned(APP, 2), dry_run=True, image_id="", verified=False, estimate=WireEstimate(9_000_000, 60.04))
    kept = (NamedImage(IDS[1], ("docker.io/library/app:previous",)),)
    told = document([result(), failed, dry, done(planned(APP, 2), kept=kept, pruned=kept)], 1.5)
    checked(told)
    assert told["results"][2]["bytes"]["sent"] is None
    assert [one["estimate"] for one in told["results"]] == [None, None, {"bytes": 9_000_000, "seconds": 60.0}, None]
    assert [line for _, line in lines.outcome(dry)][-2:] == [
        "some 9.0 MB would go on the wire; 60 s at 149.9 kB/s, as the line carries now",
        "dry run: nothing was sent, app:2 stays as it is",
    ]
    there = replace(dry, before=(NamedImage(IDS[3], dry.names),))
    assert [line for _, line in lines.outcome(there)][
        -1
    ] == f"dry run: nothing was sent, app:2 stays {lines.short(IDS[3])}"
    checked(document([there], 1))
    none = replace(dry, before=())
    assert [line for _, line in lines.outcome(none)][-1] == "dry run: nothing was sent, there is no app:2 on prod now"
    assert told["results"][0]["layers"][1]["created_by"].startswith("RUN |1 V=1 /bin/sh -c apt-get update")
    out = io.StringIO()
    JsonReport(out).finish([dry], 1)
    checked(json.loads(out.getvalue()))


def test_a_field_that_is_missing_or_not_described_is_found() -> None:
    told = document([result()], 1)
    wrongs: list[dict[str, Any]] = [{**told, "more": 1}, {"results": []}, {**told, "version": 2}]
    for wrong in wrongs:
        with pytest.raises(jsonschema.ValidationError):
            checked(wrong)


def test_what_a_source_holds_compressed_counts_as_that() -> None:
    made = planned(APP, 2)
    held = {APP.layers[2].diff_id: Descriptor(MEDIA_TYPE_LAYER_GZIP, IDS[9], 90_000_000)}
    assert wire_bytes(made, {}) == round(283_610_200 * 0.4)
    assert wire_bytes(made, held) == 90_000_000 + round(10_200 * 0.4)
    assert wire_bytes(planned(APP, 4), held) == 0


# Histories.


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ([{"created_by": "A"}, {"created_by": "ENV", "empty_layer": True}, {"created_by": "B"}], ["A", "B"]),
        ([{"created_by": "A"}], ["", ""]),
        ([{"created_by": 7}, {}], ["", ""]),
        (["x", "y"], ["", ""]),
        ("x", ["", ""]),
        (None, ["", ""]),
        ([{"created_by": "A" * 9000}, {"created_by": "a\n\tb"}], ["A" * 500, "a b"]),
    ],
)
def test_a_history_is_read_as_far_as_it_can_be(history: Any, told: list[str]) -> None:
    config = {
        "os": "linux", "architecture": "amd64", "history": history, "rootfs": {"type": "layers", "diff_ids": IDS[:2]},
    }  # fmt: skip
    found = parse_config(json.dumps(config).encode(), "app:1", [("base", 1), ("top", 2)])
    assert [layer.created_by for layer in found.layers] == told


@pytest.mark.parametrize(("term", "kind"), [("dumb", PlainReport), ("xterm", TerminalReport)])
def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, term: str, kind: type[object]) -> None:
    monkeypatch.setattr("layerferry.streams.Stream.isatty", lambda _: True)
    monkeypatch.setenv("TERM", term)
    assert isinstance(open_report(as_json=False, chosen=Settings()), kind)
