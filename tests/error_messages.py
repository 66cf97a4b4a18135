"""Each error message that the code can end with: read out of its source, so that docs/errors.md leaves none out.

A message is the first argument of whatever makes an error of the tree in `errors.py`. What is put into it at run time
is `…`. Where message or hint come from the caller of a function, each of its callers counts; what stands in a table is
read there.
"""

import ast
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from layerferry import errors
from layerferry.errors import LayerferryError
from layerferry.routes.ngrok import failures
from layerferry.targets import ssh_failures, verdict

SOURCE = Path(errors.__file__).parent
#: What is put in at run time.
HOLE = "…"
#: Callables that make an error and are no class of the tree, and the class where it is not said otherwise.
MAKERS = {"error": "SourceError", "answer": "SourceError", "silence": "SourceError", "damaged": "SourceError"}
#: Modules whose `error` is another one by itself.
OTHERS = {"targets/ssh_failures.py": "ConnectError", "targets/verdict.py": "TargetError"}
#: Exceptions whose text stands behind a colon, or in brackets, in an error's message.
REASONS = {"StatementError", "SignerRefusal", "SpoolFull", "ReadError", "LZMAError", "_HelperError"}
#: Fewer letters than these say nothing without what is put in.
_TELLING = 12
_DEEP = 4


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """A message, with holes; the hints that it may have; the module, below src/layerferry; the class of the error."""

    module: str
    text: str
    kind: str
    hints: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.text

    @property
    def is_reason(self) -> bool:
        return self.kind in REASONS


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where a name means something: a module and a function, and what the function was called with."""

    module: str
    function: ast.FunctionDef | None
    given: Mapping[str, tuple[ast.expr, "_Scope"]] = field(default_factory=dict)

    def parameters(self) -> list[str]:
        if not self.function:
            return []
        spec = self.function.args
        return [one.arg for one in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs) if one.arg not in ("self", "cls")]


def letters(text: str) -> int:
    return sum(sign.isalpha() for sign in text)


class Code:
    """The modules of layerferry, and what can be found out about the texts in them."""

    def __init__(self, root: Path = SOURCE) -> None:
        self.trees = {str(path.relative_to(root)): ast.parse(path.read_text("utf-8")) for path in root.rglob("*.py")}
        self.inside: dict[ast.AST, _Scope] = {}
        self.functions: dict[str, list[tuple[str, ast.FunctionDef]]] = {}
        self.constants: dict[tuple[str, str], ast.expr] = {}
        self.imported: dict[tuple[str, str], tuple[str, str]] = {}
        self.kinds = _tree(self.trees.values())
        #: Where a text is not told by the code, as where it is another error's.
        self.unread: set[tuple[str, str]] = set()
        for module, tree in self.trees.items():
            self._index(module, tree)

    def _index(self, module: str, tree: ast.Module) -> None:
        for statement in tree.body:
            for target in _assigned(statement):
                if (value := getattr(statement, "value", None)) is not None:
                    self.constants[module, target] = value
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("layerferry"):
                path = node.module.removeprefix("layerferry").strip(".").replace(".", "/")
                for name in node.names:
                    self.imported[module, name.asname or name.name] = (path, name.name)
        self._enter(tree, _Scope(module, None))

    def _enter(self, node: ast.AST, scope: _Scope) -> None:
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, ast.FunctionDef):
                inner = _Scope(scope.module, child)
                self.functions.setdefault(child.name, []).append((scope.module, child))
            self.inside[child] = scope
            self._enter(child, inner)

    # --- texts

    def texts(self, node: ast.expr | None, scope: _Scope, deep: int = 0) -> list[str]:  # noqa: PLR0911 - one a kind
        """All texts that an expression may be; none where it cannot be told."""
        if deep > _DEEP:
            return []
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return self._joined([self._part(part, scope, deep) for part in parts])
            case ast.IfExp(body=one, orelse=other):
                return self._either([one, other], scope, deep)
            case ast.BoolOp(op=ast.Or(), values=values):
                return self._either(values, scope, deep)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                sides = [self.texts(side, scope, deep + 1) or [HOLE] for side in (left, right)]
                return self._joined([_whole(side) for side in sides])
            case ast.Name(id=name):
                return self._named(name, scope, deep, node.lineno)
            case ast.Call():
                return self._called(node, scope, deep)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return self._named(name, _Scope(scope.module, None), deep)
        return []

    def _either(self, nodes: Iterable[ast.expr], scope: _Scope, deep: int) -> list[str]:
        return list(dict.fromkeys(text for node in nodes for text in self.texts(node, scope, deep + 1)))

    def _joined(self, parts: list[list[str]]) -> list[str]:
        found = ("".join(words) for words in itertools.islice(itertools.product(*parts), 8))
        return list(dict.fromkeys(re.sub(f"{HOLE}+", HOLE, text) for text in found))

    def _part(self, part: ast.expr, scope: _Scope, deep: int) -> list[str]:
        """A part of an f-string: what is put in is told where it is a text of ours."""
        if not isinstance(part, ast.FormattedValue):
            return self.texts(part, scope, deep)
        shown = _whole(self.texts(part.value, scope, deep + 1))
        quoted = f"'{HOLE}'" if part.conversion == ord("r") else HOLE
        return shown if any(letters(text) > 3 for text in shown) and part.conversion < 0 else [quoted]

    def _named(self, name: str, scope: _Scope, deep: int, before: int = 0) -> list[str]:
        if name in scope.given:
            node, there = scope.given[name]
            return self.texts(node, there, deep + 1)
        if scope.function and (values := _values(name, scope.function, before)):
            return self._either(values, scope, deep)
        if name in scope.parameters():
            return []
        if constant := self.constants.get((scope.module, name)):
            return self.texts(constant, _Scope(scope.module, None), deep + 1)
        if origin := self.imported.get((scope.module, name)):
            for module in (f"{origin[0]}.py", f"{origin[0]}/__init__.py"):
                if constant := self.constants.get((module, origin[1])):
                    return self.texts(constant, _Scope(module, None), deep + 1)
        return []

    def _called(self, call: ast.Call, scope: _Scope, deep: int) -> list[str]:
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("format", "strip", "rstrip"):
            return [re.sub(r"\{\w*\}", HOLE, text) for text in self.texts(call.func.value, scope, deep + 1)]
        found = []
        for module, function in self.functions.get(_callee(call), [])[:4]:
            if module == scope.module or (scope.module, _callee(call)) in self.imported or _has_owner(call):
                inner = _Scope(module, function, self._bound(call, scope, function))
                for node in ast.walk(function):
                    if isinstance(node, ast.Return) and self.inside[node].function is function:
                        found += self.texts(node.value, inner, deep + 1)
        return list(dict.fromkeys(found))

    def _bound(self, call: ast.Call, scope: _Scope, function: ast.FunctionDef) -> dict[str, tuple[ast.expr, _Scope]]:
        names = _Scope("", function).parameters()
        given = dict(zip(names, call.args, strict=False))
        given |= {word.arg: word.value for word in call.keywords if word.arg}
        return {name: (node, scope) for name, node in given.items()}

    # --- messages

    def messages(self) -> list[Message]:
        """All messages, each once for each module, error and hint."""
        return self._messages

    @cached_property
    def _messages(self) -> list[Message]:
        return sorted({*self.read_messages(), *_of_tables()})

    def read_messages(self) -> Iterator[Message]:
        """Those that are made where they are said."""
        for module, tree in self.trees.items():
            yield from self._of(module, tree)

    @cached_property
    def reasons(self) -> set[tuple[str, str]]:
        return {message.key for message in self.messages() if message.is_reason}

    def _of(self, module: str, tree: ast.Module) -> Iterator[Message]:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = _callee(node)
            if name == "_first":  # rows of (condition, message, hint)
                for row in node.args:
                    if isinstance(row, ast.Tuple) and len(row.elts) == 3:
                        yield from self._told(row.elts[1], row.elts[2], "UsageError", self.inside[node], 0)
            if name == "__init__" and isinstance(self.inside[node].function, ast.FunctionDef):
                name = self._class_of(tree, node)
            if not (name in self.kinds or name in REASONS or name in MAKERS):
                continue
            yield from self._made(node, name, self.inside[node])

    def _class_of(self, tree: ast.Module, node: ast.Call) -> str:
        """The class whose `__init__` calls that of its base."""
        classes = (one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name in self.kinds)
        return next((one.name for one in classes if one.lineno < node.lineno <= (one.end_lineno or 0)), "")

    def _made(self, call: ast.Call, name: str, scope: _Scope, deep: int = 0) -> Iterator[Message]:
        said = call.args[0] if call.args else next((w.value for w in call.keywords if w.arg == "message"), None)
        advice = next((word.value for word in call.keywords if word.arg == "hint"), None)
        if said is None or isinstance(said, ast.Starred):
            return
        yield from self._told(said, advice, name, scope, deep)

    def _told(self, said: ast.expr, advice: ast.expr | None, name: str, scope: _Scope, deep: int) -> Iterator[Message]:
        texts = self.texts(said, scope)
        hints = self.texts(advice, scope)
        open_ones = {
            node.id
            for expression in (said if not any(letters(text) >= _TELLING for text in texts) else None,
                               advice if not hints else None)
            if expression is not None
            for node in ast.walk(expression)
            if isinstance(node, ast.Name) and node.id in scope.parameters() and node.id not in scope.given
        }  # fmt: skip
        if open_ones and scope.function and deep < _DEEP:
            calls = list(self._calls(scope))
            for call, there in calls:
                inner = _Scope(scope.module, scope.function, self._bound(call, there, scope.function))
                yield from self._told(said, advice, name, inner, deep + 1)
            if calls:
                return
        texts = [text for text in texts if letters(text) >= 4 and ": :" not in text and not text.endswith(": ")]
        if not texts:
            self.unread.add((scope.module, ast.unparse(said)))
        for text in texts:
            whole = f"{HOLE} is damaged: {text}" if name == "damaged" else text
            kind = name if name in self.kinds or name in REASONS else OTHERS.get(scope.module, MAKERS[name])
            yield Message(scope.module, whole, kind, tuple(hint for hint in hints if letters(hint) > 3))

    def _calls(self, scope: _Scope) -> Iterator[tuple[ast.Call, _Scope]]:
        """The calls of a function, in its own module where its name says that it is that module's."""
        assert scope.function
        name = scope.function.name
        for module, tree in self.trees.items():
            if module != scope.module and (name.startswith("_") or (module, name) not in self.imported):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and _callee(node) == name:
                    yield node, self.inside[node]


def _of_tables() -> Iterator[Message]:
    """The messages of tables, by what others say."""
    shape = f"{HOLE}: {{}} ({HOLE})"
    for failure in ssh_failures._FAILURES:
        yield Message("targets/ssh_failures.py", shape.format(failure.message), failure.error.__name__, (failure.hint,))
    for message, hint in (ssh_failures._REFUSED, ssh_failures._NOT_ASKED):
        yield Message("targets/ssh_failures.py", shape.format(message), "ConnectError", (hint,))
    for error, message, hint in (*verdict._KINDS.values(), verdict._MOVED):
        yield Message("targets/verdict.py", shape.format(message), error.__name__, (hint,))
    for _, message, hint in verdict._ENGINE_FAILURES:
        yield Message("targets/verdict.py", shape.format(message), "TargetError", (hint,))
    for code, advice in failures.ADVICE.items():
        yield Message("routes/ngrok/failures.py", f"{advice.message} (ERR_NGROK_{code})", "RouteError", (advice.hint,))


def _tree(trees: Iterable[ast.Module]) -> dict[str, int]:
    """The names of all classes of the tree, with their exit codes; those below it, that modules have, too."""
    found = {name: value.exit_code for name, value in vars(errors).items()
             if isinstance(value, type) and issubclass(value, LayerferryError)}  # fmt: skip
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for _ in range(3):
        for one in classes:
            for base in one.bases:
                if isinstance(base, ast.Name) and base.id in found:
                    found.setdefault(one.name, found[base.id])
    return found


def _assigned(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _values(name: str, function: ast.FunctionDef, before: int) -> list[ast.expr]:
    """What a name is given in a function, before a line of it."""
    found: list[ast.expr] = []
    for node in ast.walk(function):
        if getattr(node, "lineno", 0) >= before:
            continue
        if isinstance(node, ast.stmt) and name in _assigned(node) and getattr(node, "value", None) is not None:
            found.append(node.value)  # type: ignore[attr-defined]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and len(target.elts) == len(node.value.elts):
                    pairs = zip(target.elts, node.value.elts, strict=True)
                    found += [value for one, value in pairs if isinstance(one, ast.Name) and one.id == name]
        elif isinstance(node, ast.NamedExpr) and node.target.id == name:
            found.append(node.value)
    return found


def _callee(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _has_owner(call: ast.Call) -> bool:
    return (
        isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "self"
    )


def _whole(texts: list[str]) -> list[str]:
    return texts if 0 < len(texts) <= 4 else [HOLE]


@cache
def code() -> Code:
    return Code()
