"""What is chosen for the user follows from what is there, and is said."""

import logging
import os
from pathlib import Path

import pytest
import torch
from conftest import compose
from explained import assert_facts

from pytorch_intro.common import memory
from pytorch_intro.common.errors import UserError
from pytorch_intro.training.hardware import (
    available,
    check_devices,
    choose_accelerator,
    resolve_hardware,
    choose_precision,
)
from pytorch_intro.training.trainer import build_trainer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> object:
    """Pretend that this machine has certain accelerators."""

    def has(cuda: int = 0, mps: bool = False, bf16: bool = False, **cpu: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "a CPU", **cpu})

    return has


@pytest.mark.parametrize(
    ("there", "chosen", "reason"),
    [
        ({"cuda": 1, "mps": True}, "cuda", "first available"),
        ({"mps": True}, "mps", "cuda not available"),
        ({}, "cpu", "cuda or mps not available"),
    ],
)
def test_auto_takes_cuda_then_mps_then_cpu_and_says_why(
    machine: object, caplog: pytest.LogCaptureFixture, there: dict[str, int], chosen: str, reason: str
) -> None:
    assert callable(machine)
    machine(**there)
    with caplog.at_level(logging.INFO):
        assert choose_accelerator("auto") == chosen
    assert reason in caplog.text


def test_gpu_means_cuda_or_mps_and_never_cpu(machine: object) -> None:
    assert callable(machine)
    machine(cuda=1)
    assert choose_accelerator("gpu") == "cuda"
    machine(mps=True)
    assert choose_accelerator("gpu") == "mps"
    machine()
    with pytest.raises(UserError, match=r"trainer\.accelerator=gpu is not available \(available: cpu\)"):
        choose_accelerator("gpu")


@pytest.mark.parametrize(
    ("there", "accelerator", "precision"),
    [
        ({"cuda": 1, "bf16": True}, "cuda", "bf16-mixed"),
        ({"cuda": 1}, "cuda", "32-true"),
        ({"mps": True}, "mps", "32-true"),
        ({"avx512_bf16": True}, "cpu", "bf16-mixed"),
        ({"amx_bf16": True}, "cpu", "bf16-mixed"),
        ({"avx512_f": True}, "cpu", "32-true"),
    ],
)
def test_bfloat16_is_chosen_where_the_hardware_computes_in_it(
    machine: object, there: dict[str, bool], accelerator: str, precision: str
) -> None:
    assert callable(machine)
    machine(**there)
    assert choose_precision("auto", accelerator) == precision
    assert choose_precision("16-mixed", accelerator) == "16-mixed"


@pytest.mark.parametrize("devices", [3, "3", [0, 2], "0,2"])
def test_more_devices_than_there_are_are_refused(machine: object, devices: int | str | list[int]) -> None:
    assert callable(machine)
    machine(cuda=2)
    with pytest.raises(UserError) as error:
        check_devices("cuda", devices)
    assert_facts(str(error.value), [], ["trainer.devices="], r"only 2\b.*\bcuda\b", r"trainer\.devices=auto")


@pytest.mark.parametrize("devices", [1, 2, "2", "auto", -1, "-1", [1], "0,1", "0,"])
def test_devices_that_are_there_pass(machine: object, devices: int | str | list[int]) -> None:
    assert callable(machine)
    machine(cuda=2)
    check_devices("cuda", devices)


@pytest.mark.parametrize("devices", [0, -2, "none", [], ""])
def test_devices_that_mean_nothing_are_refused(machine: object, devices: int | str | list[int]) -> None:
    assert callable(machine)
    machine(cuda=2)
    with pytest.raises(UserError) as error:
        check_devices("cuda", devices)
    assert_facts(
        str(error.value), [], ["trainer.devices="], r"number of devices|at least one", r"auto|trainer\.devices=1\b"
    )


def test_a_container_s_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is less than the machine's; "max" is none."""
    monkeypatch.setattr(memory, "CGROUP_LIMITS", ())
    machine = memory.host_memory_limit()
    files = [tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes", tmp_path / "absent"]
    monkeypatch.setattr(memory, "CGROUP_LIMITS", files)
    files[0].write_text("max\n")
    files[1].write_text(f"{2**62}\n")
    assert memory.host_memory_limit() == machine > 2**28
    files[0].write_text(f"{2**28}\n")
    assert memory.host_memory_limit() == 2**28


def test_the_real_machine_has_what_torch_says() -> None:
    assert available()[-1] == "cpu"
    config = compose("trainer=cpu", f"trainer.devices={os.cpu_count() or 1}", "trainer.precision=32-true")
    assert resolve_hardware(config) == {"accelerator": "cpu", "precision": "32-true"}


@pytest.mark.parametrize(("accelerator", "precision"), [("mps", "64-true"), ("mps", 64), ("cuda", "bf16-mixed")])
def test_a_precision_that_the_device_lacks_is_refused(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, precision: str | int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(UserError, match=f"trainer.precision={precision}: not supported by this {accelerator}"):
        choose_precision(precision, accelerator)
    assert choose_precision("32-true", accelerator) == "32-true"


def test_on_the_cpu_numbers_that_are_next_to_nothing_count_as_zero() -> None:
    """A filter that gets no gradients any more leaves such momenta, which took each step three times as long."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this CPU always computes with them")
    config = compose("data=sample", "callbacks=none", "logger=none")
    build_trainer(config.trainer, config.callbacks, config.logger, {"accelerator": "cpu", "precision": "32-true"})
    assert (torch.tensor([1e-39]) * torch.tensor([0.5])).item() == 0
