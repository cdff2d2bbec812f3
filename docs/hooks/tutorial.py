"""The notebook as a page: its words, its code, and what the code printed when the notebook was last executed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOK = Path(__file__).parents[1] / "tutorial.ipynb"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    text = "\n\n".join(part for cell in cells for part in _parts(cell))
    files.append(File.generated(config, "tutorial.md", content=text + "\n"))
    return files


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *(_output(output) for output in cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/svg+xml" in data:
        return re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>", "", "".join(data["image/svg+xml"]), flags=re.DOTALL).strip()
    return "```text\n" + "".join(output.get("text") or data.get("text/plain", "")).rstrip("\n") + "\n```"
