"""Labels of images in a CSV file: path,label[,split]."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from pytorch_intro.errors import UserError

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def read_labels(file: str, root: str) -> dict[str, tuple[str, str]]:
    """Of each path below the root, with / between its parts, the class's name and the split: train, val, test or "".

    Raises:
        UserError: if the file cannot be read, a column is missing, or a line has a wrong path, label or split.
    """
    found: dict[str, tuple[str, str]] = {}
    for line, row in rows_of(file):
        where = f"data.labels={file}, line {line}"
        path = checked_path(row["path"], root, where)
        if path in found:
            raise UserError(f"{where}: {path} is there twice; leave one line out")
        found[path] = checked_label(row, where)
    if not found:
        raise UserError(f"data.labels={file}: there is no line with an image")
    if len({bool(split) for _, split in found.values()}) > 1:
        raise UserError(f"data.labels={file}: some lines have a split and some have none; give all or none")
    return found


def rows_of(file: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV file, with their numbers.

    Raises:
        UserError: if it cannot be read, or path or label is missing.
    """
    try:
        with Path(file).open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
            for column in ("path", "label"):
                if column not in columns:
                    raise UserError(
                        f"data.labels={file}: the column {column} is missing; the first line has to name the columns, "
                        f"with commas between them, and is {', '.join(columns)!r}"
                    )
            for row in reader:
                if None in row:
                    raise UserError(
                        f"data.labels={file}, line {reader.line_num}: more columns than in the first line; put what "
                        'has a comma in it between "'
                    )
                yield reader.line_num, {name: (row.get(name) or "").strip() for name in ("path", "label", "split")}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.labels={file}: it cannot be read as CSV ({error})") from error


def checked_path(path: str, root: str, where: str) -> str:
    """The path with / between its parts, and without . and .. in it.

    Raises:
        UserError: if it leads out of the root, or to no file.
    """
    folder = os.path.abspath(root)  # noqa: PTH100, which leaves links alone
    plain = os.path.abspath(Path(root, path))  # noqa: PTH100
    if not path or not Path(plain).is_relative_to(folder):
        raise UserError(f"{where}: the path {path!r} is not below data.root={root}")
    if not Path(plain).is_file():
        hint = "; write / between folders" if "\\" in path else ""
        raise UserError(f"{where}: there is no file {plain}{hint}")
    return Path(plain).relative_to(folder).as_posix()


def checked_label(row: dict[str, str], where: str) -> tuple[str, str]:
    if not row["label"]:
        raise UserError(f"{where}: the label of {row['path']} is empty")
    if row["split"] and row["split"].lower() not in SPLITS:
        raise UserError(f"{where}: the split {row['split']!r} is unknown; there is train, val and test")
    return row["label"], SPLITS.get(row["split"].lower(), "")
