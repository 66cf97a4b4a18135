"""Programs for a target's python3 as they are sent: without what people need, and what Python 3.6 has not."""

import ast
import base64
import zlib
from importlib.resources import files


class _Bare(ast.NodeTransformer):
    """Takes docstrings, annotations and what is imported for them away."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        for argument in (*node.args.args, *node.args.posonlyargs, *node.args.kwonlyargs):
            argument.annotation = None
        node.body = _without_docstring(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.body = _without_docstring(node.body)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign | None:
        return ast.Assign([node.target], node.value, lineno=node.lineno) if node.value else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.module == "typing" else node


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    says = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if says else body


def word(*texts: bytes) -> str:
    """Texts with a NUL between them, as a word of the conversation."""
    return base64.b64encode(zlib.compress(b"\0".join(texts), 9)).decode()


def bare(package: str, name: str) -> str:
    """The program in that file of a package, in ASCII."""
    tree = ast.parse(files(package).joinpath(name).read_text(encoding="utf-8"))
    tree.body = _without_docstring(tree.body)
    lines = ast.unparse(ast.fix_missing_locations(_Bare().visit(tree))).splitlines()
    return "".join(f"{_indented(line)}\n" for line in lines if line)


def _indented(line: str) -> str:
    """Indents of one blank."""
    bare = line.lstrip(" ")
    return " " * ((len(line) - len(bare)) // 4) + bare
