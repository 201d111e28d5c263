"""Turn the errors that Hydra raises while it composes a config into one line with a remedy."""

import re
from collections.abc import Callable

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.common.errors import UserError, exception_chain, first_lines


def explain(error: Exception, known_keys: Callable[[], list[str]]) -> str | None:
    """Return the line for an error of Hydra; None if it is not a user mistake.

    Args:
        known_keys: Function that returns the dotted keys of the config without the user's overrides.
    """
    for cause in exception_chain(error):  # OmegaConf wraps the errors of resolvers
        if isinstance(cause, UserError):
            return str(cause)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={choice}: unknown choice; choose from {', '.join(sorted(error.options))}"
    if unknown := re.match(r"Could not override '([^']+)'", str(error)):
        from pytorch_intro.config.validate import unknown_key

        if unknown[1] not in (keys := known_keys()):
            return unknown_key(unknown[1], keys)
        return f"{unknown[1]}: a config group takes the name of a choice; see --help"
    if isinstance(error, ValueError) and "Config group override" in str(error):
        return "a config group takes the name of a choice, as in logger=none; see --help"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return first_lines(error)
    if isinstance(error, OSError):
        return f"outputs: cannot create the run folder ({error}); use another outputs=DIR"
    return None
