"""Where the images come from: a data set's training, validation and test images, as it divides them or undivided."""

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

from pytorch_intro.dataset import Images, Part
from pytorch_intro.errors import UserError, one_line
from pytorch_intro.image_files import ImageFiles
from pytorch_intro.inspection import without_addresses
from pytorch_intro.paths import checked_root
from pytorch_intro.reading import Reader

# What torchvision's data sets call their parts, where it isn't train=True and train=False; the first that there is.
NAMES = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid"), "test": ("test",)}


class Source:
    """Opens a data set by its constructor and reads its parts, each when it is asked for.

    Args:
        make: The data set's class, with the options that are its own. It is asked for its parts by train=True and
            False, or by split="train" and so on, if it takes either; else it is read as a whole.
        options: root, download and labels: passed to it if it takes them.
        reader: Makes images of one shape of what it gives.
    """

    def __init__(self, make: Callable[..., Any], options: dict[str, Any], reader: Reader) -> None:
        self.make = make
        given = set(make.keywords) if isinstance(make, partial) else set()
        self.function = make.func if isinstance(make, partial) else make
        self.name = getattr(self.function, "__name__", str(self.function))
        takes = parameters(self.function) - given
        self.switch = next((switch for switch in ("train", "split") if switch in takes), None)
        self.options = {name: value for name, value in options.items() if name in takes}
        self.reader = reader
        self.whole: tuple[Images, Tensor, list[str]] | None = None
        if options.get("labels") and "labels" not in takes | given:
            raise UserError(f"data.labels={options['labels']}: {self.name} takes no file of labels; data=csv does")
        if "root" in self.options:
            if self.options["root"] is None:
                raise UserError(f"data.root: {self.name} has to be told where the images lie; data.root=DIR")
            self.options["root"] = str(checked_root(self.options["root"]))

    def part(self, name: str) -> Part | None:
        """The part for train, val or test; None if the data set does not have it by itself."""
        if self.switch is None:
            return self.part_of_whole(name)
        value = self.switch_value(name)
        if value is None:
            return None
        switch: dict[str, Any] = {self.switch: value}
        return Part(*self.reader.read(self.open(**switch), self.made_by(switch)))

    def made_by(self, switch: dict[str, Any]) -> str:
        """The class and all arguments, but for how it comes here."""
        keywords = self.make.keywords if isinstance(self.make, partial) else {}
        arguments = {**keywords, **self.options, **switch, "download": None}
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        return without_addresses(f"{name} {sorted(arguments.items())}")

    def has(self, name: str) -> bool:
        """Whether the data set has this part by itself."""
        return self.part(name) is not None if self.switch is None else self.switch_value(name) is not None

    def part_of_whole(self, name: str) -> Part | None:
        """Of a data set that is opened as a whole: the rows that it says are for this, all if it says nothing."""
        if self.whole is None:
            dataset = self.open()
            self.whole = (*self.reader.read(dataset, self.made_by({})), splits_of(dataset))
        images, sound, splits = self.whole
        wanted = (name, "") if name == "train" else (name,)
        is_wanted = torch.tensor([split in wanted for split in splits])
        rows = sound[is_wanted[sound]]
        return Part(images, rows) if len(rows) else None

    def switch_value(self, name: str) -> bool | str | None:
        """What to ask for: of those that have a val but no test, val is the test."""
        if self.switch == "train":
            return {"train": True, "val": None, "test": False}[name]
        there = self.split_names()
        if "test" not in there:
            return {"train": self.found("train", there), "val": None, "test": self.found("val", there)}[name]
        return self.found(name, there)

    def found(self, name: str, there: set[str]) -> str | None:
        return next((candidate for candidate in NAMES[name] if candidate in there), None)

    def split_names(self) -> set[str]:
        """The splits that the parameter split is said to take, or that torchvision names when it refuses another.

        Train and test where neither tells.
        """
        named: list[str] = []
        if literal := literals(self.function, "split"):
            named = literal
        elif is_torchvision(self.function):
            try:
                self.make(**{name: value for name, value in self.options.items() if name != "download"}, split="")
            except ValueError as error:
                named = re.findall(r"'([^']+)'", str(error).partition("Valid values are")[2])
            except Exception:  # of any kind, which opening it will tell
                pass
        return set(named) or {"train", "test"}

    def open(self, **switch: Any) -> Any:
        """The data set; one of torchvision's that is not there yet is fetched, if that is allowed.

        Raises:
            UserError: if it cannot be opened or had.
        """
        if not is_torchvision(self.function) or "download" not in self.options:
            return self.opened(self.options | switch)
        there = self.options | switch | {"download": False}
        try:
            return self.opened(there)
        except UserError as error:
            if not isinstance(error.__cause__, (RuntimeError, FileNotFoundError)):
                raise
            if not self.options["download"]:
                raise UserError(f"{error}; fetching it is switched off by data.download") from error
        self.fetch(switch)
        return self.opened(there)

    def opened(self, options: dict[str, Any]) -> Any:
        try:
            return self.make(**options)
        except UserError:
            raise
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            raise UserError(
                f"data.dataset: {self.name} takes {package}, which is not installed; pip install {package}"
            ) from error
        except Exception as error:  # of any kind: it may be the user's own class
            kind = type(error).__name__
            raise UserError(f"data.dataset: {self.name} cannot be opened: {kind}: {one_line(error)}") from error

    def fetch(self, switch: dict[str, Any]) -> None:
        """Download beside the data, and move what is complete and right to its place.

        torchvision unpacks without checking what is there already, so that a half file would be read for ever.
        """
        root = Path(self.options["root"])
        try:
            with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
                with suppress(ModuleNotFoundError):  # which opening the files, once they are there, tells
                    self.make(**self.options | switch | {"download": True, "root": folder})
                for file in [path for path in Path(folder).rglob("*") if path.is_file()]:
                    place = root / file.relative_to(folder)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    file.replace(place)
        except (OSError, RuntimeError, EOFError, ValueError, BadZipFile, TarError, zlib.error) as error:
            raise UserError(
                f"{self.name} is not in data.root={root} and cannot be fetched ({one_line(error)}); try again, or put "
                "its files there by hand, as torchvision lays them"
            ) from error


def splits_of(dataset: Any) -> list[str]:
    """The split of each image: of one's own files, as they say; of what is undivided, ""."""
    return dataset.splits if isinstance(dataset, ImageFiles) else [""] * len(dataset)


def is_torchvision(function: Any) -> bool:
    return inspect.isclass(function) and issubclass(function, VisionDataset)


def literals(function: Any, parameter: str) -> list[str]:
    """The strings of a parameter's type, if that is a Literal."""
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError, AttributeError):  # a name that only type checkers import, or no function at all
        return []
    hint = hints.get(parameter)
    return [str(name) for name in get_args(hint)] if get_origin(hint) is Literal else []


def parameters(function: Any) -> set[str]:
    """The names of all parameters, those included that a class passes on to its base by **kwargs."""
    names: set[str] = set()
    for layer in inspect.getmro(function) if inspect.isclass(function) else [function]:
        signature = inspect.signature(layer.__init__ if inspect.isclass(layer) else layer)
        names |= set(signature.parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            break
    return names - {"self"}
