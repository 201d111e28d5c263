"""The training, validation and test splits that a dataset comes with, each read on request."""

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.signatures import get_parameters
from pytorch_intro.data.dataset import BatchedDataset, ImageSubset
from pytorch_intro.data.ingest.data_root import checked_root
from pytorch_intro.data.ingest.image_folder import ImageFiles
from pytorch_intro.data.ingest.introspect import strip_addresses
from pytorch_intro.data.ingest.open_dataset import is_torchvision, open_dataset
from pytorch_intro.data.ingest.reader import DatasetReader

# Names of the splits in torchvision's datasets that do not use train=True and train=False; the first match counts.
SPLIT_NAMES = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid"), "test": ("test",)}


class DatasetSplits:
    """Opens a dataset by its constructor and reads its splits.

    Args:
        make: Dataset class, or a partial of it. A class with a parameter `train` is opened with train=True and False,
            one with `split` with split="train" and so on; any other is opened as a whole.
        options: Values of root, download, labels and path, passed on if the class takes them.
        reader: Reader that brings all images to one shape.
    """

    def __init__(self, make: Callable[..., Any], options: dict[str, Any], reader: DatasetReader) -> None:
        self.make = make if isinstance(make, partial) else partial(make)
        self.function = self.make.func
        self.name = getattr(self.function, "__name__", str(self.function))
        parameters = get_parameters(self.function)
        accepted = parameters - self.make.keywords.keys()
        self.split_kwarg = next((name for name in ("train", "split") if name in accepted), None)
        self.options = {name: value for name, value in options.items() if name in accepted}
        self.reader = reader
        self.whole: tuple[BatchedDataset, Tensor, list[str]] | None = None
        for option, remedy in (
            ("labels", "use data=csv"),
            ("path", "use data=huggingface, or data=folder data.root=DIR for a folder of images"),
        ):
            if options.get(option) and option not in parameters:
                raise UserError(f"data.{option}={options[option]}: not used by {self.name}; {remedy}")
        if "root" in self.options:
            if self.options["root"] is None:
                raise UserError(f"data.root: required by {self.name}; set data.root=DIR")
            self.options["root"] = str(checked_root(self.options["root"]))

    def split(self, name: str) -> ImageSubset | None:
        """Read the images of train, val or test; None if the dataset lacks this split."""
        if self.split_kwarg is None:
            return self.split_of_whole(name)
        value = self.split_value(name)
        if value is None:
            return None
        split: dict[str, Any] = {self.split_kwarg: value}
        return ImageSubset(*self.read(self.open(**split), **split))

    def has_split(self, name: str) -> bool:
        """Return whether the dataset has this split."""
        return self.split(name) is not None if self.split_kwarg is None else self.split_value(name) is not None

    def open(self, **split: Any) -> Any:
        """Construct the dataset, with the argument that selects a split; see open_dataset."""
        return open_dataset(self.make, self.name, self.options | split)

    def read(self, dataset: Any, **split: Any) -> tuple[BatchedDataset, Tensor]:
        """Return the images and the indices of the readable ones; the class and all its arguments identify them."""
        arguments = {**self.make.keywords, **self.options, **split, "download": None}
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        return self.reader.read(dataset, strip_addresses(f"{name} {sorted(arguments.items())}"))

    def split_of_whole(self, name: str) -> ImageSubset | None:
        """Return the rows labeled with this split; unlabeled rows count as train."""
        if self.whole is None:
            images, readable = self.read(dataset := self.open())
            self.whole = images, readable, dataset.splits if isinstance(dataset, ImageFiles) else [""] * len(dataset)
        images, readable, splits = self.whole
        wanted = (name, "") if name == "train" else (name,)
        is_wanted = torch.tensor([split in wanted for split in splits])
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
        names = literal_values(self.function, "split")
        if not names and is_torchvision(self.make):
            options = {name: value for name, value in self.options.items() if name != "download"}
            try:
                self.make(**options, split="")
            except ValueError as error:
                names = re.findall(r"'([^']+)'", str(error).partition("Valid values are")[2])
            except Exception:  # any other error is reported when the dataset is opened
                pass
        return set(names) or {"train", "test"}


def literal_values(function: Any, parameter: str) -> list[str]:
    """Return the values of a parameter's type if it is a Literal, else an empty list."""
    try:
        hint = get_type_hints(function.__init__ if inspect.isclass(function) else function).get(parameter)
    except (NameError, TypeError, AttributeError):  # a name imported for type checkers only, or not a function
        return []
    return [str(name) for name in get_args(hint)] if get_origin(hint) is Literal else []
