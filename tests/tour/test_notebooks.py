"""The notebooks and the glossary are those of the chapters, and run from top to bottom."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pytorch_intro.tour import CHAPTERS
from pytorch_intro.tour.chapter import read_chapter
from pytorch_intro.tour.notebooks import FOLDER, GLOSSARY, build_notebook, glossary, notebook_file

NUMBERS = range(1, len(CHAPTERS) + 1)
SLOW = ("training", "comparing")  # run by the test of the whole tour


def stored_cells(number: int) -> list[dict[str, Any]]:
    return json.loads(notebook_file(read_chapter(number)).read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_notebook_has_the_text_and_code_of_its_chapter(number: int) -> None:
    """If this fails: make notebooks."""
    pytest.importorskip("jupytext")
    chapter = read_chapter(number)
    expected = [(cell.cell_type, cell.source) for cell in build_notebook(chapter).cells]
    stored = [(cell["cell_type"], cell["source"]) for cell in stored_cells(number)]
    assert stored == expected, "run make notebooks"
    codes = [source for kind, source in expected if kind == "code"]
    own = [cell.code for cell in chapter.cells]
    assert [code.partition("\n# At work: ")[0] for code in codes[1 : len(own) + 1]] == own, (
        "jupytext and the tour agree"
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_a_notebook_runs_from_top_to_bottom(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one namespace, without the code of the tour; of chapters that take seconds, the exercises."""
    monkeypatch.chdir(FOLDER)
    cells = stored_cells(number)
    if CHAPTERS[number - 1] in SLOW:
        cells = cells[next(place for place, cell in enumerate(cells) if cell["source"].startswith("## Exercises")) :]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(compile(cell["source"], f"chapter {number}", "exec"), namespace)
    assert printed.getvalue().count("not yet: ") == 3


def test_the_notebooks_have_outputs_and_pictures_and_are_small() -> None:
    assert sorted(FOLDER.glob("*.ipynb")) == [notebook_file(read_chapter(number)) for number in NUMBERS]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_500_000
    outputs = [output for number in NUMBERS for cell in stored_cells(number) for output in cell.get("outputs", ())]
    assert len(outputs) > 100
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 16
    assert not [output for output in outputs if output["output_type"] == "error"]
    home = str(Path.home())
    assert not [output for output in outputs if home in str(output) or "/tmp" in str(output)], "paths of one computer"


def test_the_glossary_is_made_of_the_chapters() -> None:
    assert GLOSSARY.read_text(encoding="utf-8") == glossary(), "run make notebooks"
    assert "| gradient | The **gradient**" not in glossary()
    assert "| gradient | The gradient has one number for each parameter." in glossary()
    assert "| zero_grad() | `zero_grad()` removes the old gradients." in glossary(), "without the number in the list"
