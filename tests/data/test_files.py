"""Folders and files are there whole or not at all, and never shared."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import atomic_directory, atomic_write, write_atomically
from pytorch_intro.config.flatten import flatten
from pytorch_intro.config.resolvers import checked_name, new_run_dir
from pytorch_intro.runs.config_record import PARTS
from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.training.checkpoint import AtomicCheckpointIO, hardlink_or_copy


def test_unnamed_runs_started_in_the_same_second_have_their_own_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        folders = list(pool.map(lambda _: new_run_dir(str(tmp_path), None), range(20)))
    assert len(set(folders)) == 20
    assert all(Path(folder).is_dir() for folder in folders)


@pytest.mark.parametrize("name", ["first", "7", "a.b-c_d", "lr=0.1,seed=3", "A" * 100])
def test_run_names_may_be_any_folder_name(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "-a", ".a", "a b", "sweeps", "bench", "2026-11-23", "é"])
def test_run_names_that_are_not_folder_names_are_rejected(name: str) -> None:
    with pytest.raises(UserError, match="name="):
        checked_name(name)


def test_a_failed_write_keeps_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "result.json"
    write_atomically(file, "before")

    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, "after")
    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(1)}, file)
    assert file.read_text() == "before"


def test_two_writers_with_the_same_process_id_do_not_disturb_each_other(tmp_path: Path) -> None:
    """As in two containers that share a disk: the file is complete at any time, and that of the last one remains."""
    file = tmp_path / "hashes.npy"
    with atomic_write(file) as first:
        first.write(b"one")
        with atomic_write(file) as second:
            second.write(b"two")
        assert file.read_bytes() == b"two"
    assert file.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_replaced_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "export", Path.rename
    folder.mkdir()
    (folder / "a").write_text("before")

    def refuse_temporary(path: Path, target: Path) -> Path:
        if path.suffix == ".tmp":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_temporary)
    with pytest.raises(OSError, match="No space"), atomic_directory(folder) as temporary:
        (temporary / "a").write_text("after")
    assert (folder / "a").read_text() == "before"
    assert [*tmp_path.iterdir()] == [folder]


def test_a_checkpoint_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 3, "weights": torch.arange(4)}, file)
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["epoch"] == 3
    assert checkpoint["weights"].tolist() == [0, 1, 2, 3]
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]


def test_a_config_is_flattened_to_dotted_keys() -> None:
    config = OmegaConf.create({"a": {"b": 1, "c": [1, 2], "d": {}}, "e": None, "f": "${a.b}"})
    assert flatten(config) == {"a.b": 1, "a.c": [1, 2], "a.d": {}, "e": None, "f": "${a.b}"}


def test_a_run_folder_distinguishes_new_and_finished_runs_and_other_configs(tmp_path: Path) -> None:
    values: dict[str, object] = {"seed": 0, "overwrite": False, **{part: {} for part in PARTS}}
    config = OmegaConf.create(values)
    result = {"name": "first", "val/accuracy": 0.9, "test/accuracy": 0.8, "epochs": 3, "parameters": 7}
    run = RunFolder(tmp_path)
    assert run.recorded_result(config) is None
    run.begin(config)
    assert run.recorded_result(config) is None  # it is to be carried on
    run.finish(result)
    assert run.recorded_result(config) == result
    with pytest.raises(UserError, match="seed: 0 → 1"):
        run.recorded_result(OmegaConf.create({**values, "seed": 1}))
    assert json.loads(run.result_file.read_text()) == result


@pytest.mark.parametrize("can_link", [True, False])
def test_a_checkpoint_is_hard_linked_or_copied_to_its_second_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    """A hard link, or a copy on file systems without links; it replaces an existing file."""

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not can_link:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    best.write_bytes(b"new")
    last.write_bytes(b"old")
    hardlink_or_copy(best, last)
    assert last.read_bytes() == best.read_bytes() == b"new"
    assert best.samefile(last) == can_link
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
