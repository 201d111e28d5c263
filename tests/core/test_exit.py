"""A command ends right after its last line."""

import subprocess
import sys

from pytorch_intro.config.paths import PROJECT

CHECK_AT_EXIT = """
import atexit, gc, sys
atexit.register(lambda: print("frozen:", gc.get_freeze_count() > 10_000))  # the first is called last
sys.path.insert(0, "src")
sys.argv = ["src/train.py", "--info", "plugins"]
import train
train.main()
"""


def test_the_garbage_collector_does_not_search_all_objects_at_exit() -> None:
    """Torch and Lightning create 700,000; searching them took a second."""
    process = subprocess.run(
        [sys.executable, "-c", CHECK_AT_EXIT], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert process.stdout.splitlines()[-1] == "frozen: True"
