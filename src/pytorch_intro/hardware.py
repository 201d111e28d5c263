"""Which device trains, and in which precision: chosen by what is there, and said."""

import logging
import os
import platform
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.check import check, check_value
from pytorch_intro.errors import UserError

log = logging.getLogger(__name__)

Devices = int | str | Sequence[int]


def checked_hardware(config: DictConfig, more_settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Choose the hardware for a config, and check all of it with that choice.

    Args:
        more_settings: As of check.

    Raises:
        UserError: if what was asked for is not there, or if another value is wrong.
    """
    trainer = config.trainer
    hardware = choose_hardware(trainer.accelerator, trainer.devices, trainer.precision)
    check(OmegaConf.merge(config, {"trainer": hardware}), more_settings)
    return hardware


def choose_hardware(accelerator: str, devices: Devices, precision: str | int | None) -> dict[str, Any]:
    """The trainer's settings accelerator and precision, chosen where they are auto, and said.

    Raises:
        UserError: if what was asked for is not there.
    """
    check_value("trainer.accelerator", accelerator, str)
    check_value("trainer.devices", devices, int | str | list[int])
    accelerator = choose_accelerator(accelerator)
    check_devices(accelerator, devices)
    return {"accelerator": accelerator, "precision": choose_precision(precision, accelerator)}


def choose_accelerator(accelerator: str) -> str:
    """cuda, mps or cpu for auto and gpu, by what is there; whatever else was asked for, if it is there.

    Raises:
        UserError: if it is not.
    """
    there = available()
    if accelerator == "auto":
        absent = " or ".join(name for name in ("cuda", "mps") if name not in there)
        reason = "the first there is of cuda, mps, cpu" if there[0] == "cuda" else f"there is no {absent} here"
        log.info("accelerator: %s, %s (%s)", there[0], device_name(there[0]), reason)
        return there[0]
    chosen = there[0] if accelerator == "gpu" and there[0] != "cpu" else accelerator
    if chosen not in there:
        raise UserError(
            f"trainer.accelerator={accelerator}: there is none here; there is {', '.join(there)}; "
            "trainer.accelerator=auto takes the best of them"
        )
    log.info("accelerator: %s, %s (as asked for)", chosen, device_name(chosen))
    return chosen


def available() -> list[str]:
    """The accelerators that are here, the best first."""
    there = [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()), ("cpu", True)]
    return [name for name, is_there in there if is_there]


def check_devices(accelerator: str, devices: Devices) -> None:
    """Compare the devices asked for, as Lightning's Trainer takes them, with those that are there.

    On cpu a device is a process, and as many as there are cores are taken for sensible.

    Raises:
        UserError: if there are not that many.
    """
    count = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": os.cpu_count() or 1}[accelerator]
    if isinstance(devices, str):
        if devices in ("auto", "-1"):
            return
        try:
            devices = [int(number) for number in devices.split(",") if number] if "," in devices else int(devices)
        except ValueError:
            raise UserError(f"trainer.devices={devices}: give a number of devices, a list of theirs, or auto") from None
    wanted = devices if isinstance(devices, int) else max(devices, default=-1) + 1
    if wanted == 0 or wanted < -1:
        raise UserError(f"trainer.devices={devices}: at least one is needed; trainer.devices=1")
    if wanted > count:
        raise UserError(
            f"trainer.devices={devices}: there {'is' if count == 1 else 'are'} only {count} for "
            f"trainer.accelerator={accelerator} here; ask for as many, or trainer.devices=auto"
        )


def number_of_processes(trainer: DictConfig) -> int:
    """How many processes train together here, one for each device; more than 1 also where it is one on each machine."""
    devices, accelerator = trainer.devices, trainer.accelerator
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        devices = [number for number in devices.split(",") if number] if "," in devices else int(devices)
    if devices in ("auto", "-1", -1):
        chosen = available()[0] if accelerator in ("auto", "gpu") else accelerator
        devices = torch.cuda.device_count() if chosen == "cuda" else 1
    return trainer.num_nodes * (devices if isinstance(devices, int) else len(devices))


def choose_precision(precision: str | int | None, accelerator: str) -> str | int | None:
    """bf16-mixed for auto where the hardware itself computes in bfloat16, else 32-true; anything else as it is.

    Raises:
        UserError: if the device cannot compute in what was asked for.
    """
    if precision != "auto":
        lacks_bfloat16 = accelerator == "cuda" and not computes_in_bfloat16(accelerator)[0]
        kind = {"bf16": lacks_bfloat16, "64": accelerator == "mps"}
        for prefix, is_missing in kind.items():
            if is_missing and str(precision).startswith(prefix):
                raise UserError(
                    f"trainer.precision={precision}: {accelerator} here does not compute in it; "
                    "trainer.precision=auto takes the fastest that there is"
                )
        log.info("precision: %s (as asked for)", precision)
        return precision
    fast, reason = computes_in_bfloat16(accelerator)
    chosen = "bf16-mixed" if fast else "32-true"
    log.info("precision: %s (%s)", chosen, reason)
    return chosen


def computes_in_bfloat16(accelerator: str) -> tuple[bool, str]:
    """Whether bfloat16 is faster than float32 on this device, and why."""
    if accelerator == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return has, f"this GPU {'computes' if has else 'does not compute'} in bfloat16"
    if accelerator == "cpu":
        capabilities = torch.cpu.get_capabilities()
        units = [name for name in ("avx512_bf16", "amx_bf16") if capabilities.get(name)]
        return bool(units), f"this CPU has {' and '.join(units) or 'neither avx512_bf16 nor amx_bf16'}"
    return False, f"bfloat16 is not tried on {accelerator}"


def device_name(accelerator: str) -> str:
    """What the device calls itself."""
    if accelerator == "cuda":
        return torch.cuda.get_device_name()
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return name if accelerator == "mps" else f"{name}, {torch.get_num_threads()} threads"
