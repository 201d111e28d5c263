"""The environment.

Python's documentation: "venv — Creation of virtual environments". This project's README: "Install and train".
"""

# %%
# > Activate the `venv`: `source .env/bin/activate` or `source .env/bin/activate.fish`
# A venv is a folder with a Python and packages for one project, so that another project may have others.
# Note: more precisely, the folder is .venv here, as `make train` and the README make it, and as most editors look for it. The second line is for the
# shell fish.
import sys

from pytorch_intro.config.paths import CLONE

# An installed package comes without the files of the repository.
if CLONE is not None:
    readme = (CLONE / "README.md").read_text(encoding="utf-8")
    ignored = (CLONE / ".gitignore").read_text(encoding="utf-8").split()
    assert "source .venv/bin/activate" in readme
    assert "source .venv/bin/activate.fish" in readme
    assert "source .env/bin" not in readme
    assert any(line.strip("/") == ".venv" for line in ignored)
is_of_a_venv = sys.prefix != sys.base_prefix
f"Python {sys.version.split()[0]}, {'of a venv' if is_of_a_venv else 'of no venv'}"
# At work: Makefile: VENV

# %%
# > Install any needed packages `pip install -r requirements.txt`
# The file names each package with its version, so that everybody has the same; and with a checksum, so that it is the one that was meant.
import re
from importlib.metadata import version

names = ("torch", "torchvision", "lightning", "hydra-core", "tensorboard")
locked = dict.fromkeys(names, "in the repository")
if CLONE is not None:
    lines = (CLONE / "requirements.txt").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", lines, re.MULTILINE))
    assert set(names) <= set(locked)
"\n".join(f"{name}: locked {locked[name]}, here {version(name)}" for name in names[:3])
# At work: Makefile: lock
