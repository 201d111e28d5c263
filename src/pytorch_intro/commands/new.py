"""Create a project of your own, with a network, data, a recipe and a test to change."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pytorch_intro.common.errors import UserError, exit_with_error
from pytorch_intro.common.streams import protect_streams
from pytorch_intro.config.paths import CLONE, command_line, display_path
from pytorch_intro.new_project.create import check_folder, check_name, create_project, derive_name


class Parser(argparse.ArgumentParser):
    """A parser that prints one line for a mistake."""

    def error(self, message: str) -> NoReturn:
        exit_with_error(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> None:
    protect_streams()
    parser = Parser(prog=" ".join(command_line("new")), description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of the project, new or empty")
    parser.add_argument("--data", metavar="DIR", type=Path, help="your images, one subfolder per class")
    parser.add_argument("--name", help="name of its package and choices; default: that of the folder")
    try:
        create(**vars(parser.parse_args(arguments)))
    except UserError as error:
        exit_with_error(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def create(folder: Path, data: Path | None, name: str | None) -> None:
    """Create the project and print what to do next."""
    check_folder(folder)
    if name is None:
        name = derive_name(folder)
    else:
        try:
            check_name(name)
        except UserError as error:
            raise UserError(f"--name: {error}") from error
    images = "2,000 images of Fashion-MNIST, which come with this package"
    if data is not None:
        images = describe_images(data)
        data = data.resolve()
    files = create_project(folder, name, data)
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    where = display_path(folder)
    print(f"created {where}: {len(files)} files, {lines} lines")
    if where != ".":
        print(f"  cd {shlex.quote(where)}")
    print(f"  make train    # trains src/{name}/network.py on {images}")
    print("  make test     # trains, validates and tests on one batch")
    if CLONE:
        print(f"  pip install {shlex.quote(str(CLONE))}    # the command pytorch-intro, which README.md uses")


def describe_images(data: Path) -> str:
    """Return how many images and classes a folder has; raise a UserError if it cannot be trained on."""
    from pytorch_intro.data.ingest.image_folder import ImageFolder

    if "${" in str(data.resolve()):
        raise UserError(f"--data {data}: ${{ in a path starts an interpolation in configs; rename the folder")
    try:
        images = ImageFolder(str(data))
    except UserError as error:
        raise UserError(str(error).replace("data.root=", "--data ", 1)) from error
    if len(images.classes) < 2:
        raise UserError(f"--data {data}: one class, {images.classes[0]}; add a subfolder for another one")
    return f"{len(images):,} images of {len(images.classes)} classes"
