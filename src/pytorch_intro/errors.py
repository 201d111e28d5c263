"""The user's mistakes, and how Hydra's way of telling them becomes one line with a remedy."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from traceback import print_exc
from typing import NoReturn

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

LONGEST_LINE = 1000  # characters; a value of the user's may be of any length


class UserError(Exception):
    """A mistake that the user can mend: one sentence that names the key or file, and a remedy."""


class PrunedError(Exception):
    """No mistake: a job of a search is given up, for it does worse than others did by then."""


def leave(line: str, traceback: bool = False, exit_code: int = 2) -> NoReturn:
    """End the program with one line about what went wrong, below the current exception's traceback if wanted."""
    if traceback:
        print_exc()
    line = " ".join(line.split())
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"
    print("error:", line, file=sys.stderr)
    sys.exit(exit_code)


@contextmanager
def ended_by_closed_pipe() -> Iterator[None]:
    """End the program without a word where nobody reads any more what it says, as in `… --help | head`."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def explain(error: Exception, known_keys: Callable[[], list[str]]) -> str | None:
    """The one line for an error raised while Hydra composed the config; None if it is not the user's mistake.

    Args:
        known_keys: Gives the dotted keys of the config without the user's overrides, to find the one that was meant.
    """
    if mistake := _user_error_behind(error):
        return str(mistake)
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _unknown_choice(error)
    if unknown := re.match(r"Could not override '([^']+)'", str(error)):
        return unknown_key(unknown[1], known_keys())
    if isinstance(error, ValueError) and "Config group override" in str(error):
        return "a group takes the name of one of its choices, as in logger=none; --help shows them"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return one_line(error)
    if isinstance(error, OSError):
        return f"the run's folder cannot be made: {error}; choose another by outputs=DIR"
    return None


def unknown_key(key: str, known_keys: Iterable[str]) -> str:
    """The sentence for a config key that does not exist, with the nearest one that does."""
    nearest = _nearest(key, list(known_keys))
    remedy = f"did you mean {nearest}?" if nearest else "--cfg job shows all of them"
    return f"{key}: there is no such setting; {remedy}"


def _nearest(key: str, known_keys: list[str]) -> str | None:
    same_leaf = [known for known in known_keys if known.split(".")[-1] == key.split(".")[-1]]
    siblings = [known for known in known_keys if known.rpartition(".")[0] == key.rpartition(".")[0]]
    leaves = {known.split(".")[-1]: known for known in known_keys}
    close = get_close_matches(key, siblings, n=1, cutoff=0.5) or get_close_matches(key, known_keys, n=1, cutoff=0.7)
    similar_leaf = [leaves[leaf] for leaf in get_close_matches(key.split(".")[-1], leaves, n=1, cutoff=0.7)]
    return next(iter(same_leaf + close + similar_leaf), None)


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    choices = sorted(name for name in error.options or () if not name.startswith("_"))
    return f"{group}={choice}: there is no such choice; choose from {', '.join(choices)}"


def _user_error_behind(error: BaseException | None) -> UserError | None:
    """The UserError itself, or the one that OmegaConf wrapped when a resolver raised it."""
    return next((cause for cause in chain(error) if isinstance(cause, UserError)), None)


def chain(error: BaseException | None) -> list[BaseException]:
    """The error, and those that it was raised from or in the midst of."""
    errors: list[BaseException] = []
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__cause__ or error.__context__
    return errors


def one_line(error: Exception) -> str:
    """A message of Hydra or OmegaConf, without the lines that say where in their code it arose."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("full_key:", "object_type=", "See https")))
