"""Send to MLflow what a run could not send when its server was away: python -m pytorch_intro.loggers.send DIR."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError, exit_with_error
from pytorch_intro.common.locks import lock_folder
from pytorch_intro.config.resolvers import register_resolvers
from pytorch_intro.loggers.mlflow_logger import MLFlowLogger
from pytorch_intro.runs.config_record import trusted_config
from pytorch_intro.runs.folder import RunFolder

TARGET = f"{MLFlowLogger.__module__}.{MLFlowLogger.__name__}"


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        raise UserError("usage: python -m pytorch_intro.loggers.send DIR; DIR is the folder of a finished run")
    run = RunFolder(arguments[0])
    register_resolvers()
    config = trusted_config(run.path, {}, [], parts=["logger"])
    run.result()  # raises if the run is not finished: training sends the rest itself
    nodes = [node for node in config.logger.values() if node and node.get("_target_") == TARGET]
    if not nodes:
        raise UserError(f"{run.path}: the run did not log to MLflow; choose another run")
    with lock_folder(run.path):
        for node in nodes:
            settings = OmegaConf.to_container(node, resolve=True)
            assert isinstance(settings, dict)
            logger = MLFlowLogger(**{str(name): value for name, value in settings.items() if name != "_target_"})
            logger.start()
            logger.finish()
            if logger.sender.pending:
                raise UserError(f"{Path(run.path).name}: not everything was sent; try again later")
            print(f"sent: {run.path.name} to {logger.setting.partition('=')[2]}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        exit_with_error(str(error))
