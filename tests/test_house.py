"""How the source is laid out: short functions, short files, and no name used that its module does not offer."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 60

EXEMPT: dict[str, str] = {}
"""``path`` or ``path:function`` -> the reason why it may be longer."""


@functools.cache
def source() -> dict[str, ast.Module]:
    """The trees of the package's modules, by dotted name."""
    modules = {}
    for path in sorted((REPOSITORY / "facerec").rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = ast.parse(path.read_text(encoding="utf-8"))
    return modules


def files() -> Iterator[tuple[str, str]]:
    """Every Python file of the project, by its path, and its text."""
    for folder in ("facerec", "benchmarks", "tests"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8")


def long_functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Functions that are too long, from the line of ``def`` to the last one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION:
                yield node.name, lines


def offered(tree: ast.Module) -> list[str] | None:
    """What ``__all__`` lists; None where there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def defined(tree: ast.Module) -> set[str]:
    """Names at the top level of a module, those under ``if`` included."""
    names: set[str] = set()
    for node in ast.walk(ast.Module([item for item in tree.body if not isinstance(item, ast.ClassDef)], [])):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
    return names | {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def imports(trees: dict[str, ast.Module]) -> Iterator[tuple[str, str, str]]:
    """(importing module, imported module, name) of every name that comes from another module of the package."""
    for importer, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "facerec":
                for alias in node.names:
                    if f"{node.module}.{alias.name}" not in source():
                        yield importer, node.module or "", alias.name


def test_no_file_and_no_function_is_too_long() -> None:
    found = []
    for path, text in files():
        lines = text.count("\n")
        found += [f"{path}: {lines} lines"] if lines > MOST_LINES_OF_A_FILE and path not in EXEMPT else []
        for name, length in long_functions(ast.parse(text)):
            found += [] if f"{path}:{name}" in EXEMPT else [f"{path}:{name}: {length} lines"]
    assert found == []


def test_the_limit_of_a_function_counts_its_lines() -> None:
    tree = ast.parse("def short():\n" + "    x = 1\n" * 59 + "def long():\n" + "    x = 1\n" * 60)
    assert list(long_functions(tree)) == [("long", 61)]


def test_every_exemption_is_needed() -> None:
    long = {f"{path}:{name}" for path, text in files() for name, _ in long_functions(ast.parse(text))}
    long |= {path for path, text in files() if text.count("\n") > MOST_LINES_OF_A_FILE}
    assert set(EXEMPT) <= long
    assert all(EXEMPT.values())


def test_every_module_says_what_it_offers_and_has_it() -> None:
    found = []
    for module, tree in source().items():
        names = offered(tree)
        is_command = module.startswith("facerec.cli.")  # Reached by the table of commands, not by imports.
        if names is None and len(tree.body) > 1 and not is_command and not module.endswith("__main__"):
            found.append(f"{module} has no __all__")
        missing = [] if module == "facerec" else sorted(set(names or ()) - defined(tree))
        found += [f"{module} offers {name}, which it has not" for name in missing]
        found += [f"{module} lists {name} twice" for name in set(names or ()) if (names or []).count(name) > 1]
    assert found == []


def test_no_module_uses_what_another_does_not_offer() -> None:
    trees = dict(source())
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py")):
        trees[f"benchmarks.{path.stem}"] = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for importer, module, name in imports(trees):
        names = offered(source()[module])
        is_private = name.startswith("_") and not name.startswith("__")
        if is_private or (names is not None and name not in names):
            found.append(f"{importer} takes {name} from {module}")
    assert found == []
