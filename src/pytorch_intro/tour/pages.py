"""Write the tour's notebooks as pages of the site: python src/pytorch_intro/tour/pages.py FOLDER, a copy of the pages.

This file imports nothing but Python's library, since the tools of the site have an environment of their own.
"""

import base64
import json
import re
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

LINK = re.compile(r"(\]\((?:docs/)?tour/\w+)\.ipynb\)")


def main(folder: Path) -> None:
    """Write a page next to each notebook in FOLDER/docs/tour, and let the links of the other pages lead there."""
    for page in folder.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        if LINK.search(text):
            page.write_text(LINK.sub(r"\1.md)", text), encoding="utf-8")
    for notebook in sorted((folder / "docs" / "tour").glob("*.ipynb")):
        notebook.with_suffix(".md").write_text(write_page(notebook), encoding="utf-8")


def write_page(notebook: Path) -> str:
    """Return a notebook as Markdown; its pictures become files next to it."""
    title, _, *cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]  # the second one is for notebooks only
    number = int(notebook.name.partition("_")[0])
    start = f"In the terminal: `python src/tour.py {number}`. As a [notebook]({notebook.name}): download it and run it."
    parts = [title["source"], start]
    is_exercise = False
    for cell in cells:
        source = cell["source"]
        if cell["cell_type"] == "markdown" and source.startswith("## Exercises"):
            is_exercise = True
            start = f"python src/tour.py {number}"
            commands = f"{start} --exercises > answers.py   # complete the code there\n{start} --check answers.py"
            parts += ["## Exercises", f"```bash\n{commands}\n```"]
        elif cell["cell_type"] == "markdown":
            parts.append(write_text(source))
        elif not (is_exercise and "check_cell(" in source):
            parts.append(f"```python\n{source}\n```")
            parts += write_outputs(cell, notebook)
    return "\n\n".join(part for part in parts if part) + "\n"


def write_text(text: str) -> str:
    """Return the Markdown of a cell, with boxes for notes and solutions."""
    if solution := re.fullmatch(r"<details><summary>Solution</summary>\n\n(.*)\n\n</details>", text, re.DOTALL):
        return f'??? success "Solution"\n\n{indent(solution[1], "    ")}'
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("**Note:** "):
            note = paragraph.removeprefix("**Note:** ")
            paragraph = f'!!! note "Note"\n\n{indent(note[0].upper() + note[1:], "    ")}'
        paragraphs.append(re.sub(r"([^\n])\n(?=1\. )", r"\1\n\n", paragraph))  # a list needs an empty line before it
    return "\n\n".join(paragraphs)


def write_outputs(cell: dict[str, Any], notebook: Path) -> list[str]:
    """Return the outputs of a cell, and write its picture."""
    parts = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        if picture := data.get("image/png"):
            name = re.findall(r"^\w+$", cell["source"], re.MULTILINE)[-1]  # the variable at the end
            (notebook.parent / f"{name}.png").write_bytes(base64.b64decode(picture))
            parts.append(f"[![{name.replace('_', ' ')}]({name}.png)]({name}.png)")  # a click shows it in full size
        else:
            parts.append(f"```text\n{output.get('text', data.get('text/plain', '')).rstrip()}\n```")
    return parts


if __name__ == "__main__":
    main(Path(sys.argv[1]))
