"""Sphinx: `nox -s docs`."""

import lipexact
from lipexact.estimators.registry import estimators
from lipexact.sets.norms import PolyhedralNorm, norm, norm_names

project = "lipexact"
author = "The lipexact developers"
copyright = "2026, The lipexact developers"
release = lipexact.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**/jupyter_execute"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_title = f"lipexact {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_render_markdown_format = "myst"


def first_line(documented: object) -> str:
    """The summary of a docstring, for a cell of a table."""
    return (documented.__doc__ or "").partition("\n")[0].rstrip(".")


named = [(f'`"{name}"`', type(norm(name))) for name in norm_names()] + [
    ("`lx.PolyhedralNorm(...)`", PolyhedralNorm)
]
rows = [(name, first_line(of), first_line(of.ball), first_line(of.polar)) for name, of in named]
heads = [("norm", "what it measures", "its unit ball", "the unit ball of its dual"), ("---",) * 4]
myst_substitutions = {"norms": "\n".join(f"| {' | '.join(row)} |" for row in [*heads, *rows])}


def list_estimators(_app: object, _name: str, source: list[str]) -> None:
    """Put the registry's estimators in place of ESTIMATORS_WITH_OPTIONS in a page."""
    functions = [each.run for each in estimators().values() if each.options]
    directives = [f".. autofunction:: {each.__module__}.{each.__name__}" for each in functions]
    source[0] = source[0].replace("ESTIMATORS_WITH_OPTIONS", "\n".join(directives))


def setup(app: object) -> None:
    """Connect what fills pages from registries."""
    app.connect("source-read", list_estimators)
