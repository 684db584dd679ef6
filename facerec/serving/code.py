"""The part of this package that a predictor carries with it: what serving imports, found by reading the imports."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["copy_code", "needed_modules", "packages_of"]

_PACKAGE = "facerec"
_ENTRY = "facerec.serving.pyfunc_model"


def needed_modules(*also: str) -> dict[str, Path]:
    """Modules that a served predictor can import, by name, with their files.

    Followed are all imports, those inside functions too, from the predictor's entry and from ``also``, the modules
    that are named by text alone, such as the backbone's. Of the package itself only what it imports at once counts:
    what it offers lazily belongs to people who have it installed.
    """
    found: dict[str, Path] = {}
    waiting = [_ENTRY, *also]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = path = _file_of(name)
        parents = name.split(".")[:-1]
        waiting += [".".join(parents[: count + 1]) for count in range(len(parents))]
        waiting += _imported(path, deeply=name != _PACKAGE)
    return dict(sorted(found.items()))


def packages_of(module: str) -> tuple[str, ...]:
    """Names of the installed packages that one module imports, without Python's own and this one."""
    tree = ast.parse(_file_of(module).read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in _statements(tree.body, deeply=True):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    known = importlib.metadata.packages_distributions()
    return tuple(sorted({known[name][0] for name in imported - {_PACKAGE} if name in known}))


def copy_code(folder: Path, *also: str) -> None:
    """Copy `needed_modules` below ``folder``, as a package that Python can import from there."""
    root = _file_of(_PACKAGE).parent
    for path in needed_modules(*also).values():
        target = folder / _PACKAGE / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _file_of(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is no module"
    assert spec.origin is not None, f"{name} has no file"
    return Path(spec.origin)


def _imported(path: Path, *, deeply: bool) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: list[str] = []
    for node in _statements(tree.body, deeply=deeply):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if _is_ours(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            if node.module and _is_ours(node.module):
                names.append(node.module)
                names += [full for alias in node.names if _is_module(full := f"{node.module}.{alias.name}")]
    return names


def _statements(body: Sequence[ast.AST], *, deeply: bool) -> Iterator[ast.AST]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _statements(node.orelse, deeply=deeply)
            continue
        yield node
        if deeply or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from _statements(list(ast.iter_child_nodes(node)), deeply=deeply)


def _is_ours(name: str) -> bool:
    return name == _PACKAGE or name.startswith(f"{_PACKAGE}.")


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None if _is_package(name.rpartition(".")[0]) else False


def _is_package(name: str) -> bool:
    return _file_of(name).name == "__init__.py"
