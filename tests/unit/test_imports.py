"""The rules of the house that can be read off the source: who may import what, and how long anything may be."""

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import layerferry

ROOT = Path(layerferry.__file__).parent

#: Rooms, top to bottom. A module imports from rooms further down, from those further right in its row, or from its own.
STOREYS = (
    (
        "__main__",
        "docker_plugin",
        "cli",
        "plugin_launcher",
        "doctor",
        "ci_run",
        "image_signing",
        "rollback",
        "context",
        "compose",
        "named_targets",
    ),
    ("push", "routes"),
    ("sources", "report", "receive", "patch", "targets"),
    ("registry_client", "embedded_registry", "streams", "process_socket", "log"),
    ("settings", "tar_headers", "signing"),
    ("ci", "compression", "chunks", "result"),
    ("events", "disk", "oci", "temporary", "lazy"),
    ("mistakes", "errors", "processes", "causes", "protocol", "deadline"),
)

#: One room for each outside dependency. Two rows have a second door:
#: zstandard is written by compression.stream and read by chunks, and sources.daemon adapts the docker SDK's requests.
OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "click": ("cli",),
    "docker": ("sources.daemon.client",),
    "h11": ("embedded_registry.http_server",),
    "pydantic": ("settings",),
    "pydantic_settings": ("settings",),
    "pyngrok": ("routes.ngrok.tunnel",),
    "requests": ("registry_client", "sources.daemon"),
    "rich": ("report.terminal",),
    "urllib3": ("registry_client", "sources.daemon"),
    "zstandard": ("compression.stream", "chunks"),
}

#: What plan and route choice may use: nothing that reads, writes, waits or asks.
PURE_MODULES = ("oci.content", "oci.image", "oci.plan", "oci.store_kind", "routes.choose")
PURE_IMPORTS = {
    "collections.abc",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "re",
    "typing",
}

#: The only places that touch the environment of the process.
ENVIRONMENT: Mapping[str, str] = {
    "settings": "it is its job",
    "settings.model": "it is its job",
    "receive.program": "a program of its own, which sshd starts: it hands the mapping down from its __main__ block",
}

#: The only places that may print or log; all others emit events.
SPEAKERS = ("settings.__main__", "streams", "patch.target_program")

#: Modules of more than 400 lines and functions of more than 40, each with the reason why it is no shorter.
LONG_MODULES: Mapping[str, str] = {}
LONG_FUNCTIONS: Mapping[str, str] = {}

FORBIDDEN_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of layerferry by its dotted name, without the package's own."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imports(tree: ast.Module) -> set[str]:
    """Every module that `tree` imports, wherever in it; for `from a import b` both a and a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def own(tree: ast.Module) -> set[str]:
    """The modules of layerferry that `tree` imports."""
    inside = {name.removeprefix("layerferry.") for name in imports(tree) if name.startswith("layerferry.")}
    return inside & modules().keys()


def outside(tree: ast.Module) -> set[str]:
    """The third-party packages that `tree` imports."""
    tops = {name.partition(".")[0] for name in imports(tree)}
    return tops - set(sys.stdlib_module_names) - {"layerferry"}


def storey(module: str) -> tuple[int, int]:
    room = module.partition(".")[0]
    return next((number, rooms.index(room)) for number, rooms in enumerate(STOREYS) if room in rooms)


def is_in(module: str, rooms: Iterator[str] | tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def reached_from(module: str) -> set[str]:
    """`module` and all that is loaded with it: what it imports, what that imports, and the packages they lie in."""
    reached: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        parents = {name.rpartition(".")[0]} if "." in name else set()
        waiting |= (own(modules()[name]) | parents) - reached
    return reached


def test_every_module_has_its_storey() -> None:
    rooms = {name.partition(".")[0] for name in modules() if name}
    assert rooms == {room for row in STOREYS for room in row}


def test_dependencies_point_one_way() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, tree in modules().items()
        for other in own(tree)
        if module and other and module.partition(".")[0] != other.partition(".")[0] and storey(other) <= storey(module)
    ]
    assert wrong == []


def test_no_module_and_no_class_has_the_name_of_another() -> None:
    """One word, one room: whoever searches for a name finds one thing."""
    packages = {name for name in modules() if any(other.startswith(f"{name}.") for other in modules())}
    stems = [name.rpartition(".")[2] for name in modules() if name not in packages and not name.endswith("__main__")]
    classes = [node.name for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert {name for name in stems if stems.count(name) > 1} == set()
    assert {name for name in classes if classes.count(name) > 1} == set()


def test_no_imports_go_in_circles() -> None:
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in finished:
            for other in sorted(own(modules()[module]) - {module}):
                if not module.startswith(f"{other}."):  # a package is loaded before what lies in it
                    visit(other, (*path, module))
            finished.add(module)

    for module in modules():
        visit(module, ())


def test_each_outside_dependency_has_one_room() -> None:
    wrong = [
        f"{module} imports {package}"
        for module, tree in modules().items()
        for package in outside(tree)
        if not is_in(module, OUTSIDE.get(package, ()))
    ]
    assert wrong == []


def test_no_room_is_kept_for_a_dependency_that_left() -> None:
    used = {
        (package, door)
        for module, tree in modules().items()
        for package in outside(tree)
        for door in OUTSIDE[package]
        if is_in(module, (door,))
    }
    assert used == {(package, door) for package, doors in OUTSIDE.items() for door in doors}


def test_the_receiver_is_the_standard_library_alone() -> None:
    reached = reached_from("receive.program")
    assert "receive.dialogue" in reached
    assert {module: outside(modules()[module]) for module in reached if outside(modules()[module])} == {}


def test_plan_and_route_choice_are_pure() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in PURE_MODULES
        for name in imports(modules()[module])
        if not name.startswith("layerferry")
        and name not in PURE_IMPORTS
        and name.rpartition(".")[0] not in PURE_IMPORTS
    ]
    assert wrong == []


def attributes(tree: ast.Module, module: str) -> set[str]:
    """What `tree` takes from `module`, as `module.name` or by `from module import name`."""
    direct = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
    }
    return direct | {name.removeprefix(f"{module}.") for name in imports(tree) if name.startswith(f"{module}.")}


def touches_environment(tree: ast.Module) -> bool:
    return bool(attributes(tree, "os") & {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"})


def test_settings_alone_reads_the_environment() -> None:
    assert {module for module, tree in modules().items() if touches_environment(tree)} == ENVIRONMENT.keys()


#: What starts a process. `os` has ways of its own, which nothing uses.
_STARTERS = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
_OS_STARTERS = {"system", "popen", "posix_spawn", "posix_spawnp", "fork", "forkpty", "startfile"}


def starts(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that start a process, as `subprocess.run` or by a name that was imported from there."""
    named = {name.removeprefix("subprocess.") for name in imports(tree) if name.startswith("subprocess.")} & _STARTERS
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            if called.value.id == "subprocess" and called.attr in _STARTERS:
                yield node
        elif isinstance(called, ast.Name) and called.id in named:
            yield node


def inherits(tree: ast.Module) -> bool:
    """Whether a process that it starts gets the whole environment, secrets included."""
    bare = any("env" not in {word.arg for word in call.keywords} for call in starts(tree))
    direct = {name for name in attributes(tree, "os") if name in _OS_STARTERS or name.startswith(("exec", "spawn"))}
    return bare or bool(direct) or "asyncio.subprocess" in imports(tree)


def test_every_process_that_is_started_is_given_its_environment() -> None:
    assert sum(1 for tree in modules().values() for _ in starts(tree)) > 10
    assert [module for module, tree in modules().items() if inherits(tree)] == []


def test_the_environment_of_a_child_is_made_in_one_place() -> None:
    """The receiver is another program: it has no secrets of a job, and settles its environment at its start."""
    callers = {module for module, tree in modules().items() if any(starts(tree)) and not is_in(module, ("receive",))}
    made = {module for module, tree in modules().items() if "layerferry.processes.child_environment" in imports(tree)}
    assert callers - made == {"routes.ngrok.tunnel"}, "which gets it from ngrok_agent"
    assert "routes.ngrok.agent" in made


def speaks(tree: ast.Module) -> bool:
    """Whether it prints, writes to the standard streams, or logs."""
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    streams = attributes(tree, "sys") & {"stdout", "stderr"}
    logs = attributes(tree, "logging") - {"CRITICAL", "disable"}
    return bool("print" in calls or streams or logs)


def test_nothing_in_the_core_prints_or_logs() -> None:
    assert [module for module, tree in modules().items() if speaks(tree) and not is_in(module, SPEAKERS)] == []


def test_modules_are_named_for_what_is_in_them() -> None:
    assert [module for module in modules() if FORBIDDEN_NAMES & set(module.split("."))] == []


def long_functions(tree: ast.Module) -> dict[str, int]:
    """Functions of more than 40 lines; a decorator and a docstring count as lines."""
    return {
        node.name: lines
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > 40
    }


def test_functions_stay_short_or_say_why_not() -> None:
    found = {f"{module}.{name}" for module, tree in modules().items() for name in long_functions(tree)}
    assert found == LONG_FUNCTIONS.keys()


def test_modules_stay_short_or_say_why_not() -> None:
    lines = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): len(path.read_text(encoding="utf-8").splitlines())
        for path in ROOT.rglob("*.py")
    }
    assert {module for module, count in lines.items() if count > 400} == LONG_MODULES.keys()


def test_what_these_tests_look_for_is_found() -> None:
    tree = ast.parse(
        "import os, docker.errors\n"
        "def late():\n    from layerferry.routes import choose\n    from layerferry.errors import UsageError\n"
        "os.getenv('A')\n"
        "print('hello')\n"
        "def long():\n" + "    pass\n" * 40
    )
    assert outside(tree) == {"docker"}
    assert own(tree) == {"errors", "routes", "routes.choose"}
    assert touches_environment(tree)
    assert speaks(tree)
    assert long_functions(tree) == {"long": 41}
    assert touches_environment(ast.parse("from os import environ"))
    assert inherits(ast.parse("import subprocess\nsubprocess.run(['a'])"))
    assert inherits(ast.parse("from subprocess import Popen\nPopen(['a'])"))
    assert inherits(ast.parse("import os\nos.execvp('a', ['a'])"))
    assert not inherits(ast.parse("import subprocess\nsubprocess.run(['a'], env={})"))
    assert not touches_environment(ast.parse("import os\nos.getpid()"))
    assert not speaks(ast.parse("self.console.print(1)"))
