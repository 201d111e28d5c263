"""The notebooks of the tour as pages of the site."""

import json
import re
from pathlib import Path

from pytorch_intro.tour.chapter import read_chapter
from pytorch_intro.tour.notebooks import FOLDER, notebook_file
from pytorch_intro.tour.pages import main, write_text


def write_pages(folder: Path, *numbers: int) -> list[str]:
    """Write the pages of some chapters; return their texts."""
    (folder / "docs" / "tour").mkdir(parents=True)
    files = [folder / "docs" / "tour" / notebook_file(read_chapter(number)).name for number in numbers]
    for file in files:
        file.write_bytes((FOLDER / file.name).read_bytes())
    main(folder)
    return [file.with_suffix(".md").read_text(encoding="utf-8") for file in files]


def test_a_page_has_the_text_code_results_and_pictures_of_its_notebook(tmp_path: Path) -> None:
    (page,) = write_pages(tmp_path, 5)
    assert page.startswith("# 5. Tensors in memory\n\nTo read on: ")
    assert "python src/tour.py 5`" in page
    assert "(05_memory.ipynb)" in page
    assert "\n> By default, CPU tensors and numpy arrays share memory" in page
    assert "```text\n(4, 1)\n```" in page
    assert "Run this cell first" not in page, "that cell is for notebooks"
    assert "[![shared memory](shared_memory.png)](shared_memory.png)" in page
    assert (tmp_path / "docs" / "tour" / "shared_memory.png").read_bytes().startswith(b"\x89PNG")
    cells = json.loads(notebook_file(read_chapter(5)).read_text(encoding="utf-8"))["cells"]
    assert page.count("```python") == sum(cell["cell_type"] == "code" for cell in cells) - 1


def test_the_exercises_of_a_page_have_folded_solutions_and_the_command_that_checks(tmp_path: Path) -> None:
    (page,) = write_pages(tmp_path, 5)
    exercises = page.partition("## Exercises\n")[2]
    assert exercises.count("### 5.") == exercises.count('??? success "Solution"\n\n    ```python\n') == 3
    assert "python src/tour.py 5 --check answers.py" in exercises
    assert "check_cell" not in page


def test_a_note_becomes_a_box_and_a_list_gets_an_empty_line_before_it() -> None:
    assert (
        write_text("One.\n\n**Note:** more precisely,\ntwo.")
        == 'One.\n\n!!! note "Note"\n\n    More precisely,\n    two.'
    )
    assert write_text("Three ways:\n1. One\n2. Two") == "Three ways:\n\n1. One\n2. Two"


def test_links_to_notebooks_lead_to_the_pages(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    readme, glossary = tmp_path / "README.md", tmp_path / "docs" / "tour_glossary.md"
    readme.write_text("[docs/tour](docs/tour/01_data_sets.ipynb), [other](other.ipynb)")
    glossary.write_text("| batch | [1](tour/01_data_sets.ipynb) |")
    main(tmp_path)
    assert readme.read_text() == "[docs/tour](docs/tour/01_data_sets.md), [other](other.ipynb)"
    assert glossary.read_text() == "| batch | [1](tour/01_data_sets.md) |"


def test_the_tools_of_the_site_need_no_other_package() -> None:
    source = Path(main.__code__.co_filename).read_text(encoding="utf-8")
    modules = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    assert modules == {"base64", "json", "pathlib", "re", "sys", "textwrap", "typing"}
