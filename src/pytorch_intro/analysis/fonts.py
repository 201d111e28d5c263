"""Fonts for any text: the one that Matplotlib ships, and installed ones for the characters that it lacks."""

import functools
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font

from pytorch_intro.common.text import REPLACEMENT


class Font(NamedTuple):
    """A font, with the code points that it has glyphs for."""

    family: str
    file: str
    characters: Set[int]


@functools.cache
def default_font() -> Font:
    """Return the font that Matplotlib ships."""
    return read_font("DejaVu Sans", str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")))


@functools.cache
def other_fonts() -> list[Font]:
    """Return the installed fonts, upright ones first; this takes about a millisecond per font."""
    from matplotlib.font_manager import fontManager  # searches all fonts at its first import

    entries = sorted(fontManager.ttflist, key=lambda entry: (entry.style != "normal", str(entry.weight), entry.name))
    # The font of last resort has a placeholder for every character.
    return [read_font(entry.name, entry.fname) for entry in entries if not entry.name.startswith("Last Resort")]


def read_font(family: str, file: str) -> Font:
    try:
        return Font(family, file, FT2Font(file).get_charmap().keys())
    except (OSError, RuntimeError):  # removed, or not readable
        return Font(family, file, frozenset())


@functools.cache
def font_of(character: str) -> Font | None:
    """Return the font for a character; None if no installed font has it."""
    if ord(character) in default_font().characters:
        return default_font()
    return next((font for font in other_fonts() if ord(character) in font.characters), None)


def fonts_of(texts: Iterable[str]) -> list[Font]:
    """Return the fonts that the texts need, the default first."""
    fonts = filter(None, map(font_of, sorted(set().union(*texts))))
    return list({font.file: font for font in [default_font(), *fonts]}.values())


def replace_missing(text: str, fonts: Sequence[Font]) -> str:
    """Return the text with a replacement for each character that none of the fonts has."""
    return "".join(
        character if any(ord(character) in font.characters for font in fonts) else REPLACEMENT for character in text
    )


def fit_families(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return texts of one line as Matplotlib can draw them, and the font families to draw them with."""
    fonts = fonts_of(texts)
    return [replace_missing(text, fonts) for text in texts], [font.family for font in fonts]


def fit_font(lines: Sequence[str]) -> tuple[list[str], str]:
    """Return lines as Pillow can draw them, in one font, and the file of that font: the one with most characters."""

    def count(font: Font) -> int:
        return sum(ord(character) in font.characters for line in lines for character in line)

    font = max(fonts_of(lines), key=count)
    return [replace_missing(line, [font]) for line in lines], font.file
