"""Whether every link within the built site leads somewhere: python docs/links.py FOLDER."""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and what it links to or shows."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - is given
        found = dict(attrs)
        self.anchors |= {found[name] or "" for name in ("id", "name") if name in found}
        self.links |= {found[name] or "" for name in ("href", "src") if name in found}


page = cache(Page)


def broken(folder: Path) -> list[str]:
    """Each link to a file, or an anchor, that is not there."""
    wrong = []
    for file in sorted(folder.rglob("*.html")):
        if "_modules" in file.parts:  # sources, whose links back viewcode makes
            continue
        for link in sorted(page(file).links):
            parts = urlsplit(link)
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if parts.scheme or parts.netloc or (folder.resolve() not in target.parents):
                continue
            if not target.is_file():
                wrong.append(f"{file.relative_to(folder)}: no file {link}")
            elif target.suffix == ".html" and parts.fragment not in {"", *page(target).anchors}:
                wrong.append(f"{file.relative_to(folder)}: no anchor {link}")
    return wrong


if __name__ == "__main__":
    found = broken(Path(sys.argv[1]).resolve())
    print("\n".join(found) or "no broken links")
    sys.exit(bool(found))
