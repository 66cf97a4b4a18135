"""One word for one thing: JSON, pages, --help, settings and doctor use those of the glossary."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from layerferry import doctor
from layerferry.ci.summary import markdown
from layerferry.cli import cli
from layerferry.errors import TargetError
from layerferry.oci.content import Route
from layerferry.oci.image import Image, Layer, Platform
from layerferry.oci.plan import Action, Inventory, plan
from layerferry.report import JsonReport, document, lines
from layerferry.result import BroughtUp, Bytes, NamedImage, Ran, Result
from layerferry.settings.values import Settings
from layerferry.sources.files.image_archive import ArchiveSource
from layerferry.sources.files.layout import LayoutSource
from layerferry.streams import Stream
from packed import ARCHIVES, Picture, layout_files, named_entry, write_folder

ROOT = Path(__file__).parents[2]
OUTPUT = (ROOT / "docs/output.md").read_text(encoding="utf-8")
HOW = (ROOT / "docs/how-it-works.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
ROUTES = {"registry", "ngrok", "export"}
#: Words that mean what a word of the glossary means.
OTHER_WORDS = {
    "destination": "target",
    "runtime": "engine",
    "backend": "engine",
    "transferred": "sent",
    "uploaded": "sent",
    "skipped": "reused",
    "transport": "route",
    "downloaded layers": "received",
}
#: Words that name a thing by another one. What is meant has a word of OCI, docker, OpenSSH or HTTP.
METAPHORS = (
    "cargo|consignment|goodbye|journal|knock|landing|leash|lessons?|luggage|parcels?|seats?|shel(?:f|ves)|stock|tape"
    "|voyage"
)


def image(*, stored: bool = False) -> Image:
    ids = [f"sha256:{letter * 64}" for letter in "ab"]
    return Image("app:1", ids[0], Platform("linux", "amd64"), Layer.chain(ids, [900, 100])).as_stored([stored, False])


def result(*, stored: bool = False, **more: Any) -> Result:
    planned = plan(image(stored=stored), Inventory(chain_ids=frozenset([image().layers[0].chain_id])))
    steps, counts = planned.steps, Bytes(1000, planned.delta, 70, 80)
    made = {"steps": steps, "bytes": counts, "sizes": planned.image.sizes_are, "names": ("docker.io/library/app:1",)}
    return Result("app:1", "host", Route("export", "as asked"), **{**made, **more})


def fields(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = value.values()
    elif not isinstance(value, list):
        return
    for inner in value:
        yield from fields(inner)


def real_fields() -> set[str]:
    failed = result(error=TargetError("host: no", hint="Do."))
    findings = doctor.Findings()
    findings.add("CI", "none")
    out = io.StringIO()
    doctor.show(findings, Stream(out), as_json=True)
    kept = result(
        kept=(NamedImage("sha256:0", ("docker.io/library/app:previous",)),),
        ran=(Ran("host", 0, 1.0),),
        up=(BroughtUp("web", "created", "healthy"),),
    )
    return {*fields(document([result(), failed, kept], 1)), *fields(json.loads(out.getvalue()))}


def test_every_field_of_json_is_in_the_glossary_and_nothing_else_is() -> None:
    table = GLOSSARY.partition("## Words of the reports")[2]
    told = set(re.findall(r"^\| ([a-z_, ]+) \|", table, re.MULTILINE)) - {"field"}
    words = {word for row in told for word in row.split(", ")} | set(re.findall(r"`([a-z_]+)`", table))
    values = {*Action, "uncompressed", "stored", "doctor"}
    assert real_fields() - words - {"name", "results"} == set()
    assert words - values - real_fields() == set()
    assert values <= words


def test_the_json_of_the_page_has_the_very_fields() -> None:
    start, end = OUTPUT.index("{", OUTPUT.index("<!-- json:")), OUTPUT.index("<!-- end of json -->")
    shown = json.loads(OUTPUT[start:end].strip().removesuffix("```"))
    (one,), (real,) = shown["results"], document([result()], 1)["results"]
    assert shown.keys() == document([], 1).keys()
    assert one.keys() == real.keys()
    for name in ("route", "bytes"):
        assert one[name].keys() == real[name].keys()
    assert one["layers"][0].keys() == real["layers"][0].keys()
    assert {layer["action"] for layer in one["layers"]} <= set(Action)


def options(command: click.Command) -> Iterator[tuple[str, str]]:
    yield command.name or "", command.help or ""
    for parameter in command.params:
        yield parameter.name or "", getattr(parameter, "help", None) or ""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in filter(None, (command.get_command(context, name) for name in command.list_commands(context))):
            yield from options(inner)


def test_help_settings_and_pages_have_one_word_for_one_thing() -> None:
    settings = [(name, field.metadata["says"]) for name, field in Settings.__dataclass_fields__.items()]
    pages = [
        (name, (ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "docs/output.md", "docs/ci.md")
    ]
    for where, text in [*options(cli), *settings, *pages]:
        found = {word for word in OTHER_WORDS if re.search(rf"\b{word}\b", text, re.IGNORECASE)}
        assert found == set(), f"{where}: {[(word, OTHER_WORDS[word]) for word in found]}"


def test_no_source_and_no_document_has_a_metaphor_for_a_thing() -> None:
    paths = [
        path for top in ("src", "docs") for path in (ROOT / top).rglob("*") if path.suffix in {".py", ".sh", ".md"}
    ]
    assert len(paths) > 100
    words = re.compile(rf"(?<![a-z])(?:{METAPHORS})(?![a-z])", re.IGNORECASE)
    found = [(path.name, words.findall(text)) for path in paths if words.search(text := path.read_text("utf-8"))]
    assert found == []


def test_the_routes_are_the_same_in_help_settings_page_and_glossary() -> None:
    texts = [text for name, text in options(cli) if name == "route"]
    texts.append(Settings.__dataclass_fields__["route"].metadata["says"])
    row = next(line for line in GLOSSARY.splitlines() if line.startswith("| route |"))
    for text in [*texts, row, HOW[HOW.index("| route | how |") :]]:
        assert all(re.search(rf"\b{route}\b", text) for route in ROUTES), text
    assert texts


@pytest.mark.parametrize("dry_run", [True, False])
def test_lines_and_summary_say_which_sizes_they_show(*, dry_run: bool) -> None:
    """What is not marked is uncompressed."""
    for stored in (True, False):
        made = result(stored=stored, dry_run=dry_run)
        said = [line for _, line in lines.outcome(made) if "layer" in line]
        assert len(said) == 2
        assert all(("B as stored" in line) is stored for line in said)
        summary = markdown(document([made], 1))
        assert summary.count("B as stored") == (3 if stored else 0)
        out = io.StringIO()
        JsonReport(out).finish([made], 1)
        assert json.loads(out.getvalue())["results"][0]["sizes"] == ("stored" if stored else "uncompressed")


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_a_source_says_what_its_sizes_are(tmp_path: Path, compression: Any) -> None:
    picture = Picture.of("app", compression)
    files = layout_files([named_entry(picture, "docker.io/library/app:1")], picture.documents)
    found = [LayoutSource().open(f"oci:{write_folder(tmp_path / 'layout', files)}").image]
    unpacked = {"docker20", "podman", "nix"}  # these formats have no compressed layers
    for name, build in ARCHIVES.items():
        if compression and name in unpacked:
            continue
        path = tmp_path / f"{name}.tar"
        path.write_bytes(build(picture, "app:1"))
        found.append(ArchiveSource().open(f"archive:{path}").image)
    assert len(found) > 2
    assert {one.sizes_are for one in found} == {"stored" if compression else "uncompressed"}
    assert all(one.size == sum(map(len, picture.layers)) for one in found)
