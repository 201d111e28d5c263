"""Output of src/predict.py: predictions.csv, a contact sheet and a table."""

import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import atomic_write
from pytorch_intro.common.text import text_table, to_displayable
from pytorch_intro.config.paths import display_path
from pytorch_intro.data.ingest.decoder import Decoder
from pytorch_intro.data.ingest.find_files import needs_conversion
from pytorch_intro.data.ingest.relabel import warn_about_similar
from pytorch_intro.inference.decision import Decision
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.inference.load import Predictor
from pytorch_intro.inference.predict import Prediction, picture_paths

MAX_SHOWN = 64  # images in the table and on the contact sheet
THUMBNAIL = 160  # pixels per side
UNSURE = "unsure"  # label of an image without a probable class


class PredictionReport:
    """Write predictions to a CSV file, with a picture next to it, and show the first 64.

    Args:
        top_k: Number of labels per image; a UserError if it exceeds the number of classes.
        decision: Threshold of one of two classes; None: the label is the most probable class.
        explained: Network whose evidence for the labels is plotted in explanations.png; None: no such plot.
        output: CSV file; None: predictions.csv of the run.
        min_probability: Probability below which the first label is UNSURE; None: never.

    Attributes:
        num_failed: Number of files that could not be read. Each is reported on stderr at once.
        write_error: Why nothing could be written, for example because the disk is read-only.
    """

    def __init__(
        self,
        run: FinishedRun,
        top_k: int,
        decision: Decision | None = None,
        explained: Predictor | None = None,
        output: Path | None = None,
        min_probability: float | None = None,
    ) -> None:
        self.classes = to_display_names(run.inputs["classes"])
        if top_k > len(self.classes):
            raise UserError(f"top_k={top_k}: the run has {len(self.classes)} classes; use at most that many")
        warn_about_similar(self.classes, "train again after renaming or merging them")
        self.run = run
        self.top_k = top_k
        self.decision = decision
        self.explained = explained
        self.table = output or run.path / "predictions.csv"
        self.picture, self.explanations = picture_paths(self.table)
        self.min_probability = min_probability
        if min_probability is not None and UNSURE in self.classes:
            raise UserError(f"min_probability={min_probability}: a class is called {UNSURE}; leave it out")
        self.shown: list[Prediction] = []
        self.num_failed = 0
        self.write_error: OSError | None = None
        self.thumbnails: list[Image.Image] = []
        self.counts: Counter[str] = Counter()
        self.num_inverted = 0

    def save(self, batches: Iterable[list[Prediction]], images: str) -> None:
        """Write the table, as the predictions arrive, and the pictures; nothing if no file could be read.

        If the folder is not writable, the predictions are only collected, for print_summary.

        Args:
            images: Setting that the error names if no file could be read.
        """
        suffixes = ["", *(f"_{number}" for number in range(2, self.top_k + 1))]
        header = ["path", *(f"{name}{suffix}" for suffix in suffixes for name in ("label", "probability"))]
        with self.open_table() as file:
            text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")  # file names need not be valid UTF-8
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(header)
            for predictions in batches:
                writer.writerows(self.add(predictions))
            text.detach()
            if not self.shown:
                raise UserError(f"images={images}: none could be read, nothing was written; use other image files")
            if self.write_error is None:
                self.save_contact_sheet()
                if self.explained:
                    self.save_explanations(self.explained)

    @contextmanager
    def open_table(self) -> Iterator[BinaryIO]:
        """Open the table, or the null device if the folder is not writable."""
        with ExitStack() as stack:
            try:
                file = stack.enter_context(atomic_write(self.table))
            except OSError as error:
                self.write_error = error
                file = stack.enter_context(open(os.devnull, "wb"))  # noqa: PTH123
            yield file

    def add(self, predictions: list[Prediction]) -> list[list[str]]:
        """Collect the statistics of some predictions and return their rows in the table."""
        read = [prediction for prediction in predictions if not prediction.error]
        for prediction in predictions:
            if prediction.error:
                self.num_failed += 1
                remedy = "; convert it to JPEG" if needs_conversion(prediction.path) else ""
                line = f"failed to read {prediction.path}: {prediction.error}{remedy}"
                print(to_displayable(line), file=sys.stderr)
        for prediction in read[: MAX_SHOWN - len(self.shown)]:
            self.shown.append(prediction)
            self.thumbnails.append(thumbnail(prediction.path, self.run.inputs["bit_depth"]))
        self.num_inverted += sum(prediction.inverted for prediction in read)
        rows = []
        for prediction in read:
            top = self.top_classes(prediction)
            self.counts[top[0][0]] += 1
            rows.append([prediction.path, *(cell for label, share in top for cell in (label, f"{share:.6f}"))])
        return rows

    def top_indices(self, prediction: Prediction) -> list[int]:
        """Return the indices of the most likely classes, best first; with a threshold, that of the label first."""
        assert prediction.probabilities is not None
        if self.decision:
            positive, threshold = self.decision
            label = positive if float(prediction.probabilities[positive]) >= threshold else 1 - positive
            return [label, 1 - label][: self.top_k]
        indices: list[int] = prediction.probabilities.topk(self.top_k).indices.tolist()
        return indices

    def top_classes(self, prediction: Prediction) -> list[tuple[str, float]]:
        """Return the most likely classes with their probabilities, as top_indices; UNSURE if the first is too low."""
        assert prediction.probabilities is not None
        shares = prediction.probabilities.tolist()
        top = [(self.classes[index], shares[index]) for index in self.top_indices(prediction)]
        if self.min_probability is not None and top[0][1] < self.min_probability:
            top[0] = (UNSURE, top[0][1])
        return top

    def save_contact_sheet(self) -> None:
        """Save the first images with their labels."""
        from pytorch_intro.analysis.plots import plot_image_grid, save

        captions = [f"{label}\n{share:.0%}" for label, share in (self.top_classes(shown)[0] for shown in self.shown)]
        save(plot_image_grid(self.thumbnails, captions), self.picture)

    def save_explanations(self, predictor: Predictor) -> None:
        """Save the first images next to the heat maps of their labels."""
        from pytorch_intro.analysis.plots import save
        from pytorch_intro.inference.explain import plot_predictions

        top = [self.top_classes(shown)[0] for shown in self.shown]
        classes = torch.tensor([self.top_indices(shown)[0] for shown in self.shown])
        images = torch.from_numpy(np.stack([shown.pixels for shown in self.shown if shown.pixels is not None]))
        names = [to_displayable(Path(shown.path).name) for shown in self.shown]
        captions = [f"{label}\n{share:.0%}" for label, share in top]
        save(plot_predictions(predictor, images, classes, names, captions), self.explanations)

    def print_summary(self) -> None:
        """Print the first predictions, the number of images per class, and the files written.

        Raises:
            OSError: If the files could not be written; see write_error.
        """
        rows = []
        for prediction in self.shown:
            labels = (f"{label} {share:.1%}" for label, share in self.top_classes(prediction))
            rows.append([prediction.path, *labels, "(inverted)" if prediction.inverted else ""])
        print(text_table(rows))
        if self.decision:
            positive, threshold = self.decision
            print(f"threshold: {self.classes[positive]} if its probability is at least {threshold}")
        total = self.counts.total()
        if self.min_probability is not None:
            print(f"unsure: {self.counts[UNSURE]:,} of {total:,} images, below min_probability={self.min_probability}")
        if total > len(self.shown):
            print(f"  … and {total - len(self.shown):,} more")
            print("predicted: " + ", ".join(f"{label} {count:,}" for label, count in self.counts.most_common()))
        if self.num_inverted:
            print(f"inverted: {self.num_inverted:,} of {total:,} images; invert=false leaves them as they are")
        if self.write_error:
            raise self.write_error
        files = [self.table, self.picture, *([self.explanations] if self.explained else [])]
        print(f"written: {', '.join(map(display_path, files))}")


def thumbnail(path: str, bit_depth: int) -> Image.Image:
    """Return a small RGB copy of an image file, or a black pixel if it can no longer be read."""
    decoder = Decoder((THUMBNAIL, THUMBNAIL), channels=3, bit_depth=bit_depth)
    try:
        with Image.open(path) as image:
            picture = decoder.load_oriented(image)
    except OSError:
        return Image.new("RGB", (1, 1))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return picture
