"""The table of bounds."""

import ast
from collections import Counter
from pathlib import Path

from layerferry.oci import limits


def test_each_bound_has_a_name_of_its_own() -> None:
    """Two rows of one name would be one bound, the later one's: seconds where bytes were meant."""
    tree = ast.parse(Path(limits.__file__).read_text(encoding="utf-8"))
    targets = [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    targets += [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]  # type: ignore[misc]
    names = Counter(ast.unparse(target) for target in targets)
    assert {name for name, count in names.items() if count > 1} == set()
