"""Pictures become part of the page, so that they follow its colours: light, dark."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parents[1]
_PICTURE = re.compile(r'<img alt="([^"]*)" src="(?:\.\./)*(pictures/[\w-]+\.svg)" */?>')


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the drawing in the place of its link."""
    return _PICTURE.sub(lambda found: (DOCS / found[2]).read_text(), html)
