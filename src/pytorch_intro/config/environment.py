"""Values of environment variables in a config, as in seed=${oc.env:SEED}: they are text, whatever the setting takes."""

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.common.errors import UserError, first_lines


def resolve_environment(config: DictConfig | ListConfig) -> None:
    """Replace each ${oc.env:NAME} by its value, so that a run keeps its values when it is resumed in another shell."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if isinstance(value, (dict, list)):
            resolve_environment(config[key])
        elif isinstance(value, str) and "oc.env:" in value:
            try:
                resolved = config[key]
            except OmegaConfBaseException as error:
                raise UserError(f"{error.full_key}={value}: {first_lines(error)}; set the variable") from error
            config[key] = escape(resolved) if isinstance(resolved, str) else resolved


def escape(text: str) -> str:
    """Return the text as OmegaConf stores it: without the backslash, ${ would start an interpolation."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def decode(value: Any) -> Any:
    """Return what a text, or each text in lists and mappings, would be on the command line, such as a number."""
    if isinstance(value, dict):
        return {key: decode(each) for key, each in value.items()}
    if isinstance(value, list):
        return [decode(each) for each in value]
    if not isinstance(value, str) or "${" in value:
        return value
    try:
        config = OmegaConf.create({"text": value, "decoded": "${oc.decode:${text}}"})
        plain: Any = OmegaConf.to_container(config, resolve=True)
        return plain["decoded"]
    except OmegaConfBaseException:  # not in Hydra's grammar
        return value
