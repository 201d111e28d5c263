"""Write the notebooks and the glossary of the tour from its chapters: make notebooks.

jupytext reads the chapters, and the code is run here, so that no Jupyter kernel is needed.
"""

import base64
import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from pytorch_intro.config.paths import PROJECT
from pytorch_intro.tour import CHAPTERS
from pytorch_intro.tour.chapter import TERM, Cell, Chapter, read_chapter
from pytorch_intro.tour.exercises import Exercise, read_exercises
from pytorch_intro.tour.guide import run

FOLDER = PROJECT / "docs" / "tour"
GLOSSARY = PROJECT / "docs" / "tour_glossary.md"
ITEM = re.compile(r"^\d+\. ")  # the number of an item of a list
SETUP = """\
# Run this cell first: it finds the code of this project, and the cells can run one by one.
import sys
from pathlib import Path

source = Path("../../src").resolve()
if (source / "pytorch_intro").is_dir():
    sys.path.insert(0, str(source))"""


def notebook_file(chapter: Chapter) -> Path:
    return FOLDER / f"{chapter.number:02}_{chapter.path.stem}.ipynb"


def build_notebook(chapter: Chapter) -> Any:
    """Return the notebook of a chapter, with its exercises, without outputs."""
    import jupytext
    import nbformat

    notebook = jupytext.reads(chapter.path.read_text(encoding="utf-8"), fmt="py:percent")
    title, *cells = notebook.cells
    cells = [title, nbformat.v4.new_code_cell(SETUP), *cells, *exercise_cells(chapter.number)]
    for number, cell in enumerate(cells):
        cell.id = f"{chapter.path.stem}-{number:02}"
        cell.metadata = {}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def exercise_cells(chapter: int) -> Iterator[Any]:
    """Yield the cells of the exercises: task, template, check and, folded, the solution."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    text = (
        "## Exercises\n\nComplete the code, run it, and then run the check below it. "
        "If something is still wrong, the check gives you a hint."
    )
    yield new_markdown_cell(text)
    for exercise in read_exercises(chapter):
        yield new_markdown_cell("\n\n".join([f"### {exercise.name}", *exercise.task]))
        yield new_code_cell(exercise.template)
        yield new_code_cell(check_code(exercise))
        folded = f"<details><summary>Solution</summary>\n\n```python\n{exercise.solution}\n```\n\n</details>"
        yield new_markdown_cell(folded)


def check_code(exercise: Exercise) -> str:
    lines = [
        "from pytorch_intro.tour.exercises import check_cell",
        f"check_cell({exercise.chapter}, {exercise.number}, globals())",
    ]
    return "\n\n".join(lines)


def add_outputs(notebook: Any, chapter: Chapter) -> None:
    """Run the code of a notebook and store what it shows."""
    from nbformat.v4 import new_output

    namespace: dict[str, Any] = {"__name__": "__main__"}
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code_cells, 1):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = run(Cell(1, code=cell.source), chapter, namespace)
        cell.execution_count = count
        if printed.getvalue():
            cell.outputs.append(new_output("stream", name="stdout", text=printed.getvalue()))
        if result is not None:
            data = {"text/plain": repr(result)}
            if isinstance(result, Image.Image):
                data = {"text/plain": "a picture", "image/png": to_png(result)}
            cell.outputs.append(new_output("execute_result", data=data, execution_count=count))


def to_png(picture: Image.Image) -> str:
    """Return a picture as a small PNG file in base64."""
    file = io.BytesIO()
    picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def glossary() -> str:
    """Return the page with all terms, each with the paragraph that explains it, which has to make sense alone."""
    entries = {}
    for number in range(1, len(CHAPTERS) + 1):
        chapter = read_chapter(number)
        place = f"[{number}](tour/{notebook_file(chapter).name})"
        for paragraph in [paragraph for cell in chapter.cells for paragraph in cell.marked]:
            for term in TERM.findall(paragraph):
                term = term.strip("`")
                entries[term] = f"| {term} | {ITEM.sub('', paragraph.replace('**', ''))} | {place} |"
    rows = [entries[term] for term in sorted(entries, key=str.lower)]
    return "\n".join([HEADER, "| term | explanation | chapter |", "|---|---|---|", *rows, ""])


HEADER = """\
# The words of the tour

```bash
python src/tour.py 4    # chapter 4 explains what a tensor is
```

Each term is explained once in the tour, usually in the chapter that uses it first. This page lists them all. It is
written from the chapters by `make notebooks`.
"""


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(file.relative_to(PROJECT), f"{len(text) / 1000:.0f} kB", flush=True)


def main(numbers: list[str]) -> None:
    """Write the glossary and the notebooks of all chapters, or of those with these numbers."""
    write(GLOSSARY, glossary())
    for number in map(int, numbers or range(1, len(CHAPTERS) + 1)):
        chapter = read_chapter(number)
        notebook = build_notebook(chapter)
        add_outputs(notebook, chapter)
        write(notebook_file(chapter), json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
