"""Construct a dataset of the user or of torchvision, and download a missing one of torchvision."""

import inspect
import re
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tarfile import TarError
from typing import Any
from zipfile import BadZipFile

import torchvision
from torchvision.datasets import VisionDataset

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.instantiate import describe, place_in_code
from pytorch_intro.config.paths import PROJECT

# How files of torchvision's datasets are named if not like their class; SVHN, LFW, VOC, SUN397, CLEVR.
FURTHER_NAMES = ("train32x32", "test32x32", "extra32x32", "lfw", "voc", "sun", "clevr")


def open_dataset(make: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
    """Construct a dataset by its class or a partial; download a missing one of torchvision if options allow it.

    Raises:
        UserError: if it cannot be constructed or downloaded.
    """
    if not is_torchvision(make) or "download" not in options:
        return construct(make, name, options)
    local = options | {"download": False}
    try:
        return construct(make, name, local)
    except UserError as error:
        if not isinstance(error.__cause__, (RuntimeError, FileNotFoundError)):
            raise
        check_download_root(make, name, Path(options["root"]))
        if not options["download"]:
            problem = f"{name} cannot be opened: {first_lines(error.__cause__)}"
            raise UserError(f"data.download=false: {problem}; use data.download=true") from error
    download(make, name, options)
    return construct(make, name, local)


def is_torchvision(make: Any) -> bool:
    """Return whether this is a dataset class of torchvision, or a partial of one."""
    function = getattr(make, "func", make)
    return inspect.isclass(function) and issubclass(function, VisionDataset)


def construct(make: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
    try:
        return make(**options)
    except (UserError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise UserError(f"data.dataset: {name} requires {package}; run pip install {package}") from error
    except Exception as error:  # any kind: it may be the user's class
        place = place_in_code(error)
        raise UserError(
            f"data.dataset: {name} cannot be opened: {describe(error)}{f' in {place}' if place else ''}; check its "
            "arguments (data.dataset.*) and its files (data.root)"
        ) from error


def check_download_root(make: Callable[..., Any], name: str, root: Path) -> None:
    """Raise a UserError if the root holds other files than datasets of torchvision: a download would mix with them.

    Most likely they are the user's own images, and data=folder is missing. The project's data/ may hold anything.
    """
    module = getattr(make, "func", make).__module__
    if root.resolve() == (PROJECT / "data").resolve() or not module.startswith(("torchvision.", "pytorch_intro.")):
        return
    known = (*map(normalize, torchvision.datasets.__all__), *FURTHER_NAMES)
    others = [path.name for path in sorted(root.iterdir()) if not is_dataset_file(path.name, known)]
    if others:
        more = ", …" if len(others) > 3 else ""
        raise UserError(
            f"data.root={root}: contains {', '.join(others[:3])}{more}, so {name} is not downloaded into it; for your "
            f"own images, in one subfolder per class, add data=folder; for {name}, use another folder"
        )


def is_dataset_file(name: str, known: tuple[str, ...]) -> bool:
    """Return whether a file or folder is hidden, or has the name of a dataset, as cifar-10-batches-py has."""
    return name.startswith(".") or normalize(name).startswith(known)


def normalize(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def download(make: Callable[..., Any], name: str, options: dict[str, Any]) -> None:
    """Download into a temporary folder, then move the complete files into the root.

    torchvision extracts without checking the files that exist, so it would read a partial file forever.
    """
    root = Path(options["root"])
    try:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
            try:
                with suppress(ModuleNotFoundError):  # reported when the downloaded files are opened
                    make(**options | {"download": True, "root": folder})
            except (OSError, RuntimeError, EOFError, ValueError, BadZipFile, TarError, zlib.error) as error:
                raise UserError(
                    f"data.root={root}: {name} is missing and cannot be downloaded ({first_lines(error)}); try again, "
                    "or put its files there by hand, in torchvision's layout"
                ) from error
            for file in [path for path in Path(folder).rglob("*") if path.is_file()]:
                place = root / file.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
    except OSError as error:
        raise UserError(f"data.root={root}: cannot be written ({error}); use another folder: data.root=DIR") from error
