"""Which settings go with find=lr and data.batch_size=auto; finders.py has both. Nothing heavy is imported here."""

from typing import Any, Literal

from omegaconf import DictConfig
from pydantic import PositiveInt

from pytorch_intro.common.distributed import is_distributed_launch
from pytorch_intro.common.errors import UserError

# Type hints for check_config of values that only a training accepts.
FINDER_SETTINGS: dict[str, Any] = {"data.batch_size": PositiveInt | Literal["auto"]}


def check_finders(config: DictConfig, is_sweep: bool) -> None:
    """Raise a UserError for a finder in a sweep, with several processes, or with a debugging mode of Lightning."""
    used = {"find=lr": config.get("find") == "lr", "data.batch_size=auto": config.data.get("batch_size") == "auto"}
    trainer = config.trainer
    for setting in [setting for setting, is_used in used.items() if is_used]:
        if is_sweep:
            raise UserError(f"{setting}: not with -m; run it alone, then sweep with the number that it finds")
        if trainer.get("devices", 1) != 1 or trainer.get("num_nodes", 1) != 1 or is_distributed_launch():
            raise UserError(f"{setting}: runs in one process; use trainer.devices=1, or set the number")
        for name in ("fast_dev_run", "overfit_batches"):
            if trainer.get(name):
                raise UserError(f"trainer.{name}={trainer[name]}: {setting} needs more batches; remove one of them")
