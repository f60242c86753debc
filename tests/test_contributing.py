"""CONTRIBUTING.md and the decisions, checked against the code that they describe."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "src" / "lipexact"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs" / "glossary.md",
    *(ROOT / "docs/adr").glob("*.md"),
    *(ROOT / "docs/tutorials").glob("*.md"),
]
ROLE = re.compile(r":\w+:`[.~]*([^`]+)`")


def floors() -> list[list[str]]:
    """The modules of each floor, by the contract that import-linter checks, the top one first."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition('id = "floors"')[2]
    listed = text.partition("layers = ")[2].partition("\n]")[0]
    return [re.findall(r"\w+", layer) for layer in ast.literal_eval(f"{listed}\n]")]


def summary(name: str) -> str:
    """The first line of the docstring of a module or package, as Markdown."""
    folder = PACKAGE / name
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return ROLE.sub(r"`\1`", docstring.partition("\n")[0]).replace("``", "`")


def test_the_table_has_every_module_in_the_order_of_the_floors() -> None:
    expected = []
    for floor in floors():
        for name in floor:
            shown = f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py"
            expected.append(f"| `{shown}` | {summary(name)} |")
    section = CONTRIBUTING.partition("## Where things live")[2].partition("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == expected, "the table of CONTRIBUTING.md should be\n" + "\n".join(expected)


def test_the_table_leaves_nothing_out() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {name for floor in floors() for name in floor} == modules | packages


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_names_of_the_code_exist(page: Path) -> None:
    """Each `lipexact.a.b`, with backticks, is a module or something that a module has."""
    text = page.read_text(encoding="utf-8")
    missing = [
        name for name in re.findall(r"`(lipexact(?:\.\w+)+)(?:\(\))?`", text) if not exists(name)
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:src|tests|docs/adr|benchmarks)/[\w./-]+)`", page.read_text("utf-8"))
    assert not [path for path in named if not (ROOT / path).exists()]


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False
