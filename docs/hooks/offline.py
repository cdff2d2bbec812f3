"""Nothing on a page is fetched from elsewhere when it is read."""

from __future__ import annotations

import logging
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

_FETCHED = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')

log = logging.getLogger("mkdocs.hooks.offline")


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warn, which --strict makes an error."""
    for tag in _FETCHED.findall(output):
        if 'rel="canonical"' not in tag:
            log.warning("%s fetches from elsewhere: %s", page.file.src_uri, tag)
    return output
