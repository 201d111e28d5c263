"""Writes the report: report.md for people, report.json for programs, and pictures."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from pytorch_intro.analysis import plots
from pytorch_intro.analysis.markdown import markdown_table
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import atomic_directory, check_replaceable_directory
from pytorch_intro.common.text import pluralize, text_table
from pytorch_intro.config.resolvers import checked_name
from pytorch_intro.data_report.findings import MAX_LISTED, MAX_SHEETS, Findings
from pytorch_intro.data_report.survey import SPLITS


class Report:
    """The report on a dataset, in three forms.

    Args:
        found: What was found.
        name: Name of the report.
        command: Command that creates it.
    """

    def __init__(self, found: Findings, name: str, command: str) -> None:
        self.found, self.name, self.command = found, name, command

    def as_json(self) -> dict[str, Any]:
        """Return the content of report.json."""
        facts = self.found.survey.facts
        is_read = facts["width"] > 0
        sizes = np.stack([facts["width"][is_read], facts["height"][is_read]], axis=1)
        unique, number = np.unique(sizes, axis=0, return_counts=True)
        common = np.argsort(-number, kind="stable")[:10]
        kinds = np.bincount(facts["kind"][is_read], minlength=len(self.found.survey.kinds))
        ratios = sizes[:, 0] / sizes[:, 1].clip(min=1)
        return {
            "name": self.name,
            "command": self.command,
            "dataset": self.found.survey.name,
            "root": self.found.survey.root,
            "images": len(facts),
            "splits": {name: int((self.found.survey.split == number).sum()) for number, name in enumerate(SPLITS)},
            "classes": {
                name: dict(zip(SPLITS, counts, strict=True))
                for name, counts in zip(self.found.classes, self.found.counts.tolist(), strict=True)
            },
            "kinds": {name: int(count) for name, count in zip(self.found.survey.kinds, kinds, strict=True)},
            "sizes": {
                "different": len(unique),
                "most_common": [
                    {"width": int(unique[index, 0]), "height": int(unique[index, 1]), "images": int(number[index])}
                    for index in common
                ],
                "width": quantiles(sizes[:, 0]),
                "height": quantiles(sizes[:, 1]),
                "aspect_ratio": quantiles(ratios),
            },
            "findings": {
                finding.key: {"count": finding.count, **finding.facts, "examples": finding.entries}
                for finding in self.found.items
            },
            "pictures": sorted(self.found.pictures),
        }

    def as_markdown(self, content: dict[str, Any]) -> str:
        """Return the content of report.md."""
        splits = ", ".join(f"{size:,} {name}" for name, size in content["splits"].items() if size and name != "unused")
        sizes = f"{pluralize(content['images'], 'image')} of {pluralize(len(self.found.classes), 'class')}"
        found = [finding for finding in self.found.items if finding.count]
        clean = [lower_first(finding.title) for finding in self.found.items if not finding.count]
        lines = [
            f"# Data report: {self.name}",
            f"{sizes} ({content['dataset']}): {splits}.",
            f"Created by `{self.command}`.",
            "## What was found",
        ]
        if found:
            rows = [
                (f"[{finding.title}](#{anchor(finding.title)})", f"{finding.count:,}", finding.remedy)
                for finding in found
            ]
            lines.append(markdown_table(("finding", "count", "what to do"), rows))
        if clean:
            lines.append(f"Nothing to report: {', '.join(clean)}.")
        if self.found.predictions is None:
            lines.append("Label errors were not looked for: that needs a trained network, `run=DIR`.")
        for finding in found:
            lines += [f"## {finding.title}", finding.why, f"**What to do:** {finding.remedy}"]
            if finding.facts:
                lines.append(
                    "\n".join(
                        f"- {name}: {value:,}" if isinstance(value, int) else f"- {name}: {value}"
                        for name, value in finding.facts.items()
                    )
                )
            lines += [f"![{finding.title}]({name})" for name in finding.pictures]
            if finding.rows:
                lines.append(markdown_table(finding.header, finding.rows))
            if len(finding.entries) > len(finding.rows):
                lines.append(f"The first {len(finding.rows)}; `report.json` lists up to {MAX_LISTED:,}.")
        lines += ["## Classes", "![images per class](class_counts.png)"]
        if len(self.found.classes) <= plots.MAX_NAMED_CLASSES:
            used = [number for number in range(len(SPLITS)) if self.found.counts[:, number].any()]
            header = ("class", *(SPLITS[number] for number in used), "all")
            rows_ = [
                (name, *(f"{counts[number]:,}" for number in used), f"{counts.sum():,}")
                for name, counts in zip(self.found.classes, self.found.counts, strict=True)
            ]
            lines.append(markdown_table(header, rows_))
        lines += ["## Sizes and formats", size_text(content["sizes"])]
        lines.append(
            markdown_table(("format", "images"), [(name, f"{count:,}") for name, count in content["kinds"].items()])
        )
        sheets = [name for name in content["pictures"] if re.fullmatch(r"class_\d+\.png", name)]
        if sheets:
            lines += ["## Contact sheets", "Look at each class once: does every picture belong to it?"]
            if len(self.found.classes) > MAX_SHEETS:
                lines.append(f"The first {MAX_SHEETS} of {len(self.found.classes):,} classes.")
            lines += [f"![{escape(self.found.classes[int(name[6:9])])}]({name})" for name in sheets]
        return "\n\n".join(lines) + "\n"

    def summary(self) -> str:
        """Return the table that is printed."""
        rows = [("images", f"{len(self.found.survey):,}", pluralize(len(self.found.classes), "class"))]
        for finding in self.found.items:
            details = ", ".join(f"{name}: {value:,}" for name, value in finding.facts.items() if isinstance(value, int))
            rows.append((lower_first(finding.title), f"{finding.count:,}", details if finding.count else ""))
        return text_table(rows)

    def save(self, folder: Path) -> None:
        """Write all files; an earlier report in the folder is replaced as a whole."""
        check_replaceable(folder)
        content = self.as_json()
        with atomic_directory(folder) as temporary:
            for name, image in self.found.pictures.items():
                image.save(temporary / name, format="PNG", optimize=True)
            (temporary / "report.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            (temporary / "report.md").write_text(self.as_markdown(content), encoding="utf-8")


def choose_name(config: DictConfig, choice: str, root: str | None, runs: Sequence[Any]) -> str:
    """Return the name of the report: as given, or that of the run, of the folder of images, or of the data choice."""
    if config.name is not None:
        return checked_name(str(config.name))
    has_folder = choice in ("folder", "csv", "custom") and root
    name = runs[0].path.name if runs else Path(root).resolve().name if has_folder and root else choice
    name = re.sub(r"[^\w.+=,-]", "_", name, flags=re.ASCII).lstrip("_.+=,-") or choice
    return checked_name(name)


def check_replaceable(folder: Path) -> None:
    """Raise a UserError if the folder cannot be written, or has anything else than an earlier report."""
    check_replaceable_directory(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        probe = folder.with_name(f".{folder.name}.probe")
        probe.mkdir(exist_ok=True)
        probe.rmdir()
        if not folder.exists():
            return
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UserError(f"outputs: {folder} cannot be written ({error.strerror}); use another outputs=DIR") from error
    known = {"report.json", "report.md"}
    if "report.json" in names:
        try:
            known |= {*json.loads((folder / "report.json").read_text(encoding="utf-8"))["pictures"]}
        except (OSError, ValueError, KeyError, TypeError):
            known = set()
    if others := sorted(names - known):
        raise UserError(
            f"name={folder.name}: {folder} has files that are not of a report ({', '.join(others[:3])}); move them, or "
            "use another name=NAME"
        )


def quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    points = np.quantile(values, [0, 0.05, 0.5, 0.95, 1])
    return {
        name: round(float(value), 3) for name, value in zip(("min", "5%", "median", "95%", "max"), points, strict=True)
    }


def size_text(sizes: dict[str, Any]) -> str:
    """Return a sentence or two about the sizes of the images."""
    if not sizes["different"]:
        return "No image could be read."
    most = sizes["most_common"][0]
    if sizes["different"] == 1:
        return f"All images have {most['width']} x {most['height']} pixels."
    rows = [
        (name.replace("_", " "), *(f"{value:g}" for value in sizes[name].values()))
        for name in ("width", "height", "aspect_ratio")
    ]
    table = markdown_table(("", "min", "5 %", "median", "95 %", "max"), rows)
    common = f"{most['width']} x {most['height']} ({most['images']:,} images)"
    return (
        f"{sizes['different']:,} different sizes, most often {common}; the aspect ratio is width / height.\n\n{table}"
    )


def anchor(title: str) -> str:
    """Return the anchor of a heading in Markdown."""
    return "".join(
        character for character in title.lower().replace(" ", "-") if character.isalnum() or character == "-"
    )


def lower_first(title: str) -> str:
    return title[0].lower() + title[1:]


def escape(text: str) -> str:
    return text.replace("[", "\\[").replace("]", "\\]")
