"""Labels of images in a CSV file: path,label[,split]."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from pytorch_intro.common.errors import UserError

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def read_labels(file: str, root: str) -> dict[str, tuple[str, str]]:
    """Return the class name and split (train, val, test or "") of each path relative to the root, with / as separator.

    Raises:
        UserError: if the file cannot be read, a column is missing, or a line has a wrong path, label or split.
    """
    labels: dict[str, tuple[str, str]] = {}
    for line, row in read_rows(file):
        where = f"data.labels={file}, line {line}"
        if not row["path"]:
            raise UserError(f"{where}: the path is empty; fill it in, or remove the line")
        path = resolve_path(row["path"], root, where)
        if path in labels:
            raise UserError(f"{where}: {path} is listed twice; remove one of the lines")
        if not row["label"]:
            raise UserError(f"{where}: the label of {row['path']} is empty; fill it in, or remove the line")
        if row["split"] and row["split"].lower() not in SPLITS:
            raise UserError(f"{where}: the split {row['split']!r} is unknown; use train, val or test")
        labels[path] = row["label"], SPLITS.get(row["split"].lower(), "")
    if not labels:
        raise UserError(f"data.labels={file}: lists no images; add lines")
    if len({bool(split) for _, split in labels.values()}) > 1:
        raise UserError(f"data.labels={file}: some lines lack a split; give every line a split, or none")
    return labels


def read_rows(file: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the columns path, label and split of each line; UserError if it is not such a file.

    Lines without any value, as spreadsheets append them, are skipped.
    """
    try:
        with Path(file).open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True, strict=True)
            reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
            for column in ("path", "label"):
                if (count := columns.count(column)) != 1:
                    problem = "occurs twice" if count else "is missing"
                    raise UserError(
                        f"data.labels={file}: the column {column} {problem} in the first line, {', '.join(columns)!r}; "
                        "name the columns path, label and maybe split, in lower case and separated by commas"
                    )
            for row in reader:
                if not any("".join(value or ()).strip() for value in row.values()):
                    continue
                if None in row:
                    raise UserError(
                        f"data.labels={file}, line {reader.line_num}: more values than columns in the first line; "
                        'quote values that contain a comma, as in "a, b"'
                    )
                yield reader.line_num, {name: (row.get(name) or "").strip() for name in ("path", "label", "split")}
    except OSError as error:
        raise UserError(f"data.labels={file}: {error.strerror}; give a CSV file: data.labels=FILE") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.labels={file}: not a CSV file ({error}); save it as CSV in UTF-8") from error


def resolve_path(path: str, root: str, where: str) -> str:
    """Return the path relative to the root, normalized, with / as separator; UserError unless it is a file there."""
    folder = os.path.abspath(root)  # noqa: PTH100, which resolves links
    absolute = os.path.abspath(os.path.join(root, path))  # noqa: PTH100, PTH118
    if not Path(absolute).is_relative_to(folder):
        raise UserError(f"{where}: the path {path!r} is outside data.root={root}; fix it, or change data.root")
    if not os.path.isfile(absolute):  # noqa: PTH113, which raises for a null byte
        hint = "use / as the path separator" if "\\" in path else "fix the path, or remove the line"
        raise UserError(f"{where}: {absolute} is not a file; {hint}")
    return Path(absolute).relative_to(folder).as_posix()
