"""What is shown does not decide what is saved: standard streams that are closed, full, or of another encoding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytorch_intro.config.paths import PROJECT

# Prints more than the buffers hold, then records that it came to its end.
PROGRAM = """
import sys
from pathlib import Path
from pytorch_intro.common.streams import protect_streams
protect_streams()
for _ in range(2000):
    print("é 犬 \\udce9", "x" * 100)
assert sys.stdin is not None and sys.stdout is not None and sys.stderr is not None
sys.stdout.isatty()
Path(sys.argv[1]).write_text("saved")
print("the end", file=sys.stderr)
"""


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"], autouse=True)
def _buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


def run_program(tmp_path: Path, redirection: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """Run PROGRAM in a shell with a redirection, and assert that it came to its end."""
    file = tmp_path / "saved"
    variables = os.environ | {"PYTHONPATH": str(PROJECT / "src"), "PYTHONIOENCODING": encoding}
    shell = ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" "$2" {redirection}', sys.executable, PROGRAM, str(file)]
    done = subprocess.run(shell, capture_output=True, text=True, encoding="latin-1", env=variables, timeout=60)
    assert done.returncode == 0, done.stderr
    assert file.read_text() == "saved"
    return done


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_characters_that_the_output_lacks_are_replaced(tmp_path: Path, encoding: str) -> None:
    done = run_program(tmp_path, "", encoding)
    first = "? ? ?" if encoding == "ascii" else "é ? ?"
    assert done.stdout.startswith(f"{first} xxx")
    assert done.stderr == "the end\n"


def test_a_reader_that_closes_the_pipe_ends_nothing(tmp_path: Path) -> None:
    done = run_program(tmp_path, "| head -1")
    assert done.stdout.count("\n") == 1
    assert done.stderr == "the end\n"


@pytest.mark.parametrize("redirection", [">&-", "<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_nothing(tmp_path: Path, redirection: str) -> None:
    run_program(tmp_path, redirection)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_for_the_output_is_reported_once(tmp_path: Path) -> None:
    run_program(tmp_path, "> /dev/full 2>&1")
    (tmp_path / "saved").unlink()
    done = run_program(tmp_path, "> /dev/full")
    assert done.stderr == "output: No space left on device, the rest is not shown\nthe end\n"
