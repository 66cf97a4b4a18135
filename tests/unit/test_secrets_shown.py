"""No picture of an object holds a secret: a dataclass leaves out of its repr whatever may be one."""

import ast
from collections.abc import Iterator

from unit.test_imports import modules

#: What fields that hold secrets, or a whole environment, are called.
SECRET = {
    "auth",
    "authorization",
    "bearer",
    "credentials",
    "env",
    "environ",
    "environment",
    "headers",
    "identity_token",
    "passphrase",
    "password",
    "secret",
    "secrets",
    "token",
}
#: Fields that are called so and hold none, each with why.
HARMLESS = {
    "receive.dialogue.environment": "the receiver's own, which has no job's secrets",
    "receive.engine.environment": "the receiver's own, which has no job's secrets",
}


def is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def shown(tree: ast.Module) -> Iterator[str]:
    """Fields that `repr` shows, and that are called as secrets are."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or not is_dataclass(node):
            continue
        if any("repr=False" in ast.unparse(decorator) for decorator in node.decorator_list):
            continue
        if any(isinstance(part, ast.FunctionDef) and part.name == "__repr__" for part in node.body):
            continue
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and part.target.id in SECRET:
                default = ast.unparse(part.value) if part.value else ""
                if "repr=False" not in default and "ClassVar" not in ast.unparse(part.annotation):
                    yield part.target.id


def test_no_dataclass_shows_a_secret() -> None:
    found = {f"{module}.{name}" for module, tree in modules().items() for name in shown(tree)}
    assert found == HARMLESS.keys()


def test_what_this_test_looks_for_is_found() -> None:
    text = "@dataclass(frozen=True)\nclass A:\n    token: str\n    env: str = field(repr=False)\n    name: str = 'x'\n"
    assert list(shown(ast.parse(text))) == ["token"]
    assert list(shown(ast.parse(text.replace("frozen=True", "repr=False")))) == []
