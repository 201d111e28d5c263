"""A run is neither resumed nor evaluated on other images than it was trained on: its test images may be among those."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NO_PICTURES, Command, write_images

from pytorch_intro.data.changes import describe_change

SHORT = [
    "data=folder", "data.image_size=12", "data.batch_size=8", "trainer=cpu", "trainer.max_epochs=1", "model=mlp",
    "name=first", *NO_PICTURES,
]  # fmt: skip


def add_images(root: Path) -> None:
    write_images(root, *(f"hammer/new-{number}.png" for number in range(12)))


def add_a_class(root: Path) -> None:
    write_images(root, *(f"saw/{number}.png" for number in range(8)))


def rename_a_class(root: Path) -> None:
    (root / "hammer").rename(root / "axe")


def replace_images(root: Path) -> None:
    """As many as before, in each class."""
    for folder in root.iterdir():
        for file in sorted(folder.iterdir())[:4]:
            file.rename(file.with_name(f"z-{file.name}"))


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "train.log"}


CHANGES: dict[Callable[[Path], None], str] = {
    add_images: "the training images changed (20 → 29) since",
    add_a_class: "the classes changed (with saw) since",
    rename_a_class: "the classes changed (without hammer; with axe) since",
    replace_images: "the training images changed (20 now, but not the same ones) since",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_run_on_changed_images_is_refused(
    command: Command, script: Command, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """When it is extended, when it resumes, and when it is evaluated; only the log of its folder changes."""
    root, run = tmp_path / "images", tmp_path / "outputs" / "first"
    write_images(root, *(f"{name}/{number}.png" for name in ("drill", "hammer", "pliers") for number in range(8)))
    assert command(*SHORT, f"data.root={root}").code == 0
    change(root)
    before = contents(run)
    answers = [
        script("eval", f"run={run}", "trainer=cpu"),
        command(f"resume={run}", "trainer.max_epochs=2"),
    ]
    (run / "result.json").unlink()
    answers.append(command(*SHORT, f"data.root={root}"))
    for answer in answers:
        assert answer.code == 2, answer.err
        assert answer.err.startswith(f"error: data: {CHANGES[change]} ")
        assert answer.err.count("\n") == 1
        assert "use the original " in answer.err
    del before[run / "result.json"]
    assert contents(run) == before


def test_a_folder_of_images_may_be_moved(command: Command, script: Command, tmp_path: Path) -> None:
    root, moved, run = tmp_path / "images", tmp_path / "moved", tmp_path / "outputs" / "first"
    write_images(root, *(f"{name}/{number}.png" for name in ("drill", "hammer", "pliers") for number in range(8)))
    assert command(*SHORT, f"data.root={root}").code == 0
    shutil.copytree(root, moved, copy_function=shutil.copy)
    shutil.rmtree(root)
    answer = script("eval", f"run={run}", f"data.root={moved}", "trainer=cpu")
    assert answer.code == 0, answer.err


def test_a_description_of_an_older_version_is_compared_as_far_as_it_goes() -> None:
    now = {"classes": ["a", "b"], "image_shape": [1, 8, 8], "decoded_size": [8, 8], "trained_on": "1", "files": "2"}
    now |= {"num_images": 3}
    old = {name: value for name, value in now.items() if name not in ("files", "num_images")}
    assert describe_change(old, now) is None
    changed = "the training images changed (3 now, but not the same ones)"
    assert describe_change(old | {"trained_on": "0"}, now) == changed
    assert describe_change(old | {"image_shape": [1, 9, 8]}, now) == "the image shape changed (1 x 9 x 8 → 1 x 8 x 8)"
    assert describe_change(old | {"classes": ["b", "a"]}, now) == "the classes changed (their order)"
