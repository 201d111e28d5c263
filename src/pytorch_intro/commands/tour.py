"""Learn PyTorch in 20 chapters: the notes and what follows in practice, live, in about 20 seconds."""

from collections.abc import Sequence

from pytorch_intro.tour import CHAPTERS
from pytorch_intro.tour.guide import Tour


def main(arguments: Sequence[str] | None = None) -> None:
    tour = Tour("__main__", arguments)
    for number in range(1, len(CHAPTERS) + 1):
        tour.chapter(number)
