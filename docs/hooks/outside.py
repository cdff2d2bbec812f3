"""Pages that lie outside docs/: the READMEs of the targets, CONTRIBUTING, CHANGELOG, the examples.

On GitHub a page links to `../exporters/nir/README.md`; here that is the page `targets/nir.md`. What has no page, such
as a source file, loses its link and keeps its words.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

PAGES = {
    **{f"exporters/{name}/README.md": f"targets/{name}.md" for name in ("onnx", "c", "nir", "lava")},
    **{f"examples/{path.name}": f"examples/{path.stem}.md" for path in sorted((ROOT / "examples").glob("*.py"))},
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",
    "docs/tutorial.ipynb": "tutorial.md",
}
"""Place in the repository -> page of the site."""

PLACES = {page: place for place, page in PAGES.items()}

_MADE_ELSEWHERE = ("index.md", "security.md", "tutorial.md")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for place, page in PAGES.items():
        if page not in _MADE_ELSEWHERE:
            files.append(File.generated(config, page, content=_text(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages."""
    uri = page.file.src_uri
    place = PLACES.get(uri, f"docs/{uri}") if uri not in ("index.md", "security.md") else f"docs/{uri}"

    def moved(link: re.Match[str]) -> str:
        words, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        path, hash_, anchor = target.partition("#")
        found = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        inside = PAGES.get(found) or (found.removeprefix("docs/") if found.startswith("docs/") else None)
        if inside is None:
            return words
        return f"[{words}]({posixpath.relpath(inside, posixpath.dirname(uri) or '.')}{hash_}{anchor})"

    parts = _CODE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(moved, part) for part in parts)


def _text(path: Path) -> str:
    text = path.read_text()
    return _example(path.name, text) if path.suffix == ".py" else text


def _example(name: str, text: str) -> str:
    what, _, _ = (ast.get_docstring(ast.parse(text)) or "").partition("\n")
    return f"# {name}\n\n{what}\n\n```python\n{text}```\n"
