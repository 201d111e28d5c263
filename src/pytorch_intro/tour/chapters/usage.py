# %% [markdown]
# # 15. The environment
#
# To read on: Python's documentation, "venv — Creation of virtual environments". This project's README, "Install and train".

# %% [markdown]
# > Activate the `venv`: `source .env/bin/activate` or `source .env/bin/activate.fish`
#
# A **venv** is a folder with a Python and some packages. Each project has its own. So two projects can use different
# versions of the same package.
#
# To activate it means: from now on, the command `python` uses this folder.
#
# **Note:** more precisely, the folder's name is `.venv` in this project. So the command is `source .venv/bin/activate`.
# `make train` and the README create it with this name, and most editors look for it. The second command is for people
# who use the command line "fish".
#
# You have probably done this before chapter 1. Here is what it means.

# %%
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
is_in_a_venv = sys.prefix != sys.base_prefix
f"Python {sys.version.split()[0]}, {'in a venv' if is_in_a_venv else 'not in a venv'}"
# At work: Makefile: VENV

# %% [markdown]
# > Install any needed packages `pip install -r requirements.txt`
#
# The file lists each package with its version. So everybody gets the same versions.
#
# A **checksum** is a long number that is computed from a file. If someone changes the file, the number is another one.
#
# Each package in the file has its checksums, after `--hash`. If one does not fit, pip refuses to install the package.

# %%
import re
from importlib.metadata import version

names = ("torch", "torchvision", "lightning", "hydra-core", "tensorboard")
locked = dict.fromkeys(names, "in the repository")
if CLONE is not None:
    lines = (CLONE / "requirements.txt").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", lines, re.MULTILINE))
    assert set(names) <= set(locked)
for name in names[:3]:
    print(f"{name}: locked {locked[name]}, here {version(name)}")
# At work: Makefile: lock
