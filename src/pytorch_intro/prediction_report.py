"""What src/predict.py tells: predictions.csv, a contact sheet, a table."""

import csv
import io
import sys
from collections import Counter
from contextlib import ExitStack
from types import TracebackType

from PIL import Image

from pytorch_intro.atomic import atomic_write
from pytorch_intro.decoder import Decoder
from pytorch_intro.errors import UserError
from pytorch_intro.finished_run import FinishedRun
from pytorch_intro.paths import display_path
from pytorch_intro.predicting import Prediction

SHOWN = 64  # pictures in the table and on the contact sheet
THUMBNAIL = 160  # pixels a side


class PredictionReport:
    """Writes predictions.csv into a run's folder as predictions come, and shows the first 64.

    As a context manager: the file is there when it was left by close, and else not at all.

    Args:
        run: Whose network it is.
        top_k: Labels an image.

    Attributes:
        unread: How many files could not be read; each is told at once.

    Raises:
        UserError: if there are fewer classes than labels are asked for.
    """

    def __init__(self, run: FinishedRun, top_k: int) -> None:
        self.classes: list[str] = run.inputs["classes"]
        if top_k > len(self.classes):
            raise UserError(f"top_k={top_k}: there are {len(self.classes)} classes")
        self.run = run
        self.top_k = top_k
        self.shown: list[Prediction] = []
        self.unread = 0
        self.thumbnails: list[Image.Image] = []
        self.counts: Counter[str] = Counter()
        self.inverted = 0
        self.files = ExitStack()

    def __enter__(self) -> "PredictionReport":
        self.file = self.files.enter_context(atomic_write(self.run.path / "predictions.csv"))
        numbers = ["", *(f"_{number}" for number in range(2, self.top_k + 1))]
        self.write([["path", *(f"{name}{number}" for number in numbers for name in ("label", "probability"))]])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.files.__exit__(kind, error, traceback)

    def add(self, predictions: list[Prediction]) -> None:
        """Take in some predictions, in order."""
        read = [prediction for prediction in predictions if not prediction.error]
        for prediction in predictions:
            if prediction.error:
                self.unread += 1
                print(f"not read: {prediction.path}: {prediction.error}", file=sys.stderr)
        for prediction in read[: SHOWN - len(self.shown)]:
            self.shown.append(prediction)
            self.thumbnails.append(thumbnail(prediction.path))
        self.inverted += sum(prediction.inverted for prediction in read)
        lines = []
        for prediction in read:
            best = self.best(prediction)
            self.counts[best[0][0]] += 1
            lines.append([prediction.path, *(field for label, share in best for field in (label, f"{share:.6f}"))])
        self.write(lines)

    def best(self, prediction: Prediction) -> list[tuple[str, float]]:
        """The likeliest classes and their probabilities."""
        assert prediction.probabilities is not None
        shares, numbers = prediction.probabilities.topk(self.top_k)
        return [(self.classes[number], share) for number, share in zip(numbers.tolist(), shares.tolist(), strict=True)]

    def write(self, lines: list[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        self.file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Draw the contact sheet, after the last prediction.

        Raises:
            UserError: if nothing could be read.
        """
        from pytorch_intro.pictures import plot_image_grid, save

        if not self.shown:
            raise UserError("images: none of them could be read, and nothing was written; give others")
        captions = [f"{label}\n{share:.0%}" for label, share in (self.best(shown)[0] for shown in self.shown)]
        save(plot_image_grid(self.thumbnails, captions), self.run.path / "predictions.png")

    def show(self) -> None:
        """Print the first predictions, how often each class was seen, and where all lies."""
        width = max(len(prediction.path) for prediction in self.shown)
        for prediction in self.shown:
            best = "  ".join(f"{label} {share:.1%}" for label, share in self.best(prediction))
            print(f"  {prediction.path:<{width}}  {best}{'  (inverted)' if prediction.inverted else ''}")
        total = self.counts.total()
        if total > len(self.shown):
            print(f"  … and {total - len(self.shown):,} more")
            print("seen: " + ", ".join(f"{label} {count:,}" for label, count in self.counts.most_common()))
        if self.inverted:
            negatives = f"{self.inverted:,} of {total:,}"
            print(f"shown to the network as negatives: {negatives}; invert=false shows all as they are")
        folder = display_path(self.run.path)
        print(f"written: {folder}/predictions.csv, {folder}/predictions.png")


def thumbnail(path: str) -> Image.Image:
    """The picture in a file, RGB and as it is to be seen, small; a black one if it cannot be read any more."""
    decoder = Decoder((THUMBNAIL, THUMBNAIL), channels=3)
    try:
        with Image.open(path) as image:
            picture = decoder.load_oriented(image)
    except OSError:
        return Image.new("RGB", (1, 1))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return picture
