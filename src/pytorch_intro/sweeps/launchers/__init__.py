"""Launchers that run jobs in other processes: hydra/launcher=ray and slurm."""
