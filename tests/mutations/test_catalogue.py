"""Every mutation still fits the source that it changes, and the page of promises names it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.mutation import REPOSITORY, Mutation, apply_mutation

TESTS = REPOSITORY / "tests"
PAGE = (REPOSITORY / "docs" / "promises.md").read_text(encoding="utf-8")
COUNTS = {"C": 6, "S": 4, "D": 3, "T": 4, "M": 4, "K": 3, "O": 6, "V": 5}
PROMISES = [f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)]


def names_of_tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def is_test(node_id: str) -> bool:
    file, _, name = node_id.partition("::")
    path = TESTS / file
    return path.is_file() and (not name or name.partition("[")[0] in names_of_tests(path))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_mutation_fits_its_source_once_and_names_tests_that_exist(mutation: Mutation, tmp_path: Path) -> None:
    copy = tmp_path / mutation.source
    copy.parent.mkdir(parents=True)
    copy.write_bytes((REPOSITORY / mutation.source).read_bytes())
    before = apply_mutation(mutation, root=tmp_path)
    after = copy.read_text(encoding="utf-8")
    assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(before))
    assert mutation.tests
    for test in mutation.tests:
        assert is_test(test), test


def test_a_text_that_is_not_there_once_is_refused(tmp_path: Path) -> None:
    (tmp_path / "facerec").mkdir()
    for content in ("a = 1\na = 1\n", "b = 1\n"):
        (tmp_path / "facerec" / "x.py").write_text(content)
        mutation = Mutation(name="x", promise="-", file="x.py", old="a = 1\n", new="a = 2\n", tests=("x",))
        with pytest.raises(ValueError, match="not once"):
            apply_mutation(mutation, root=tmp_path)
        assert (tmp_path / "facerec" / "x.py").read_text() == content


def test_names_are_unique_and_every_room_has_mutations() -> None:
    assert [name for name, count in Counter(one.name for one in MUTATIONS).items() if count > 1] == []
    rooms = {one.file.partition("/")[0] for one in MUTATIONS}
    assert rooms >= {"config", "data", "evaluation", "metrics", "models", "serving", "tracking", "training", "tuning"}
    assert {one.promise for one in MUTATIONS} <= {"-", *PROMISES}


def test_the_page_names_every_promise_every_mutation_and_only_tests_that_exist() -> None:
    for promise in PROMISES:
        assert f"\n| {promise} |" in PAGE, promise
    for mutation in MUTATIONS:
        tests = ", ".join(f"`{test}`" for test in mutation.tests)
        row = f"| {mutation.promise} | {mutation.name} | `{mutation.source}` | {tests} |"
        assert f"\n{row}\n" in PAGE, f"docs/promises.md lacks the row: {row}"
    named = set(re.findall(r"`tests/((?:\w+/)*test_\w+\.py(?:::test_\w+)?)`", PAGE))
    assert len(named) > len(PROMISES)
    assert sorted(test for test in named if not is_test(test)) == []
