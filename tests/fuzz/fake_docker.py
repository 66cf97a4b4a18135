"""A docker that believes everything. It keeps its images in $HOME/engine.json, and all that it was told in $HOME/calls.

`engine.json`: {"info", "images": {ID: [diff IDs]}, "names": {name: ID}, "lie": what `load` gets wrong,
"blobs": {ID: manifest that a push tells}, "say": {verb: [status, standard output, standard error]}, "for": a word that
a call must hold to be answered so, "until": a name that must not be given yet, "endless": {verb: "out" or "err"}}.
"""

# What this script seldom needs it imports where it does: it starts some hundred times in a run of the suite.
# ruff: noqa: PLC0415, PTH116, PTH123, PTH208
from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    State = dict[str, Any]

HOME = os.environ.get("HOME", "/")


def main(arguments: list[str]) -> int:
    with open(f"{HOME}/calls", "a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    with open(f"{HOME}/engine.json") as file:
        state = json.load(file)
    if arguments[0] == "--config":
        with open(f"{arguments[1]}/config.json") as file:
            state["config"] = json.load(file)
            mode = oct(os.fstat(file.fileno()).st_mode & 0o777)
        with open(f"{HOME}/seen.json", "w") as file:
            modes = [mode, oct(os.stat(arguments[1]).st_mode & 0o777)]
            config = {
                "folder": os.path.realpath(arguments[1]),
                "modes": modes,
                "config": state["config"],
                "environment": dict(os.environ),
            }
            json.dump(config, file)
        arguments = arguments[2:]
    verb, *words = arguments[1:] if arguments[0] == "image" else arguments
    over = state.get("until") in state["names"]
    if verb in state.get("say", {}) and not over and any(state.get("for", "") in word for word in ["", *words]):
        code, out, err = state["say"][verb]
        sys.stdout.write(out)
        sys.stderr.write(err)
        return int(code)
    while verb in state.get("endless", {}):
        os.write(1 if state["endless"][verb] == "out" else 2, b"x" * 65536)
    verbs = {"info": info, "ls": ls, "inspect": inspect, "load": load, "tag": tag, "rm": rm, "push": push}
    code = verbs[verb](state, words)
    with open(f"{HOME}/engine.json", "w") as file:
        json.dump({key: value for key, value in state.items() if key != "config"}, file)
    return code


def info(state: State, words: list[str]) -> int:
    print(state["info"])
    return 0


def ls(state: State, words: list[str]) -> int:
    for name, image_id in state["names"].items():
        print(image_id, name.removeprefix("docker.io/").removeprefix("library/"))
    return 0


def inspect(state: State, words: list[str]) -> int:
    code = 0
    for word in words[2:]:
        image_id = state["names"].get(word, word)
        if image_id in state["images"]:
            print(image_id, *state["images"][image_id])
        else:
            print(f"Error: No such image: {word}", file=sys.stderr)
            code = 1
    return code


def load(state: State, words: list[str]) -> int:
    import tarfile

    copy = f"{HOME}/load-{len(os.listdir(HOME))}.tar"
    with open(copy, "wb") as file:
        file.write(sys.stdin.buffer.read())
    lie = state.get("lie", "")
    if lie == "fail":
        print("Error: no space left on device", file=sys.stderr)
        return 1
    with tarfile.open(copy) as archive:

        def read(name: str) -> Any:
            stream = archive.extractfile(name)
            assert stream is not None
            return json.load(stream)

        for told, entry in zip(read("manifest.json"), read("index.json")["manifests"], strict=True):
            config = told["Config"].replace("blobs/sha256/", "sha256:")
            image_id = entry["digest"] if "snapshotter" in state["info"] else config
            if lie != "nothing":
                state["images"][image_id] = [] if lie == "empty" else read(told["Config"])["rootfs"]["diff_ids"]
                state["names"][told["RepoTags"][0]] = image_id
    return 0


def tag(state: State, words: list[str]) -> int:
    image_id = state["names"].get(words[0], words[0])
    if image_id not in state["images"]:
        print(f"Error: No such image: {words[0]}", file=sys.stderr)
        return 1
    state["names"][words[1]] = image_id
    return 0


def rm(state: State, words: list[str]) -> int:
    if state["names"].pop(words[0], None):
        return 0
    print(f"Error: No such image: {words[0]}", file=sys.stderr)
    return 1


def push(state: State, words: list[str]) -> int:
    import http.client

    host, _, rest = words[0].partition("/")
    repository, _, reference = rest.rpartition(":")
    headers = {"Authorization": f"Basic {state['config']['auths'][host]['auth']}"}
    told = state["blobs"][state["names"][words[0]]]
    connection = http.client.HTTPConnection(host, timeout=5)
    for number, manifest in enumerate(told if isinstance(told, list) else [told]):
        for blob in [manifest["config"], *manifest["layers"]] if not state.get("silent") else []:
            connection.request("HEAD", f"/v2/{repository}/blobs/{blob['digest']}", headers=headers)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                return 1
        connection.request("PUT", f"/v2/{repository}/manifests/{reference}", json.dumps(manifest), headers)
        response = connection.getresponse()
        response.read()
        if response.status != 201 and not number:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
