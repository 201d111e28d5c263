"""Is the config of a sweep's job right? Asked of all jobs before the first begins."""

import logging
from collections.abc import Sequence

from omegaconf import DictConfig, open_dict

from pytorch_intro.errors import UserError
from pytorch_intro.hardware import checked_hardware


def check_job(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check a job's config as the job itself will.

    Args:
        config: As Hydra composes it for the job, with Hydra's own part.
        overrides: The job's, for the message.

    Raises:
        UserError: if it is wrong.
    """
    with open_dict(config):
        config.pop("hydra", None)
    config.run_dir = "a folder that the job will have"
    logging.disable(logging.INFO)  # each job will say itself what hardware it takes
    try:
        checked_hardware(config)
    except UserError as error:
        raise UserError(f"{error} (in the job {' '.join(overrides)}; no job was begun)") from error
    finally:
        logging.disable(logging.NOTSET)
