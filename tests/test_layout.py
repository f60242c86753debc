"""The tests' own structure: they mirror the package, and none of them needs another."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TESTS = ROOT / "tests"
PACKAGE = ROOT / "src" / "lipexact"
MODULES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, at its top or within."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_test_module_is_imported(module: Path) -> None:
    parts = [name.split(".") for name in imported(TESTS / module) if name.startswith("tests")]
    others = [name for name in parts if any(part.startswith("test_") for part in name)]
    assert not others, f"{module} imports {others}: what it needs belongs to tests/support"
    assert not any(name[:2] == ["tests", "conftest"] for name in parts)


def test_each_package_has_its_folder_of_tests() -> None:
    packages = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py")}
    missing = [str(each) for each in packages if not any((TESTS / each).rglob("test_*.py"))]
    assert not missing


def test_folders_of_tests_are_those_of_the_project() -> None:
    folders = {path.parts[0] for path in MODULES if len(path.parts) > 1}
    known = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert folders <= known | {"benchmarks", "fixtures", "operators", "support", "system"}


def test_the_sessions_of_nox_name_what_is_there() -> None:
    named = re.findall(r'"(tests/[^"]*)"', (ROOT / "noxfile.py").read_text(encoding="utf-8"))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
