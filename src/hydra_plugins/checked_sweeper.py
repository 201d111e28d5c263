"""Hydra's own sweeper, but that it begins no job before the configs of all have been checked."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore


class CheckedSweeper(BasicSweeper):
    """The sweeper of `python src/train.py -m`."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose and check the config of each job, given its overrides.

        Raises:
            UserError: for the first that is wrong, with what the job changes.
        """
        from pytorch_intro.sweep import check_job

        assert self.hydra_context is not None
        assert self.config is not None
        for overrides in batch:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            check_job(config, overrides)


node = BasicSweeperConf(_target_=f"{__name__}.{CheckedSweeper.__name__}")
ConfigStore.instance().store(group="hydra/sweeper", name="checked", node=node, provider="pytorch_intro")
