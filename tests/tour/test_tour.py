"""The tour: every factual sentence of the notes has an assertion, and every chapter runs."""

import ast
import contextlib
import io
import os
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from conftest import FORKS, Answer, Command, run_command
from PIL import Image

import tour
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.tour import CHAPTERS
from pytorch_intro.tour.chapter import TERM, Cell, Chapter, parse_chapter, read_chapter
from pytorch_intro.tour.guide import WIDTH, is_installed, laid_out, walk

SCRIPT = PROJECT / "src" / "tour.py"
NOTES = PROJECT / "src" / "pytorch_intro" / "tour" / "NOTES.md"
PICTURES = [
    "shared_memory", "batch_as_a_stack", "one_shirt", "layers_of_a_picture", "computation_graph", "learning_rates",
    "loss_goes_down", "confusion_matrix", "overfitting", "five_mistakes", "what_it_sees",
    "contact_sheet", "suspicious_labels", "my_photographs", "finetuning_pays", "better_or_luck",
]  # fmt: skip
NO_FACTS = (
    "This is some [intro material](https://pytorch.org/tutorials/beginner/basics/intro.html) for using PyTorch from "
    "pytorch.org",  # where the notes are from
    "Enjoy",  # a wish
)


def chapters() -> list[Chapter]:
    return [read_chapter(number) for number in range(1, len(CHAPTERS) + 1)]


def sentences_of(notes: str) -> list[str]:
    """Return the sentences and list items, without headings."""
    lines = [line.removeprefix("* ").strip() for line in notes.splitlines() if line and not line.startswith("#")]
    return [sentence for line in lines for sentence in re.split(r"(?<=[^.\s]\.)\s+(?=[A-Z`\"])", line)]


def assertions_in(cell: Cell) -> int:
    return sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.code)))


def unasserted(notes: str, cells: list[Cell]) -> list[str]:
    """Return the factual sentences that are not quoted by exactly one cell with an assertion."""
    asserted = [sentence for cell in cells for sentence in cell.sentences if assertions_in(cell)]
    facts = [sentence for sentence in sentences_of(notes) if sentence not in NO_FACTS]
    return [sentence for sentence in facts if asserted.count(sentence) != 1]


@pytest.fixture
def tour_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `python src/tour.py …` in this process."""

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["src/tour.py", *arguments])
        code: Any = 0
        try:
            exec(compile(SCRIPT.read_text(), str(SCRIPT), "exec"), {"__name__": "__main__"})
        except SystemExit as stop:
            code = stop.code
        return Answer(code, *capsys.readouterr())

    return run


def test_every_factual_sentence_of_the_notes_is_asserted_once() -> None:
    cells = [cell for chapter in chapters() for cell in chapter.cells]
    notes = NOTES.read_text()
    assert len(sentences_of(notes)) == 34
    assert unasserted(notes, cells) == []
    assert set(NO_FACTS) <= set(sentences_of(notes))
    quoted = [sentence for cell in cells for sentence in cell.sentences]
    assert [sentence for sentence in sentences_of(notes) if sentence in quoted] == quoted, "in the notes' order"
    assert unasserted(f"{notes}\nTensors can fly.\n", cells) == ["Tensors can fly."]
    first = next(cell for cell in cells if cell.sentences)
    first.code = "pass"
    assert unasserted(notes, cells) == first.sentences


def run_tour_in(folder: Path, out: Path, err: Path) -> None:
    """Run the script in a process that is forked from one with torch, which saves seconds of imports."""
    os.chdir(folder)
    warnings.simplefilter("error", FutureWarning)
    run_command([str(SCRIPT)], out, err, {}, None, 0)


def test_the_whole_tour_runs_as_a_script_from_anywhere(tmp_path: Path) -> None:
    """It ends with a network that classifies more than three quarters of the pictures correctly, and has pictures."""
    started = time.time_ns()
    folder, out, err = (tmp_path / name for name in ("anywhere", "out", "err"))
    folder.mkdir()
    process = FORKS.Process(target=run_tour_in, args=(folder, out, err))
    process.start()
    process.join(100)
    assert (process.exitcode, err.read_text()) == (0, "")
    printed = out.read_text()
    for chapter in chapters():
        assert f"\n{chapter.number}. {chapter.title}\n" in printed
    accuracy = re.search(r"= ([\d.]+)% of 400 pictures are classified correctly", printed)
    assert accuracy
    assert float(accuracy[1]) > 75
    names = re.findall(r"= picture: .*/outputs/tour/(\w+)\.png$", printed, re.MULTILINE)
    assert names == PICTURES
    for name in names:
        picture = PROJECT / "outputs" / "tour" / f"{name}.png"
        assert picture.stat().st_mtime_ns > started
        with Image.open(picture) as image:
            assert image.width > 500
            assert image.convert("L").getextrema() == (0, 255)
    assert "\033[" not in printed, "colors are for terminals"
    lines = [line for line in printed.splitlines() if "= picture: " not in line]
    assert max(map(len, lines)) <= WIDTH + 4
    assert list(folder.iterdir()) == []


def test_the_tour_runs_exactly_the_code_of_the_chapters() -> None:
    for chapter in chapters():
        statements = ast.parse(chapter.path.read_text()).body
        run = [node for cell in chapter.cells for node in ast.parse(cell.code).body]
        assert list(map(ast.dump, run)) == list(map(ast.dump, statements))


def test_one_chapter_is_run_by_its_number(tour_here: Command) -> None:
    answer = tour_here("4")
    assert answer.code == 0
    assert "4. Tensors and arrays" in answer.out
    assert "The notes: Tensors are the PyTorch analog of ND arrays." in answer.out
    assert "= tensor([[ 5., 14.]," in answer.out
    assert "at work in src/pytorch_intro/data/dataset.py: InMemoryImageDataset" in answer.out
    assert "5. Tensors in memory" not in answer.out


def test_help_lists_the_chapters(tour_here: Command) -> None:
    out = tour_here("--help").out
    assert "python src/tour.py 5" in out
    assert "16  Train a network, and see what it looks at" in out
    assert "20  From a run to a web page" in out
    assert "The notes:" not in out


@pytest.mark.parametrize("argument", ["0", "21", "x", "1.5", "--fast"])
def test_an_unknown_chapter_gives_a_one_line_error(tour_here: Command, argument: str) -> None:
    answer = tour_here(argument)
    assert answer.code == 2
    assert answer.err == f"error: {argument}: unknown chapter; use a number from 1 to 20, or none for all\n"


def test_a_process_that_imports_the_tour_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """DataLoader workers import the script on some systems."""
    assert not tour.tour.is_running
    tour.tour.chapter(1)
    assert capsys.readouterr().out == ""


def test_an_assertion_that_does_not_hold_ends_the_tour_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    text = "# %% [markdown]\n# # 1. Wrong\n#\n# To read on: Nowhere.\n\n# %% [markdown]\n# > One is two.\n"
    file.write_text(f"{text}\n# %%\nx = 1\nassert x == 2\nx\n")
    chapter = parse_chapter(1, file)
    assert (chapter.title, chapter.further, chapter.cells[0].sentences) == ("Wrong", "Nowhere.", ["One is two."])
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(AssertionError) as error:
        walk(chapter)
    assert error.traceback[-1].lineno + 1 == file.read_text().splitlines().index("assert x == 2") + 1


def test_a_cell_is_left_out_without_the_packages_that_it_needs(tmp_path: Path) -> None:
    """The others run: the tour works with the packages of requirements.txt, and after a package was deleted."""
    file = tmp_path / "needs.py"
    text = "# %% [markdown]\n# # 1. Needs\n#\n# To read on: Nowhere.\n\n# %%\n# Needs: json, no_such.module\n1 / 0\n"
    file.write_text(f"{text}\n# %%\n# Needs: json\n6 * 7\n")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        walk(parse_chapter(1, file))
    assert "  left out, since it is not installed: no_such.module\n" in printed.getvalue()
    assert "  = 42\n" in printed.getvalue()
    optional = {name for chapter in chapters() for cell in chapter.cells for name in cell.needs}
    assert all(map(is_installed, optional))
    assert "pytorch_intro.inference" in optional


def test_the_whole_tour_leaves_out_a_slow_cell_that_its_chapter_runs(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text("# %% [markdown]\n# # 1. Slow\n#\n# To read on: Nowhere.\n\n# %%\n# Slow: it waits\n6 * 7\n")
    for is_whole, expected in (
        (True, "left out of the whole tour; to run it: python src/tour.py 1\n"),
        (False, "= 42\n"),
    ):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            walk(parse_chapter(1, file), is_whole)
        assert expected in printed.getvalue()
        assert printed.getvalue().count("= 42") == (not is_whole)


def test_files_and_names_cited_by_chapters_exist() -> None:
    """Each file, and in it the name of a class, a function, or a key."""
    places = [place for chapter in chapters() for cell in chapter.cells for place in cell.at_work]
    assert len(places) > 25
    for file, name in places:
        text = (PROJECT / file).read_text()
        if file.endswith(".py"):
            assert name in names_in(ast.parse(text)), (file, name)
        else:
            assert re.search(rf"^\s*{name}\b", text, re.MULTILINE), (file, name)


def names_in(tree: ast.Module) -> set[str]:
    """Return the names of functions, classes and their methods: Images, Images.__len__."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in tree.body if isinstance(node, kinds)]
    inner = [(node, part) for node in top for part in node.body if isinstance(part, kinds)]
    return {node.name for node in top} | {f"{node.name}.{part.name}" for node, part in inner}


def test_the_script_has_a_cell_for_each_chapter_with_its_title() -> None:
    cells = re.findall(r"^# %% (\d+)\. (.*)\ntour\.chapter\((\d+)\)$", SCRIPT.read_text(), re.MULTILINE)
    assert cells == [(str(chapter.number), chapter.title, str(chapter.number)) for chapter in chapters()]


TERMS = {
    "dataset": 1, "label": 1, "training set": 1, "validation set": 1, "batch": 1, "normalization": 1, "device": 2,
    "CUDA": 2, "MPS": 2, "parameter": 3, "bias": 3, "neural network": 3, "`forward`": 3, "tensor": 4, "channel": 4,
    "uint8": 4, "NumPy": 4, "array": 4, "allocate": 5, "float": 5, "float32": 5, "sample": 6, "iterable": 6, "epoch": 9,
    "overfitting": 9, "worker": 9, "feature": 9, "one-hot": 10, "flip": 10, "augmentation": 10, "layer": 11, "ReLU": 11,
    "`nn.Sequential`": 11, "CNN": 11, "logit": 11, "softmax": 11, "argmax": 11, "kernel": 11, "padding": 11,
    "BatchNorm": 11, "dropout": 11, "eval mode": 11, "training mode": 11, "loss": 12, "gradient": 12,
    "`requires_grad`": 12, "`zero_grad()`": 12, "`backward()`": 12, "`step()`": 12, "`no_grad()`": 12,
    "learning rate": 12, "cross-entropy": 12, "natural logarithm": 12, "optimizer": 12, "SGD": 12,
    "LightningModule": 13, "Trainer": 13, "state_dict": 14, "`map_location`": 14, "pickle": 14, "venv": 15,
    "early stopping": 16, "unbalanced": 17, "leak": 17, "split": 17, "EXIF": 17, "pretrained": 18, "fine-tuning": 18,
    "transfer learning": 18, "timm": 18, "cross-validation": 18, "run": 18, "head": 18, "frozen": 18, "seed": 19,
    "paired difference": 19, "standard error": 19, "checkpoint": 20, "server": 20, "base64": 20, "export": 20,
    "ONNX": 20,
}  # fmt: skip


@pytest.mark.parametrize(("term", "number"), TERMS.items())
def test_a_term_is_explained_in_the_first_chapter_that_uses_it(term: str, number: int) -> None:
    assert term in [name for cell in read_chapter(number).cells for name in cell.terms]


def test_each_term_is_explained_once_before_it_is_used() -> None:
    paragraphs = [paragraph for chapter in chapters() for cell in chapter.cells for paragraph in cell.marked]
    assert len(paragraphs) > 150
    explained = [term for paragraph in paragraphs for term in TERM.findall(paragraph)]
    assert len(explained) == len(set(explained)) > 60
    early = []
    for place, paragraph in enumerate(paragraphs):
        before = re.sub(r"`[^`]*`", "", " ".join(paragraphs[:place]))
        terms = TERM.findall(paragraph)
        early += [term for term in terms if re.search(rf"\b{re.escape(term)}\b", before, re.IGNORECASE)]
    assert early == []


def test_a_sentence_is_short() -> None:
    """Readers may have English as a second language: at most 26 words."""
    paragraphs = [paragraph for chapter in chapters() for cell in chapter.cells for paragraph in cell.prose]
    prose = "\n".join(paragraph.replace(" | ", "\n") for paragraph in paragraphs)
    sentences = re.split(r"(?<=[.!?:])\s+|\n", re.sub(r"`[^`]*`", "code", prose))
    assert len(sentences) > 300
    assert [sentence for sentence in sentences if len(sentence.split()) > 26] == []


def test_a_paragraph_that_explains_a_term_makes_sense_alone() -> None:
    """It is an entry of the glossary: it does not refer to what is before or after it."""
    paragraphs = [paragraph for chapter in chapters() for cell in chapter.cells for paragraph in cell.marked]
    entries = [paragraph.replace("**", "") for paragraph in paragraphs if TERM.findall(paragraph)]
    refers = re.compile(
        r"^(?:So|It|They|This|That|These|But|And|Then|Here)\b|\b(?:below|above|here|we|ours?|these)\b", re.I
    )
    assert len(entries) > 100
    assert [entry for entry in entries if refers.search(entry)] == []
    assert refers.search("It is near 1 after that.")
    assert refers.search("With the weights below, it finds edges.")


def test_a_table_keeps_its_columns_in_the_terminal() -> None:
    cells = read_chapter(CHAPTERS.index("training") + 1).cells
    (table,) = [paragraph for cell in cells for paragraph in cell.prose if paragraph.startswith("|")]
    lines = laid_out(table).splitlines()
    assert lines[0].split() == ["you", "see", "perhaps", "chapter"]
    assert set(lines[1]) == {"-", " "}
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].index("chapter") == lines[1].rindex(" ") + 1
    for row in table.splitlines()[2:]:
        for word in row.replace("|", " ").split():
            assert word in laid_out(table)


def test_figures_of_real_photographs_are_those_of_the_results() -> None:
    """Chapter 18 recommends the head for few photographs because of them."""
    results = (PROJECT / "docs" / "results.md").read_text()
    text = " ".join(paragraph for cell in read_chapter(18).cells for paragraph in cell.prose)
    rows = re.findall(
        r"^\| `python src/train.py experiment=finetune\b.*\| ([\d.]+) % .*\| ([\d.]+) s", results, re.MULTILINE
    )
    (head, head_time), (gradual, gradual_time) = [(round(float(a)), round(float(b))) for a, b in rows]
    assert f"The head only: {head}% correct, in {head_time} seconds." in text
    assert f"Gradual: {gradual}%, in {gradual_time} seconds." in text
