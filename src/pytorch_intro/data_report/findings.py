"""What is found in a dataset, with the reasons why it matters, what to do about it, and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pytorch_intro.analysis import plots
from pytorch_intro.analysis.fonts import fit_families
from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.common.text import to_displayable
from pytorch_intro.data.dataset import evenly_spaced_indices
from pytorch_intro.data_report.duplicates import NearDuplicates, find_exact_duplicates, find_near_duplicates
from pytorch_intro.data_report.inspection import ANIMATED, ONE_COLOR, TURNED, WRONG_SUFFIX
from pytorch_intro.data_report.label_errors import find_label_errors
from pytorch_intro.data_report.predictions import Predictions
from pytorch_intro.data_report.survey import SPLITS, Survey

MAX_LISTED = 1000  # entries of a list in report.json
MAX_SHOWN = 20  # entries of a list in report.md
MAX_PICTURES = 32  # images in one picture
MAX_SHEETS, SHEET_IMAGES = 50, 24  # contact sheets, and images in each
MAX_BARS = 60  # classes in the bar chart
UNBALANCED = 10  # times as many images in the largest class as in the smallest
EXTREME_RATIO = 3  # longer side to shorter side
SPLIT_COLORS = ("#0072B2", "#E69F00", "#009E73", "#BBBBBB")  # of Okabe and Ito


@dataclass
class Finding:
    """A kind of problem that the report looks for.

    Attributes:
        key: Name in report.json.
        title: Name in report.md.
        count: Number of images or pairs; 0 if there is nothing to do.
        why: Why it matters, in a sentence or two.
        remedy: What to do.
        facts: Further numbers, by name.
        header, rows: Table of examples.
        entries: The same as plain values, for report.json.
        pictures: Names of the pictures.
    """

    key: str
    title: str
    count: int
    why: str
    remedy: str
    facts: dict[str, Any] = field(default_factory=dict)
    header: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


class Findings:
    """Everything that is found in a survey, and pictures of it.

    Args:
        survey: Facts about all images.
        predictions: Predictions for label errors, if there is a run.

    Attributes:
        classes: Names of the classes, displayable and unique.
        counts: Images per class and split, (num_classes, len(SPLITS)) int64.
        items: All findings, also those of which there are none.
        pictures: Pictures by file name.
    """

    def __init__(self, survey: Survey, predictions: Predictions | None = None) -> None:
        self.survey, self.predictions = survey, predictions
        self.classes = to_display_names(survey.classes)
        self.pictures: dict[str, Image.Image] = {}
        self.counts = np.zeros((len(self.classes), len(SPLITS)), np.int64)
        is_known = survey.facts["label"] >= 0
        np.add.at(self.counts, (survey.facts["label"][is_known], survey.split[is_known]), 1)
        self.items = [
            self.find_broken(),
            *self.find_exact(),
            self.find_near(),
            *([self.find_wrong_labels(predictions)] if predictions else []),
            self.find_imbalance(),
            self.find_extreme_sizes(),
            *self.find_flagged(),
        ]
        self.plot_class_counts()
        self.plot_contact_sheets()

    # Descriptions of images

    def describe(self, row: int) -> dict[str, str]:
        """Return name, class and split of an image, as plain text."""
        survey = self.survey
        label = int(survey.facts["label"][row])
        name = self.classes[label] if label >= 0 else "unknown"
        return {"image": to_displayable(survey.name_of(row)), "class": name, "split": SPLITS[survey.split[row]]}

    def caption(self, row: int) -> str:
        about = self.describe(row)
        return f"{about['class']}\n{Path(about['image']).name} ({about['split']})"

    def add_grid(self, name: str, rows: Sequence[int], captions: Sequence[str], title: str) -> str:
        """Add a picture of images with captions; those that can no longer be read are left out."""
        previews = self.survey.previews(rows)
        shown = [(previews[row], caption) for row, caption in zip(rows, captions, strict=True) if row in previews]
        self.pictures[name] = plots.plot_image_grid(
            [image for image, _ in shown], [caption for _, caption in shown], title, columns=8
        )
        return name

    # Findings

    def find_broken(self) -> Finding:
        errors = self.survey.errors()
        entries = [self.describe(row) | {"error": to_displayable(error)} for row, error in sorted(errors.items())]
        return Finding(
            "broken",
            "Broken files",
            len(errors),
            "They cannot be decoded: truncated copies, downloads that failed, files of another kind. Training stops at "
            "the first of them.",
            "Copy or download them again, or remove them. `data.skip_broken=true` trains without them.",
            header=("image", "class", "error"),
            rows=[(entry["image"], entry["class"], entry["error"]) for entry in entries[:MAX_SHOWN]],
            entries=entries[:MAX_LISTED],
        )

    def find_exact(self) -> list[Finding]:
        """Return duplicates across splits, duplicates with different labels, and all duplicates."""
        survey = self.survey
        groups = find_exact_duplicates(survey)
        split, label = survey.split, survey.facts["label"]
        split_sets = [{*split[group].tolist()} - {SPLITS.index("unused")} for group in groups]
        across = [group for group, splits in zip(groups, split_sets, strict=True) if len(splits) > 1]
        conflicting = [group for group in groups if len({*label[group].tolist()}) > 1]
        leaked = {}
        for a, b in ((1, 0), (2, 0), (2, 1)):
            count = sum(
                int((split[group] == a).sum())
                for group, found in zip(groups, split_sets, strict=True)
                if {a, b} <= found
            )
            leaked[f"{SPLITS[a]} images that are also {SPLITS[b]} images"] = count
        tables = [
            ("duplicates_across_splits", "The same picture in two splits", across, len(across)),
            ("duplicates_with_different_labels", "The same picture under two labels", conflicting, len(conflicting)),
            ("duplicates", "The same picture twice", groups, sum(len(group) - 1 for group in groups)),
        ]
        texts = {
            "duplicates_across_splits": (
                "A network remembers its training images, so validation and test results become better than on new "
                "images.",
                "`data.drop_duplicates=true` drops them from training; training also warns of them.",
            ),
            "duplicates_with_different_labels": (
                "One of the labels is wrong, or the classes overlap. The network cannot learn both.",
                "Look at each pair and correct the label, or remove the picture.",
            ),
            "duplicates": (
                "Pixel by pixel the same: such an image counts twice in training. A few do no harm.",
                "Remove the copies if there are many, above all if they belong to few classes.",
            ),
        }
        findings = []
        for key, title, chosen, count in tables:
            why, remedy = texts[key]
            entries = [
                {"images": [self.describe(row) for row in group[:MAX_SHOWN].tolist()]} for group in chosen[:MAX_LISTED]
            ]
            finding = Finding(
                key,
                title,
                count,
                why,
                remedy,
                facts={"groups": len(chosen), **(leaked if key == "duplicates_across_splits" else {})},
                header=("images", "classes", "splits"),
                rows=[self.group_row(entry["images"]) for entry in entries[:MAX_SHOWN]],
                entries=entries,
            )
            if chosen and key != "duplicates":
                rows = [row for group in chosen[: MAX_PICTURES // 2] for row in group[:2].tolist()]
                captions = [self.caption(row) for row in rows]
                finding.pictures.append(self.add_grid(f"{key}.png", rows, captions, title.lower()))
            findings.append(finding)
        return findings

    def group_row(self, images: list[dict[str, str]]) -> tuple[str, str, str]:
        names = [image["image"] for image in images]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        classes, splits = (", ".join(dict.fromkeys(image[name] for image in images)) for name in ("class", "split"))
        return shown, classes, splits

    def find_near(self) -> Finding:
        near: NearDuplicates = find_near_duplicates(self.survey)
        split, label = self.survey.split[near.pairs], self.survey.facts["label"][near.pairs]
        entries: list[dict[str, Any]] = [
            {"images": [self.describe(row) for row in pair.tolist()], "similarity": round(float(score), 3)}
            for pair, score in zip(near.pairs[:MAX_LISTED], near.scores, strict=False)
        ]
        finding = Finding(
            "near_duplicates",
            "Almost the same picture twice",
            len(near.pairs),
            "The same picture in another size or compression, or cropped by a few pixels; or two pictures of the same "
            "scene. Across splits they flatter the results as exact duplicates do. In small gray images, different "
            "objects can look the same too: judge by the picture.",
            "Keep all pictures of one object or scene in one split (the column split of a CSV file does that), and "
            "remove copies.",
            facts={
                "pairs across splits": int((split[:, 0] != split[:, 1]).sum()),
                "pairs with different labels": int((label[:, 0] != label[:, 1]).sum()),
                "candidates by perceptual hash": near.num_candidates,
                "candidates compared by pixels": near.num_checked,
            },
            header=("images", "classes", "splits", "similarity"),
            rows=[(*self.group_row(entry["images"]), str(entry["similarity"])) for entry in entries[:MAX_SHOWN]],
            entries=entries,
        )
        if len(near.pairs):
            rows = near.pairs[: MAX_PICTURES // 2].ravel().tolist()
            captions = [self.caption(row) for row in rows]
            finding.pictures.append(self.add_grid("near_duplicates.png", rows, captions, "almost the same pictures"))
        return finding

    def find_wrong_labels(self, predictions: Predictions) -> Finding:
        labels = self.survey.facts["label"][predictions.rows]
        positions, suggested, margins = find_label_errors(predictions.probabilities, labels)
        rows = predictions.rows[positions]
        probability = predictions.probabilities[positions, suggested]
        entries = [
            self.describe(row) | {"suggested": self.classes[new], "probability": round(float(p), 3), "margin": float(m)}
            for row, new, p, m in list(zip(rows.tolist(), suggested, probability, margins, strict=True))[:MAX_LISTED]
        ]
        finding = Finding(
            "label_errors",
            "Labels that are likely wrong",
            len(rows),
            "A trained network is confident of another class for these images, which it was not trained on. Many are "
            "wrong labels; others are hard or unusual images, whose labels are right.",
            "Look at them from the top, and correct those that are wrong. Stop where most labels are right.",
            facts={"images checked": len(predictions.rows), "runs": ", ".join(predictions.runs)},
            header=("image", "label", "split", "suggested", "probability"),
            rows=[
                (entry["image"], entry["class"], entry["split"], entry["suggested"], f"{entry['probability']:.0%}")
                for entry in entries[:MAX_SHOWN]
            ],
            entries=entries,
        )
        if len(rows):
            shown = rows[:MAX_PICTURES].tolist()
            captions = [f"label {entry['class']}\nrather {entry['suggested']}?" for entry in entries[:MAX_PICTURES]]
            finding.pictures.append(self.add_grid("label_errors.png", shown, captions, "labels that are likely wrong"))
        return finding

    def find_imbalance(self) -> Finding:
        totals = self.counts.sum(axis=1)
        present = np.flatnonzero(totals)
        smallest, largest = totals[present].min(), totals[present].max()
        small = [
            index
            for index in present[np.argsort(totals[present], kind="stable")]
            if totals[index] * UNBALANCED < largest
        ]
        return Finding(
            "unbalanced_classes",
            f"Classes with less than 1/{UNBALANCED} of the largest class's images",
            len(small),
            "Training sees frequent classes more often, and accuracy hides errors in rare ones.",
            "Look at the results per class, which `python src/eval.py` prints, and add images of rare classes.",
            facts={"smallest class": int(smallest), "largest class": int(largest)},
            header=("class", "images"),
            rows=[(self.classes[index], f"{totals[index]:,}") for index in small[:MAX_SHOWN]],
            entries=[{"class": self.classes[index], "images": int(totals[index])} for index in small[:MAX_LISTED]],
        )

    def find_extreme_sizes(self) -> Finding:
        facts = self.survey.facts
        rows = np.flatnonzero(facts["width"] > 0)
        sides = np.stack([facts["width"][rows], facts["height"][rows]]).astype(float)
        shorter, ratio = sides.min(axis=0), sides.max(axis=0) / sides.min(axis=0).clip(min=1)
        middle, usual = (float(np.median(values)) if len(rows) else 0.0 for values in (shorter, ratio))
        is_tiny = shorter * 4 < middle
        is_extreme = (ratio >= EXTREME_RATIO) & (ratio >= 2 * usual)
        found = rows[is_tiny | is_extreme]
        entries = [
            self.describe(row) | {"size": f"{facts['width'][row]} x {facts['height'][row]}"}
            for row in found[:MAX_LISTED].tolist()
        ]
        return Finding(
            "extreme_sizes",
            "Tiny or very long pictures",
            len(found),
            "Icons and thumbnails have less than a quarter of the usual side, and become blurred when they are "
            "enlarged. Of a very long picture, the center crop keeps a small share.",
            "Remove what does not belong to the data; `data.resize=pad` keeps all of a long picture.",
            facts={
                "tiny": int(is_tiny.sum()),
                f"longer side over {EXTREME_RATIO} times the shorter": int(is_extreme.sum()),
            },
            header=("image", "class", "size"),
            rows=[(entry["image"], entry["class"], entry["size"]) for entry in entries[:MAX_SHOWN]],
            entries=entries,
        )

    def find_flagged(self) -> list[Finding]:
        kinds = [
            (
                ONE_COLOR, "one_color", "Pictures of one color", "They show nothing: failed exports, empty scans.",
                "Remove them, or make them again.",
            ),
            (
                WRONG_SUFFIX, "wrong_suffix", "Files whose name ends in another format",
                "Pillow reads them by their content; other programs may not.", "Rename them.",
            ),
            (
                ANIMATED, "animated", "Animations and files of several pages",
                "Only the first picture of each is used.", "Save the pictures that you want as files of their own.",
            ),
            (
                TURNED, "turned", "Pictures turned by EXIF", "The camera saved them on their side, with a note. This "
                "project turns them upright; programs that ignore the note do not.",
                "Nothing, unless other programs read the same files.",
            ),
        ]  # fmt: skip
        findings = []
        for flag, key, title, why, remedy in kinds:
            rows = np.flatnonzero(self.survey.facts["flags"] & flag)
            entries = [self.describe(row) for row in rows[:MAX_LISTED].tolist()]
            table = [(entry["image"], entry["class"]) for entry in entries[:MAX_SHOWN]]
            findings.append(
                Finding(key, title, len(rows), why, remedy, header=("image", "class"), rows=[*table], entries=entries)
            )
        return findings

    # Pictures

    def plot_class_counts(self) -> None:
        """Plot the images per class and split; of many classes, the largest and the smallest."""
        totals = self.counts.sum(axis=1)
        order = np.argsort(-totals, kind="stable")
        title = "images per class"
        if len(order) > MAX_BARS:
            half = MAX_BARS // 2
            title = f"images per class: the {half} largest and the {half} smallest of {len(order):,}"
            order = np.concatenate([order[:half], order[-half:]])
        labels, families = fit_families([to_displayable(self.classes[index], plots.MAX_NAME) for index in order])
        figure = Figure(figsize=(8, 1.2 + 0.26 * len(order)), layout="constrained", dpi=100)
        axes = figure.add_subplot(title=title, xlabel="images")
        left = np.zeros(len(order), np.int64)
        for number, (name, color) in enumerate(zip(SPLITS, SPLIT_COLORS, strict=True)):
            width = self.counts[order, number]
            if width.any():
                axes.barh(range(len(order)), width, left=left, color=color, label=name)
                left += width
        axes.set_yticks(range(len(order)), labels, fontsize=8, fontfamily=families, parse_math=False)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        self.pictures["class_counts.png"] = plots.as_image(figure)

    def plot_contact_sheets(self) -> None:
        """Plot evenly spaced images of each class; of many classes, the first MAX_SHEETS."""
        used = np.flatnonzero(self.survey.split != SPLITS.index("unused"))
        labels = self.survey.facts["label"][used]
        chosen: dict[int, list[int]] = {}
        for index in range(min(len(self.classes), MAX_SHEETS)):
            rows = used[labels == index]
            chosen[index] = rows[evenly_spaced_indices(len(rows), SHEET_IMAGES)].tolist() if len(rows) else []
        previews = self.survey.previews([row for rows in chosen.values() for row in rows])
        for index, rows in chosen.items():
            if shown := [row for row in rows if row in previews]:
                captions = [Path(self.describe(row)["image"]).name for row in shown]
                title = f"{self.classes[index]}: {len(shown)} of {self.counts[index].sum():,} images"
                images = [previews[row] for row in shown]
                self.pictures[f"class_{index:03}.png"] = plots.plot_image_grid(images, captions, title)
