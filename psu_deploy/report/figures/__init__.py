"""One picture per file, each an SVG for a page: its colours are variables of the page's style, its text is text."""
