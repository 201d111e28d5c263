"""Any class name can be shown: in any script, without UTF-8, with markup, of any length."""

import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import Command, write_images

from pytorch_intro.analysis import plots
from pytorch_intro.analysis.fonts import default_font, fit_families, fit_font, font_of
from pytorch_intro.analysis.markdown import markdown_table
from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.text import pluralize, text_table, to_displayable
from pytorch_intro.config.validate import check_value
from pytorch_intro.runs.folder import REPORT

NAMES = [
    "caf\udce9", "שלום", "犬猫", "$x_1$ $\\frac", "two\nlines", "300 characters " * 20, "é🙂", "\x1b[31mred", "",
    "<b>|*_`#", "\u202eturned", "\U000f0000",
]  # fmt: skip


@pytest.fixture
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("name", NAMES)
def test_displayable_text_is_one_line_of_utf8_without_control_characters(name: str) -> None:
    text = to_displayable(name, 40)
    text.encode()
    assert len(text) <= 40
    assert len(text.splitlines()) <= 1
    assert not any(character < " " for character in text)
    for table in (text_table([[name, "b"]]), markdown_table(["", ""], [[name, "b"]])):
        table.encode()
        assert table.count("\n") == (2 if table.startswith("|") else name.count("\n"))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 39, 40, 41])
def test_shortened_text_keeps_its_start_and_end(length: int) -> None:
    text = to_displayable("".join(map(chr, range(ord("A"), ord("A") + 40))), length)
    assert len(text) == min(length, 40)
    assert ("…" in text) == (length < 40)
    if length > 2:
        assert text[0] == "A"
        assert text[-1] == chr(ord("A") + 39)


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "job", "0 jobs"), (1, "job", "1 job"), (2, "job", "2 jobs"), (1, "class", "1 class"),
     (1000, "class", "1,000 classes")],
)  # fmt: skip
def test_a_number_has_its_noun(number: int, noun: str, text: str) -> None:
    assert pluralize(number, noun) == text


def test_paths_need_not_be_utf8() -> None:
    check_value("data.root", "caf\udce9", str)
    with pytest.raises(UserError, match="valid integer"):
        check_value("data.root", "caf\udce9", int)


def test_names_that_look_the_same_are_numbered() -> None:
    assert to_display_names(["a", "a (2)", "a", "\udce9", "\udce8"]) == ["a", "a (2)", "a (3)", "\ufffd", "\ufffd (2)"]


@pytest.mark.pictures
@pytest.mark.usefixtures("_no_warnings")
@pytest.mark.parametrize("count", [1, 2, len(NAMES)])
def test_plots_of_any_names_have_no_warnings(count: int) -> None:
    """No glyph is missing, no text is read as math, and the axes have space."""
    names = random.Random(0).sample(NAMES, count) if count < 3 else NAMES
    plots.plot_confusion(torch.ones(count, count, dtype=torch.int64), names, NAMES[2])
    images = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    plots.plot_samples(images, torch.arange(count), names, "title")
    plots.plot_samples(images, torch.full((count, count), 1 / count), names, "title")
    plots.plot_curves({1: {"train/loss": 1.0}}, NAMES[2], None)


def test_characters_without_a_font_are_replaced_and_others_are_not() -> None:
    """A private character, and one that an installed font has, if any."""
    assert fit_families(["a\U000f0000"]) == (["a\ufffd"], ["DejaVu Sans"])
    assert fit_font(["a\U000f0000", "b"]) == (["a\ufffd", "b"], default_font().file)
    if font := font_of("犬"):
        assert fit_families(["a", "犬"]) == (["a", "犬"], ["DejaVu Sans", font.family])
        assert fit_font(["犬"]) == (["犬"], font.file)
    else:
        assert fit_families(["a", "犬"]) == (["a", "\ufffd"], ["DejaVu Sans"])


@pytest.mark.pictures
@pytest.mark.usefixtures("_no_warnings")
@pytest.mark.parametrize("epochs", [0, 1, 2])
@pytest.mark.parametrize("best", [None, 1])
def test_curves_of_few_epochs_are_plotted(epochs: int, best: int | None) -> None:
    history = {epoch: {"train/loss": 1.0, "val/accuracy": 0.5} for epoch in range(1, epochs + 1)}
    assert plots.plot_curves(history, "few", best).width > 300


@pytest.mark.pictures
@pytest.mark.parametrize("names", [[NAMES[3], "é🙂|", "犬 שלום"], ["a", "b"]], ids=["odd", "two"])
def test_a_run_of_a_few_classes_has_its_pictures_and_card(
    command: Command, tmp_path: Path, recwarn: pytest.WarningsRecorder, names: list[str]
) -> None:
    """The validation and the test have one or two images of each class."""
    photos, run = tmp_path / "photos", tmp_path / "outputs" / "odd"
    for name in names:
        write_images(photos, *(f"{name}/{number}.png" for number in range(8)))
    answer = command("data=folder", f"data.root={photos}", "data.val_fraction=0.2", "data.test_fraction=0.2",
                     "data.image_size=16", "model=mlp", "trainer=cpu", "trainer.max_epochs=1", "name=odd")  # fmt: skip
    assert answer.code == 0, answer.err
    card = (run / "README.md").read_text(encoding="utf-8")
    assert f"\n{', '.join(names)}.".replace("|", "\\|") in card
    assert all((run / name).exists() for name in REPORT)
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]
