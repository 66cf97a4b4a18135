"""The `--json` object of a push, as a Markdown summary and as the outputs of a CI step."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerferry.ci.escape import markdown_cell, one_line
from layerferry.oci.image import is_digest
from layerferry.result import mark, size

#: Bytes that GitHub takes from one step, and Buildkite from one annotation.
LARGEST_SUMMARY = 1 << 20
#: Room for the sentence that says what was left out.
_SPARE = 200


def outputs(document: Mapping[str, Any]) -> dict[str, str]:
    """The outputs of a step, single lines all. Of a push that failed, only its bytes count."""
    results: Sequence[Mapping[str, Any]] = document["results"]
    done = [result for result in results if not result["error"]]
    actions = [layer["action"] for result in done for layer in result["layers"]]
    return {
        # Later steps may put it into a shell: it is a digest, or empty.
        "image-id": _joined(result["image_id"] for result in done if is_digest(result["image_id"])),
        "bytes-sent": str(sum(result["bytes"]["sent"] or 0 for result in results)),
        "bytes-image": str(sum(result["bytes"]["image"] for result in results)),
        "layers-sent": str(len(actions) - actions.count("reuse")),
        "layers-reused": str(actions.count("reuse")),
        "targets": _joined(result["target"] for result in done),
    }


def _joined(values: Any) -> str:
    return ",".join(dict.fromkeys(one_line(value) for value in values if value))


def markdown(document: Mapping[str, Any], *, limit: int = LARGEST_SUMMARY) -> str:
    """A table of all results, then each one's layers, as far as `limit` bytes of UTF-8 hold them."""
    results: Sequence[Mapping[str, Any]] = document["results"]
    failed = sum(bool(result["error"]) for result in results)
    title = f"{failed} of {len(results)} failed" if failed else f"{len(results)} done"
    head = [
        f"### layerferry: {title} in {document['seconds']:.1f} s",
        "",
        "| | image | target | sent | image size | saved | layers sent | reused | seconds | route |",
        "|-|-|-|-:|-:|-:|-:|-:|-:|-|",
    ]
    sections = ["\n".join([*head, *map(_row, results)]) + "\n"]
    sections += [text for result in results for text in (_failure(result), _layers(result)) if text]
    return _fitting(sections, limit)


def _fitting(sections: Sequence[str], limit: int) -> str:
    """The sections that fit, in order, a smaller one after a larger one that does not, and a sentence on the rest."""
    kept: list[str] = []
    room = limit - _SPARE
    for section in sections:
        size = len(section.encode()) + 1
        if size <= room:
            kept.append(section)
            room -= size
    left = len(sections) - len(kept)
    note = f"\n*{left} more tables would not fit into {limit} bytes.*\n" if left else ""
    text = "\n".join(kept) + note
    return text if len(text.encode()) <= limit else ""


def _row(result: Mapping[str, Any]) -> str:
    sizes = result["bytes"]
    sent = sizes["sent"] or 0
    actions = [layer["action"] for layer in result["layers"]]
    saved = max(0.0, 1 - sent / sizes["image"]) if sizes["image"] and not result["error"] else None
    cells = (
        "❌" if result["error"] else "✅",
        markdown_cell(result["image"]),
        markdown_cell(result["target"]),
        size(sent),
        size(sizes["image"]) + mark(result["sizes"]),
        "" if saved is None else f"{int(saved * 10000) / 100:g} %",
        str(len(actions) - actions.count("reuse")),
        str(actions.count("reuse")),
        f"{result['seconds']:.1f}",
        markdown_cell(result["route"]["name"]),
    )
    return "| " + " | ".join(cells) + " |"


def _failure(result: Mapping[str, Any]) -> str:
    error = result["error"]
    if not error:
        return ""
    hint = f"\n> {markdown_cell(error['hint'])}" if error.get("hint") else ""
    return f"> {markdown_cell(result['target'])}: {markdown_cell(error['message'])}{hint}\n"


def _layers(result: Mapping[str, Any]) -> str:
    if not result["layers"]:
        return ""
    title = f"{markdown_cell(result['image'])} on {markdown_cell(result['target'])}"
    stored = mark(result["sizes"])
    rows = [
        f"| {number} | {markdown_cell(layer['diff_id'].removeprefix('sha256:')[:12])} | {size(layer['size'])}{stored} "
        f"| {markdown_cell(layer['action'])} | {markdown_cell(layer['reason'])} |"
        for number, layer in enumerate(result["layers"], 1)
    ]
    why = f"Route {markdown_cell(result['route']['name'])}: {markdown_cell(result['route']['reason'])}"
    table = "\n".join(["| # | layer | size | | why |", "|-:|-|-:|-|-|", *rows])
    return f"#### {title}\n\n{why}\n\n{table}\n"
