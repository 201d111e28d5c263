"""An allocation of SLURM without srun runs a command once."""

import pytest

from pytorch_intro.common.distributed import is_distributed_launch, is_first_on_node


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash", "SLURM_PROCID": "0"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "mine"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "mine", "SLURM_PROCID": "0"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "mine", "SLURM_PROCID": "0"}, False),
        ({"WORLD_SIZE": "2"}, True),
        ({}, False),
    ],
)
def test_a_launch_is_distributed_only_under_srun_or_torchrun(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_PROCID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_distributed_launch() is expected


def test_one_rank_per_node_prints_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_LOCALID", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert is_first_on_node()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_first_on_node()
