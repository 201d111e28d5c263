"""Images are decoded once: interrupted builds resume, partial caches are not read, changed files are noticed."""

import errno
import os
import pickle
import shutil
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FORKS, write_images
from filelock import FileLock

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import host_memory_limit
from pytorch_intro.data.ingest import cache, cache_writer
from pytorch_intro.data.ingest.cache import MemmapImageDataset
from pytorch_intro.data.ingest.decoder import Decoder
from pytorch_intro.data.ingest.image_folder import ImageFolder
from pytorch_intro.data.ingest.reader import DatasetReader
from pytorch_intro.data.ingest.uncached import UncachedDataset

FILES = {"images.npy", "labels.npy", "hashes.npy", "broken.json", "decoder.json"}


def reader(**options: Any) -> DatasetReader:
    values: dict[str, Any] = {"decode_size": None, "resize": "crop", "cache_dir": None, "in_memory": None}
    return DatasetReader(**values | {"skip_broken": False, "num_workers": 0} | options)


def read(root: Path, **options: Any) -> tuple[Any, list[int]]:
    images, rows = reader(**options).read(ImageFolder(str(root)))
    return images, rows.tolist()


def cache_of(root: Path) -> Path:
    """Return the only cache of a folder of images."""
    (found,) = [path for path in (root / ".cache").iterdir() if path.is_dir()]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with six gray images each."""
    root = tmp_path / "images"
    write_images(root, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(6)))
    return root


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list whose only element counts the decoded images."""
    count = [0]
    original = Decoder.__call__

    def counted(self: Decoder, image: Any) -> np.ndarray:
        count[0] += 1
        return original(self, image)

    monkeypatch.setattr(Decoder, "__call__", counted)
    return count


def test_images_are_decoded_once(folder: Path, decoded: list[int]) -> None:
    """The second start reads .npy files, which contain the pixels of the image files."""
    first, rows = read(folder)
    second, _ = read(folder)
    assert decoded == [12]
    assert rows == list(range(12))
    assert torch.equal(first.images, second.images)
    assert [int(image[0, 0, 0]) for image, _ in second] == [37 * number % 256 for number in range(12)]
    assert second.targets.tolist() == [0] * 6 + [1] * 6
    assert {path.name for path in cache_of(folder).iterdir()} == FILES
    np.load(cache_of(folder) / "images.npy", allow_pickle=False)


def test_caches_that_were_not_used_for_a_month_are_removed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of other settings, or interrupted; nothing that has other files or another name, and none that is in use."""
    caplog.set_level("INFO")
    read(folder, decode_size=[6, 8])
    used = cache_of(folder)
    names = ["0" * 16 + "-" + "1" * 16, "2" * 16 + "-" + "3" * 16 + ".partial"]
    kept = ["4" * 16 + "-" + "5" * 16, "holiday", "6" * 16 + "-" + "7" * 16]
    for name in [*names, *kept]:
        shutil.copytree(used, used.with_name(name))
    (used.with_name(kept[0]) / "mine.txt").touch()
    for name in [*names, *kept[:2]]:
        os.utime(used.with_name(name), (0, 0))
    read(folder, decode_size=[4, 4])
    left = {path.name for path in used.parent.iterdir() if path.is_dir()}
    assert {used.name, *kept} < left
    assert not left & {*names}
    assert f"removed the cache {used.with_name(names[0])} (0.0 MB), not used for 30 days" in caplog.text


def test_caches_of_a_dataset_are_limited_to_three_times_the_largest(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The least recently used ones are removed, and the log names them; those of other images stay."""
    caplog.set_level("INFO")
    write_images(tmp_path / "others", "cat/0.png", "dog/0.png")
    shared = str(tmp_path / "cache")
    read(tmp_path / "others", cache_dir=shared)
    names = []
    for size in (8, 9, 10, 11, 12):
        before = set((tmp_path / "cache").iterdir())
        read(folder, cache_dir=shared, decode_size=[32, size])
        names += [path for path in set((tmp_path / "cache").iterdir()) - before if path.is_dir()]
        os.utime(names[-1], (0, time.time() - 3600 + size))
    kept = [path for path in names if path.exists()]
    assert kept == names[-3:]
    assert len(list((tmp_path / "cache").glob("*/images.npy"))) == 3 + 1
    assert f"removed the cache {names[0]} (0.0 MB), all caches of these images take at most 3 times" in caplog.text


def use_cache(folder: Path, started: Path, stop: Path) -> None:
    """Read the images of a folder, and use them until a file exists."""
    images, _ = read(folder, decode_size=[32, 8], in_memory=False)
    started.touch()
    while not stop.exists():
        time.sleep(0.01)
    assert len(images) == 12


def test_a_cache_that_a_process_uses_is_not_removed(folder: Path, tmp_path: Path) -> None:
    """Nor is it for its age. Once the process has ended, killed or not, it is."""
    process = FORKS.Process(target=use_cache, args=(folder, tmp_path / "started", tmp_path / "stop"))
    process.start()
    wait_for((tmp_path / "started").exists)
    used = cache_of(folder)
    os.utime(used, (0, 0))
    for size in (9, 10, 11, 12):
        read(folder, decode_size=[32, size])
    assert used.exists()
    process.kill()
    process.join()
    read(folder, decode_size=[32, 13])
    assert not used.exists()


def test_changed_file_or_another_size_is_decoded_again(folder: Path, decoded: list[int]) -> None:
    read(folder)
    write_images(folder, "zebra/1.png", "cat/0.png", mode="L")
    changed, _ = read(folder)
    assert decoded == [12 + 13]
    assert int(changed[0][0][0, 0, 0]) == 37
    assert read(folder, decode_size=[6, 8])[0].image_shape == (1, 6, 8)
    assert decoded == [12 + 13 + 13]
    assert read(folder)[0].image_shape == (1, 12, 12)
    assert decoded == [12 + 13 + 13]


def test_a_new_cache_removes_stale_caches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same folder and size, including partial ones, except one that another process is building."""

    def caches() -> set[str]:
        return {path.name for path in (folder / ".cache").iterdir() if path.is_dir()}

    read(folder, decode_size=8)
    other_size = caches()
    monkeypatch.setattr(cache, "STALE_AFTER", -1)
    read(folder)
    before = caches() - other_size
    write_images(folder, "cat/more.png")
    interrupt(folder, 0)
    (half_made,) = caches() - other_size - before
    write_images(folder, "cat/still_more.png")
    (folder / ".cache" / half_made.replace("partial", "lock")).touch()
    with FileLock(folder / ".cache" / half_made.replace("partial", "lock")):
        read(folder)
        assert len(caches()) == 3
        assert {half_made} | other_size < caches()
    write_images(folder, "cat/even_more.png")
    read(folder)
    assert len(caches()) == 2
    assert other_size < caches()


def test_memory_mapped_and_in_memory_images_are_equal(folder: Path) -> None:
    """A memory-mapped dataset is pickled as the name of its file, so another process gets no copy."""
    memory, _ = read(folder, in_memory=True)
    mapped, _ = read(folder, in_memory=False)
    assert isinstance(mapped, MemmapImageDataset)
    assert torch.equal(memory.__getitems__([3, 11, 0])[0], mapped.__getitems__([3, 11, 0])[0])
    sent = pickle.dumps(mapped)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent).images, mapped.images)
    mapped.images[0] = 9
    assert not torch.equal(read(folder, in_memory=False)[0].images, mapped.images), "the file must not be written"


def test_the_cache_is_in_the_configured_folder(folder: Path, tmp_path: Path) -> None:
    read(folder, cache_dir=str(tmp_path / "elsewhere"))
    assert list((tmp_path / "elsewhere").glob("*/images.npy"))
    assert not (folder / ".cache").exists()


def test_an_empty_cache_folder_means_the_default(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the working folder, which Path("") would be."""
    working_folder = tmp_path / "work"
    working_folder.mkdir()
    monkeypatch.chdir(working_folder)
    read(folder, cache_dir="")
    assert cache_of(folder).is_dir()
    assert not list(working_folder.iterdir())


def break_after(count: int, error: BaseException) -> Callable[..., Any]:
    """Return a Decoder.__call__ that fails after some images, with an exception that does not mean a broken image."""
    original, calls = Decoder.__call__, [0]

    def failing(self: Decoder, image: Any) -> np.ndarray:
        calls[0] += 1
        if calls[0] > count:
            raise error
        return original(self, image)

    return failing


def interrupt(folder: Path, count: int) -> None:
    """Interrupt a build after this many images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "__call__", break_after(count, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            read(folder)


@pytest.fixture
def batches_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded images arrive in batches of two."""
    original = torch.utils.data.DataLoader.__init__

    def small(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options | {"batch_size": 2})

    monkeypatch.setattr(torch.utils.data.DataLoader, "__init__", small)


@pytest.mark.usefixtures("batches_of_two")
def test_an_interrupted_cache_build_resumes(folder: Path, decoded: list[int]) -> None:
    interrupt(folder, 7)
    assert decoded == [7]
    images, _ = read(folder)
    assert decoded == [7 + 6], "six of the seven had arrived"
    assert [int(image[0, 0, 0]) for image, _ in images] == [37 * number % 256 for number in range(12)]
    assert not list((folder / ".cache").glob("*.partial"))


@pytest.mark.usefixtures("batches_of_two")
@pytest.mark.parametrize("damage", ["truncated", "other shape", "missing"])
def test_a_partial_cache_with_corrupt_images_is_rebuilt(folder: Path, decoded: list[int], damage: str) -> None:
    """No shard saved before is reused, even if the rebuild is interrupted immediately."""
    interrupt(folder, 7)
    (file,) = (folder / ".cache").glob("*.partial/images.npy")
    if damage == "truncated":
        os.truncate(file, 500)
    elif damage == "other shape":
        np.save(file, np.zeros((3, 1, 12, 12), np.uint8))
    else:
        file.unlink()
    interrupt(folder, 0)
    images, _ = read(folder)
    assert decoded == [7 + 12]
    assert [int(image[0, 0, 0]) for image, _ in images] == [37 * number % 256 for number in range(12)]


@pytest.mark.usefixtures("batches_of_two")
@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"labels": 7, "broken": []}',
        '{"labels": [], "broken": []}',
        '{"labels": ["a"], "broken": []}',
        '{"labels": [0, 0], "broken": [7]}',
        '{"labels": [9e99], "broken": []}',
        f'{{"labels": {[0] * 99}, "broken": []}}',
    ],
)
def test_a_corrupt_shard_and_all_later_ones_are_decoded_again(
    folder: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(cache_writer, "SHARD_ROWS", 2)
    interrupt(folder, 7)
    shards = sorted((folder / ".cache").glob("*.partial/shard-*.json"))
    assert len(shards) == 3
    shards[1].write_text(content)
    images, _ = read(folder)
    assert decoded == [7 + 10]
    assert [int(image[0, 0, 0]) for image, _ in images] == [37 * number % 256 for number in range(12)]


def test_shards_are_saved_while_decoding_and_merged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels and broken images of all shards end up in one file each; no shard is left."""
    monkeypatch.setattr(cache_writer, "SHARD_ROWS", 5)
    (folder / "dog" / "3.png").write_text("no image")
    _, rows = read(folder, skip_broken=True)
    assert rows == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11]
    assert np.load(cache_of(folder) / "labels.npy").tolist() == [0] * 6 + [1, 1, 1, -1, 1, 1]
    assert {path.name for path in cache_of(folder).iterdir()} == FILES


@pytest.mark.usefixtures("batches_of_two")
def test_slow_images_are_saved_in_shards_by_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If each image takes longer than SHARD_SECONDS, each has a shard, long before SHARD_ROWS."""
    monkeypatch.setattr(cache_writer, "SHARD_SECONDS", -1)
    interrupt(folder, 7)
    assert len(list((folder / ".cache").glob("*.partial/shard-*.json"))) == 6, "six of the seven had arrived"


def test_a_process_killed_before_the_cache_is_renamed_decodes_nothing_again(
    folder: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            read(folder)
    images, _ = read(folder)
    assert decoded == [12]
    assert [int(image[0, 0, 0]) for image, _ in images] == [37 * number % 256 for number in range(12)]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no images": lambda cache: (cache / "images.npy").unlink(),
    "no bytes": lambda cache: (cache / "images.npy").write_bytes(b""),
    "short": lambda cache: os.truncate(cache / "images.npy", 500),
    "other images": lambda cache: np.save(cache / "images.npy", np.zeros((3, 1, 12, 12), np.uint8)),
    "other numbers": lambda cache: np.save(cache / "images.npy", np.zeros((12, 1, 12, 12))),
    "no list": lambda cache: (cache / "broken.json").write_text("[1]"),
    "no decoder": lambda cache: (cache / "decoder.json").unlink(),
    "no bit depth": lambda cache: (cache / "decoder.json").write_text("{}"),
    "wrong bit depth": lambda cache: (cache / "decoder.json").write_text('{"bit_depth": [9]}'),
    "no JSON": lambda cache: (cache / "broken.json").write_text("{"),
}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_cache_is_an_error_that_names_the_folder(folder: Path, damage: str, in_memory: bool) -> None:
    read(folder)
    DAMAGES[damage](cache_of(folder))
    with pytest.raises(UserError, match=rf"{cache_of(folder)}: corrupt cache .*remove it, then rerun"):
        read(folder, in_memory=in_memory)


def test_a_malicious_cache_executes_no_code(folder: Path, tmp_path: Path) -> None:
    """A pickle instead of the images is rejected, not loaded."""
    read(folder)
    payload = np.empty(12, object)
    payload[0] = Payload(tmp_path / "written")
    np.save(cache_of(folder) / "images.npy", payload, allow_pickle=True)
    with pytest.raises(UserError, match="corrupt cache"):
        read(folder)
    assert not (tmp_path / "written").exists()


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_an_io_error_is_not_skipped_as_a_broken_image(folder: Path) -> None:
    """A circular symlink can be fixed, so it is an error even with skip_broken."""
    (folder / "dog" / "7.png").symlink_to("7.png")
    with pytest.raises(UserError, match=r"7\.png: cannot be read .*fix that, then rerun"):
        read(folder, skip_broken=True)


def decode_slowly(folder: Path, seen: Path, pause: float, told: Path) -> None:
    """Decode a folder, pausing before each image; write the sum of all pixels and the number of images to a file."""
    original = Decoder.__call__

    def slow(self: Decoder, image: Any) -> Any:
        with seen.open("a") as file:
            file.write("x")
        time.sleep(pause)
        return original(self, image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "__call__", slow)
        patch.setattr(cache_writer, "SHARD_ROWS", 32)
        images, rows = read(folder)
    told.write_text(f"{int(images.images.sum())} {len(rows)}")


def started(*arguments: Any) -> BaseProcess:
    """Run decode_slowly in another process."""
    process = FORKS.Process(target=decode_slowly, args=arguments)
    process.start()
    return process


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_cache_build_resumes_after_kill_9(tmp_path: Path) -> None:
    """kill -9 after some of 64 images, which arrive in batches of 32."""
    folder, seen, told = (tmp_path / name for name in ("images", "seen", "told"))
    write_images(folder, *(f"{number % 2}/{number}.png" for number in range(64)))
    seen.touch()
    process = started(folder, seen, 0.02, told)
    wait_for(lambda: seen.stat().st_size > 40)
    process.kill()
    process.join()
    (partial,) = (folder / ".cache").glob("*.partial")
    assert not [path for path in (folder / ".cache").iterdir() if path.suffix == ""]
    seen.write_text("")
    started(folder, seen, 0, told).join(60)
    assert seen.stat().st_size == 32
    total, count = told.read_text().split()
    assert count == "64"
    assert not partial.exists()
    assert read(folder, cache_dir=str(tmp_path / "fresh"))[0].images.sum() == int(total)


def test_two_processes_at_once_decode_once_and_read_the_same(tmp_path: Path) -> None:
    folder, seen = tmp_path / "images", tmp_path / "seen"
    write_images(folder, *(f"{number % 2}/{number}.png" for number in range(64)))
    told = [tmp_path / "first", tmp_path / "second"]
    both = [started(folder, seen, 0.01, file) for file in told]
    for process in both:
        process.join(60)
    assert told[0].read_text() == told[1].read_text() != ""
    assert seen.stat().st_size == 64


@pytest.fixture
def broken(folder: Path) -> Path:
    """Three files of the folder are truncated or not images."""
    (folder / "cat" / "1.png").write_text("no image")
    whole = (folder / "dog" / "2.png").read_bytes()
    (folder / "dog" / "2.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "9.jpg").touch()
    return folder


def test_a_broken_image_is_an_error_that_names_the_file(broken: Path) -> None:
    with pytest.raises(
        UserError, match=r"cat/1\.png: cannot be read .*fix or remove it, or use data\.skip_broken=true"
    ):
        read(broken)
    (broken / "cat" / "0.HEIC").write_text("of a phone")
    with pytest.raises(UserError, match=r"0\.HEIC: cannot be read .*; convert it to JPEG, or use data\.skip_broken"):
        read(broken)


def test_broken_images_are_skipped_and_listed(
    broken: Path, decoded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Also on the next start, which decodes nothing; without skip_broken they are an error again."""
    caplog.set_level("INFO")
    for _ in range(2):
        caplog.clear()
        images, rows = read(broken, skip_broken=True)
        assert rows == [0, 2, 3, 4, 5, 6, 7, 9, 10, 11]
        assert len(images) == 13
        left_out = [line for line in caplog.messages if "data: skipped" in line]
        assert [line.split(".")[0].split("/")[-2:] for line in left_out] == [["cat", "1"], ["dog", "2"], ["dog", "9"]]
    count = decoded[0]
    with pytest.raises(UserError, match=r"cat/1\.png"):
        read(broken)
    assert decoded[0] == count


@pytest.mark.usefixtures("batches_of_two")
def test_images_decoded_before_a_broken_one_are_not_decoded_again(folder: Path, decoded: list[int]) -> None:
    """The eleventh of thirteen files is broken; the first ten are decoded before it."""
    (folder / "dog" / "3a.png").write_text("no image")
    with pytest.raises(UserError, match=r"dog/3a\.png"):
        read(folder)
    before = decoded[0]
    assert before <= 11
    read(folder, skip_broken=True)
    assert decoded[0] - before == 2


def test_a_folder_of_only_broken_images_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_text("no image")
    with pytest.raises(UserError, match=r": cannot be read, like all others tried .*fix the images"):
        read(tmp_path, skip_broken=True)


def test_full_disk_is_reported_before_anything_is_decoded(
    folder: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(UserError, match=r"data\.cache_dir: .*\.cache.* cannot be written .*data\.cache_dir=DIR"):
        read(folder)
    assert decoded == [0]
    assert not list((folder / ".cache").glob("*.partial"))


def test_a_disk_that_becomes_full_leaves_no_partial_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It also frees the space; with free space, the next build succeeds."""
    original = cache_writer.CacheWriter.append

    def full(self: cache_writer.CacheWriter, result: Any) -> None:
        if self.done == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(self, result)

    with monkeypatch.context() as patch:
        patch.setattr(cache_writer.CacheWriter, "append", full)
        with pytest.raises(UserError, match=r"data\.cache_dir: .*No space left.*data\.cache_dir=DIR"):
            read(folder)
    assert {path.suffix for path in (folder / ".cache").iterdir()} <= {".lock"}
    assert len(read(folder)[0]) == 12


def test_a_cache_folder_that_cannot_be_created_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data\.cache_dir: .*/file"):
        read(folder, cache_dir=str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"data\.cache_dir: .*File name too long.*data\.cache_dir=DIR"):
        read(folder, cache_dir=str(tmp_path / ("x" * 5000)))


def test_images_are_gray_unless_one_has_colors(folder: Path) -> None:
    assert read(folder)[0].image_shape == (1, 12, 12)
    write_images(folder, "dog/colour.png", mode="RGB")
    assert read(folder)[0].image_shape == (3, 12, 12)


@pytest.mark.parametrize(
    ("sizes", "shape"), [([(12, 9)], (9, 12)), ([(12, 9), (9, 12)], (64, 64)), ([(70, 9)], (64, 64))]
)
def test_without_a_size_small_images_of_one_size_keep_it(
    tmp_path: Path, sizes: list[tuple[int, int]], shape: tuple[int, int]
) -> None:
    for number, size in enumerate(sizes * 2):
        write_images(tmp_path, f"{'ab'[number % 2]}/{number}.png", size=size)
    write_images(tmp_path, "a/x.png", "b/x.png", size=sizes[0])
    assert read(tmp_path)[0].image_shape == (1, *shape)


def test_only_the_labels_of_uncached_images_are_read_at_the_start(decoded: list[int]) -> None:
    """Images are decoded when they are used."""
    samples = [(torch.full((1, 8, 8), row, dtype=torch.uint8), row % 2) for row in range(200)]
    images, rows = reader(in_memory=False).read(samples)
    assert isinstance(images, UncachedDataset)
    assert images.targets.tolist() == [0, 1] * 100
    assert len(rows) == 200
    assert decoded == [0]
    assert int(images[7][0][0, 0, 0]) == 7
    assert decoded == [1]


def test_the_memory_limit_of_a_container_is_used_if_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The value "max" means no limit."""
    monkeypatch.setattr("pytorch_intro.common.memory.CGROUP_LIMITS", ())
    machine = host_memory_limit()
    files = [tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes", tmp_path / "absent"]
    monkeypatch.setattr("pytorch_intro.common.memory.CGROUP_LIMITS", files)
    files[0].write_text("max\n")
    files[1].write_text(f"{2**62}\n")
    assert host_memory_limit() == machine > 2**28
    files[0].write_text(f"{2**28}\n")
    assert host_memory_limit() == 2**28
