"""A dataset's constructor, and the training, validation and test splits that it comes with."""

import inspect
import re
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tarfile import TarError
from typing import Any, Literal, get_args, get_origin, get_type_hints
from zipfile import BadZipFile

import torch
from torch import Tensor
from torchvision.datasets import VisionDataset

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.paths import checked_root
from pytorch_intro.data.dataset import BatchedDataset, ImageSubset
from pytorch_intro.data.ingest.image_folder import ImageFiles
from pytorch_intro.data.ingest.introspect import strip_addresses
from pytorch_intro.data.ingest.reader import DatasetReader

# Names of the splits in torchvision's datasets that do not use train=True and train=False; the first match counts.
SPLIT_NAMES = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid"), "test": ("test",)}


class DatasetSplits:
    """Opens a dataset by its constructor and reads its splits, each on request.

    Args:
        make: Dataset class, or a partial of it. A class with a parameter `train` is opened with train=True and False,
            one with `split` with split="train" and so on; any other is opened as a whole.
        options: Values of root, download and labels, passed on if the class takes them.
        reader: Reader that brings all images to one shape.
    """

    def __init__(self, make: Callable[..., Any], options: dict[str, Any], reader: DatasetReader) -> None:
        self.make = make
        given = set(make.keywords) if isinstance(make, partial) else set()
        self.function = make.func if isinstance(make, partial) else make
        self.name = getattr(self.function, "__name__", str(self.function))
        accepted = parameters(self.function) - given
        self.split_kwarg = next((name for name in ("train", "split") if name in accepted), None)
        self.options = {name: value for name, value in options.items() if name in accepted}
        self.reader = reader
        self.whole: tuple[BatchedDataset, Tensor, list[str]] | None = None
        if options.get("labels") and "labels" not in accepted | given:
            raise UserError(f"data.labels={options['labels']}: {self.name} takes no file of labels; use data=csv")
        if "root" in self.options:
            if self.options["root"] is None:
                raise UserError(f"data.root is required by {self.name}: data.root=DIR")
            self.options["root"] = str(checked_root(self.options["root"]))

    def split(self, name: str) -> ImageSubset | None:
        """Read the images of train, val or test; None if the dataset lacks this split."""
        if self.split_kwarg is None:
            return self.split_of_whole(name)
        value = self.split_value(name)
        if value is None:
            return None
        kwargs: dict[str, Any] = {self.split_kwarg: value}
        return ImageSubset(*self.reader.read(self.open(**kwargs), self.cache_key(kwargs)))

    def has_split(self, name: str) -> bool:
        """Return whether the dataset has this split."""
        return self.split(name) is not None if self.split_kwarg is None else self.split_value(name) is not None

    def cache_key(self, kwargs: dict[str, Any]) -> str:
        """Return the class and all arguments that determine its images."""
        keywords = self.make.keywords if isinstance(self.make, partial) else {}
        arguments = {**keywords, **self.options, **kwargs, "download": None}
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        return strip_addresses(f"{name} {sorted(arguments.items())}")

    def split_of_whole(self, name: str) -> ImageSubset | None:
        """Return the rows labeled with this split; unlabeled rows count as train."""
        if self.whole is None:
            dataset = self.open()
            self.whole = (*self.reader.read(dataset, self.cache_key({})), split_labels(dataset))
        images, readable, labels = self.whole
        wanted = (name, "") if name == "train" else (name,)
        is_wanted = torch.tensor([label in wanted for label in labels])
        rows = readable[is_wanted[readable]]
        return ImageSubset(images, rows) if len(rows) else None

    def split_value(self, name: str) -> bool | str | None:
        """Return the argument that selects a split; a dataset with val but no test uses val as its test."""
        if self.split_kwarg == "train":
            return {"train": True, "val": None, "test": False}[name]
        available = self.available_splits()
        if "test" not in available:
            name = {"train": "train", "val": "", "test": "val"}[name]
        return next((candidate for candidate in SPLIT_NAMES.get(name, ()) if candidate in available), None)

    def available_splits(self) -> set[str]:
        """Return the values of the parameter split: from its Literal type, or torchvision's error for a wrong one.

        Train and test if neither names them.
        """
        names: list[str] = []
        if literal := literal_values(self.function, "split"):
            names = literal
        elif is_torchvision(self.function):
            try:
                self.make(**{name: value for name, value in self.options.items() if name != "download"}, split="")
            except ValueError as error:
                names = re.findall(r"'([^']+)'", str(error).partition("Valid values are")[2])
            except Exception:  # any other error is reported when the dataset is opened
                pass
        return set(names) or {"train", "test"}

    def open(self, **kwargs: Any) -> Any:
        """Construct the dataset; download a missing one of torchvision, if data.download allows it.

        Raises:
            UserError: if it cannot be constructed or downloaded.
        """
        if not is_torchvision(self.function) or "download" not in self.options:
            return self._construct(self.options | kwargs)
        local = self.options | kwargs | {"download": False}
        try:
            return self._construct(local)
        except UserError as error:
            if not isinstance(error.__cause__, (RuntimeError, FileNotFoundError)):
                raise
            if not self.options["download"]:
                raise UserError(f"{error}; data.download=false forbids downloading it: data.download=true") from error
        self.download(kwargs)
        return self._construct(local)

    def _construct(self, options: dict[str, Any]) -> Any:
        try:
            return self.make(**options)
        except UserError:
            raise
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            raise UserError(
                f"data.dataset: {self.name} needs {package}, which is not installed; pip install {package}"
            ) from error
        except Exception as error:  # any kind: it may be the user's class
            kind = type(error).__name__
            raise UserError(f"data.dataset: {self.name} cannot be opened: {kind}: {first_lines(error)}") from error

    def download(self, kwargs: dict[str, Any]) -> None:
        """Download into a temporary folder, then move the complete files into the root.

        torchvision extracts without checking the files that exist, so it would read a partial file forever.
        """
        root = Path(self.options["root"])
        try:
            temporary = tempfile.TemporaryDirectory(prefix=".download-", dir=root)
        except OSError as error:
            raise not_writable(root, error) from error
        with temporary as folder:
            try:
                with suppress(ModuleNotFoundError):  # reported when the downloaded files are opened
                    self.make(**self.options | kwargs | {"download": True, "root": folder})
            except (OSError, RuntimeError, EOFError, ValueError, BadZipFile, TarError, zlib.error) as error:
                raise UserError(
                    f"{self.name} is not in data.root={root} and cannot be downloaded ({first_lines(error)}); try "
                    "again, or put its files there by hand, in torchvision's layout"
                ) from error
            try:
                for file in [path for path in Path(folder).rglob("*") if path.is_file()]:
                    place = root / file.relative_to(folder)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    file.replace(place)
            except OSError as error:
                raise not_writable(root, error) from error


def not_writable(root: Path, error: OSError) -> UserError:
    return UserError(f"data.root={root}: cannot be written ({error}); use another folder: data.root=DIR")


def split_labels(dataset: Any) -> list[str]:
    """Return each image's split: as given for image files, else ""."""
    return dataset.splits if isinstance(dataset, ImageFiles) else [""] * len(dataset)


def is_torchvision(function: Any) -> bool:
    return inspect.isclass(function) and issubclass(function, VisionDataset)


def literal_values(function: Any, parameter: str) -> list[str]:
    """Return the values of a parameter's type if it is a Literal, else an empty list."""
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError, AttributeError):  # a name imported for type checkers only, or not a function
        return []
    hint = hints.get(parameter)
    return [str(name) for name in get_args(hint)] if get_origin(hint) is Literal else []


def parameters(function: Any) -> set[str]:
    """Return the names of all parameters, including those passed to a base class as **kwargs."""
    names: set[str] = set()
    for layer in inspect.getmro(function) if inspect.isclass(function) else [function]:
        signature = inspect.signature(layer.__init__ if inspect.isclass(layer) else layer)
        names |= set(signature.parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            break
    return names - {"self"}
