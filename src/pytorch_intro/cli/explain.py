"""Turn the errors that Hydra raises while it composes a config into one line with a remedy."""

import re
import sys

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.cli.hydra_internals import VERSION_BASE
from pytorch_intro.common.errors import UserError, exception_chain, first_lines
from pytorch_intro.config.flatten import flatten
from pytorch_intro.config.paths import CONFIG_DIR


def explain(error: Exception, config_name: str) -> str | None:
    """Return the line for an error of composing conf/<config_name>.yaml; None if it is not a user mistake."""
    for cause in exception_chain(error):  # OmegaConf wraps the errors of resolvers
        if isinstance(cause, UserError):
            return str(cause)
    message = first_lines(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={choice}: unknown choice; choose from {', '.join(sorted(error.options))}"
    if unknown := re.match(r"Could not override '([^']+)'", message):
        from pytorch_intro.config.validate import unknown_key

        if unknown[1] not in (keys := known_keys(config_name)):
            return unknown_key(unknown[1], keys)
        return f"{unknown[1]}: is a config group; set it to one of its choices, see --help"
    if isinstance(error, ValueError) and "Config group override" in message:
        groups = [text for text in sys.argv[1:] if "[" not in text and (CONFIG_DIR / text.partition("=")[0]).is_dir()]
        wrong = [text for text in groups if not (CONFIG_DIR / f"{text.replace('=', '/', 1)}.yaml").exists()]
        return f"{', '.join(wrong)}: is a config group; set it to one of its choices, see --help"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return f"{message.rstrip('.')}; see --help"
    if isinstance(error, OSError):
        return f"outputs: cannot create the run folder ({error}); use another outputs=DIR"
    return None


def known_keys(config_name: str) -> list[str]:
    """Return the dotted keys of the config, composed with only the group choices of the command line."""
    groups = {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}
    choices = [argument for argument in sys.argv[1:] if argument.partition("=")[0] in groups]
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base=VERSION_BASE):
        try:
            config = hydra.compose(config_name, choices)
        except Exception:  # a choice is wrong or swept; the defaults have most keys
            config = hydra.compose(config_name)
    return [*flatten(config), *map(str, config)]
