"""auto settings are resolved by the available hardware, and logged with the reason."""

import logging
import os
from collections.abc import Callable

import pytest
import torch
from conftest import compose
from explained import WRONG_VALUE, assert_facts

from pytorch_intro.common.errors import UserError
from pytorch_intro.training.hardware import (
    check_devices,
    choose_accelerator,
    choose_precision,
    resolve_hardware,
)
from pytorch_intro.training.trainer import build_trainer

FakeMachine = Callable[..., None]


@pytest.fixture
def fake_machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """Return a function that makes torch report the given accelerators."""

    def has(cuda: int = 0, mps: bool = False, bf16: bool = False, **cpu: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "a CPU", **cpu})

    return has


@pytest.mark.parametrize(
    ("hardware", "chosen", "reason"),
    [
        ({"cuda": 1, "mps": True}, "cuda", "first available"),
        ({"mps": True}, "mps", "cuda not available"),
        ({}, "cpu", "cuda or mps not available"),
    ],
)
def test_auto_prefers_cuda_then_mps_then_cpu_and_logs_why(
    fake_machine: FakeMachine, caplog: pytest.LogCaptureFixture, hardware: dict[str, int], chosen: str, reason: str
) -> None:
    fake_machine(**hardware)
    with caplog.at_level(logging.INFO):
        assert choose_accelerator("auto") == chosen
    assert reason in caplog.text


def test_gpu_selects_cuda_or_mps_but_never_cpu(fake_machine: FakeMachine) -> None:
    fake_machine(cuda=1)
    assert choose_accelerator("gpu") == "cuda"
    fake_machine(mps=True)
    assert choose_accelerator("gpu") == "mps"
    fake_machine()
    with pytest.raises(
        UserError, match=r"trainer\.accelerator=gpu: not available \(available: cpu\); use trainer\.accelerator=auto"
    ):
        choose_accelerator("gpu")


@pytest.mark.parametrize(
    ("hardware", "accelerator", "precision"),
    [
        ({"cuda": 1, "bf16": True}, "cuda", "bf16-mixed"),
        ({"cuda": 1}, "cuda", "32-true"),
        ({"mps": True}, "mps", "32-true"),
        ({"avx512_bf16": True}, "cpu", "bf16-mixed"),
        ({"amx_bf16": True}, "cpu", "bf16-mixed"),
        ({"avx512_f": True}, "cpu", "32-true"),
    ],
)
def test_auto_precision_is_bf16_if_the_hardware_has_bf16_units(
    fake_machine: FakeMachine, hardware: dict[str, bool], accelerator: str, precision: str
) -> None:
    fake_machine(**hardware)
    assert choose_precision("auto", accelerator) == precision
    assert choose_precision("16-mixed", accelerator) == "16-mixed"


@pytest.mark.parametrize("devices", [3, [0, 2]])
def test_more_devices_than_available_are_rejected(fake_machine: FakeMachine, devices: int | list[int]) -> None:
    fake_machine(cuda=2)
    with pytest.raises(UserError) as error:
        check_devices("cuda", devices)
    assert_facts(str(error.value), [], ["trainer.devices="], r"only 2\b.*\bcuda\b", r"trainer\.devices=auto")


@pytest.mark.parametrize("devices", ["1", "2", "auto", "-1", "[1]", "[0,1]"])
def test_available_devices_are_accepted(fake_machine: FakeMachine, devices: str) -> None:
    fake_machine(cuda=2)
    resolve_hardware(compose("data=sample", f"trainer.devices={devices}"))


@pytest.mark.parametrize("devices", ["0", "-2", "two", "[]", "[-1]", "'0,1'"])
def test_zero_negative_and_malformed_devices_are_rejected(fake_machine: FakeMachine, devices: str) -> None:
    fake_machine(cuda=2)
    with pytest.raises(UserError) as error:
        resolve_hardware(compose("data=sample", f"trainer.devices={devices}"))
    assert_facts(str(error.value), [], ["trainer.devices="], WRONG_VALUE, r"\bauto\b|greater than|at least 1")


def test_the_cpu_of_this_machine_is_available() -> None:
    config = compose("trainer=cpu", f"trainer.devices={os.cpu_count() or 1}", "trainer.precision=32-true")
    hardware = resolve_hardware(config)
    assert (hardware["accelerator"], hardware["precision"]) == ("cpu", "32-true")
    assert hardware["threads"] >= 1


@pytest.mark.parametrize(("accelerator", "precision"), [("mps", "64-true"), ("mps", 64), ("cuda", "bf16-mixed")])
def test_an_unsupported_precision_is_rejected(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, precision: str | int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(UserError, match=f"trainer.precision={precision}: not supported by this {accelerator}"):
        choose_precision(precision, accelerator)
    assert choose_precision("32-true", accelerator) == "32-true"


def test_denormal_numbers_are_flushed_to_zero_on_the_cpu() -> None:
    """The momenta of filters without gradients decay to denormal numbers, which made steps three times slower."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this CPU cannot flush denormal numbers")
    config = compose("data=sample", "callbacks=none", "logger=none")
    build_trainer(
        config.trainer, config.callbacks, config.logger, {"accelerator": "cpu", "precision": "32-true", "threads": 1}
    )
    assert (torch.tensor([1e-39]) * torch.tensor([0.5])).item() == 0
