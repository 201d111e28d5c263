# %% [markdown]
# ## 1. Am I in a venv?
#
# In a venv, `sys.prefix` and `sys.base_prefix` are different. Write the function `is_in_venv`. It gets both. It returns
# True or False.

# %% template
def is_in_venv(prefix, base_prefix):
    raise NotImplementedError


# %% solution
def is_in_venv(prefix, base_prefix):
    return prefix != base_prefix


# %% wrong
def is_in_venv(prefix, base_prefix):
    return prefix == base_prefix


# %% check
inside, outside = is_in_venv("/project/.venv", "/usr"), is_in_venv("/usr", "/usr")
assert isinstance(inside, bool), (
    f"The function has to return True or False, not {inside!r}."
)
assert (inside, outside) != (False, True), (
    "It is the other way round: in a venv, the two are different."
)
assert (inside, outside) == (True, False), (
    f"With two different folders: {inside}; with the same folder: {outside}."
)
assert is_in_venv("/home/me/my_venv", "/usr"), (
    "A venv can have any name. Compare the two folders."
)

# %% [markdown]
# ## 2. Read a line of requirements.txt
#
# Write the function `package_and_version`. It gets the first part of a line, without the checksums, for example
# `torch==2.11.0`. It returns the pair `("torch", "2.11.0")`. A line of a file ends with a line break, `\n`: remove it.


# %% template
def package_and_version(line):
    raise NotImplementedError


# %% solution
def package_and_version(line):
    name, version = line.strip().split("==")
    return name, version


# %% wrong
def package_and_version(line):
    return line.split("==")


# %% check
answer = package_and_version("torch==2.11.0\n")
assert answer is not None, "The function returns nothing. Is there a `return`?"
assert not answer[-1].endswith("\n"), (
    "The end of the line is still there. `line.strip()` removes it."
)
assert tuple(answer) == ("torch", "2.11.0"), (
    f"For the line torch==2.11.0 the function returns {answer!r}."
)

# %% [markdown]
# ## 3. Is everything installed?
#
# Write the function `missing_packages`. It gets a list of names of packages. It returns a list of those that are not
# installed. `importlib.metadata.version(name)` raises `PackageNotFoundError` for such a name.

# %% template
from importlib.metadata import PackageNotFoundError, version


def missing_packages(names):
    raise NotImplementedError


# %% solution
from importlib.metadata import PackageNotFoundError, version


def missing_packages(names):
    missing = []
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    return missing


# %% wrong
from importlib.metadata import PackageNotFoundError, version


def missing_packages(names):
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            return [name]
    return []


# %% check
answer = missing_packages(["torch", "no-such-thing", "hydra-core", "not-this-either"])
assert isinstance(answer, list), f"The function has to return a list, not {answer!r}."
assert "torch" not in answer, "torch is installed, but it is in your list."
assert answer != ["no-such-thing"], (
    "Two packages are missing, and you return one. Does the loop stop too early?"
)
assert answer == ["no-such-thing", "not-this-either"], (
    f"Two names are not installed. You return {answer}."
)
assert missing_packages(["torch"]) == [], "If nothing is missing, return an empty list."
