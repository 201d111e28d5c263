"""The device and precision to train with: chosen by what is available, and logged."""

import logging
import os
import platform
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.validate import check, check_value

log = logging.getLogger(__name__)

Devices = int | str | Sequence[int]


def resolve_hardware(config: DictConfig, more_settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Choose accelerator and precision, and check the whole config with them.

    Args:
        config: Config with a node `trainer`.
        more_settings: Passed to check.

    Returns:
        Values of trainer.accelerator and trainer.precision.

    Raises:
        UserError: if the hardware is not available, or another value is wrong.
    """
    trainer = config.trainer
    hardware = choose_hardware(trainer.accelerator, trainer.devices, trainer.precision)
    check(OmegaConf.merge(config, {"trainer": hardware}), more_settings)
    return hardware


def choose_hardware(accelerator: str, devices: Devices, precision: str | int | None) -> dict[str, Any]:
    """Return the accelerator and precision, resolved where they are auto, and log them.

    Raises:
        UserError: if the hardware is not available.
    """
    check_value("trainer.accelerator", accelerator, str)
    check_value("trainer.devices", devices, int | str | list[int])
    accelerator = choose_accelerator(accelerator)
    check_devices(accelerator, devices)
    return {"accelerator": accelerator, "precision": choose_precision(precision, accelerator)}


def choose_accelerator(accelerator: str) -> str:
    """Return cuda, mps or cpu: the best available for auto and gpu, otherwise the one requested.

    Raises:
        UserError: if it is not available.
    """
    found = available()
    if accelerator == "auto":
        missing = " or ".join(name for name in ("cuda", "mps") if name not in found)
        reason = "first available of cuda, mps, cpu" if found[0] == "cuda" else f"{missing} not available"
        log.info("accelerator: %s, %s (%s)", found[0], device_name(found[0]), reason)
        return found[0]
    chosen = found[0] if accelerator == "gpu" and found[0] != "cpu" else accelerator
    if chosen not in found:
        raise UserError(
            f"trainer.accelerator={accelerator} is not available (available: {', '.join(found)}); auto picks the best "
            "one"
        )
    log.info("accelerator: %s, %s (requested)", chosen, device_name(chosen))
    return chosen


def available() -> list[str]:
    """Return the available accelerators, the best first."""
    known = [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()), ("cpu", True)]
    return [name for name, is_available in known if is_available]


def check_devices(accelerator: str, devices: Devices) -> None:
    """Check trainer.devices, in any form that Lightning accepts, against the available devices.

    On cpu a device is a process; at most one per core is accepted.

    Raises:
        UserError: if fewer are available.
    """
    count = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": os.cpu_count() or 1}[accelerator]
    if isinstance(devices, str):
        if devices in ("auto", "-1"):
            return
        try:
            devices = [int(number) for number in devices.split(",") if number] if "," in devices else int(devices)
        except ValueError:
            raise UserError(
                f"trainer.devices={devices}: not a number of devices, a list of indices, or auto; use trainer.devices=1"
            ) from None
    wanted = devices if isinstance(devices, int) else max(devices, default=-1) + 1
    if wanted == 0 or wanted < -1:
        raise UserError(f"trainer.devices={devices}: at least one is required; trainer.devices=1")
    if wanted > count:
        raise UserError(
            f"trainer.devices={devices}: only {count} available for trainer.accelerator={accelerator}; use fewer, or "
            "trainer.devices=auto"
        )


def number_of_processes(trainer: DictConfig) -> int:
    """Return the world size: the number of devices times the number of machines."""
    devices, accelerator = trainer.devices, trainer.accelerator
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        devices = [number for number in devices.split(",") if number] if "," in devices else int(devices)
    if devices in ("auto", "-1", -1):
        chosen = available()[0] if accelerator in ("auto", "gpu") else accelerator
        devices = torch.cuda.device_count() if chosen == "cuda" else 1
    return trainer.num_nodes * (devices if isinstance(devices, int) else len(devices))


def choose_precision(precision: str | int | None, accelerator: str) -> str | int | None:
    """Return bf16-mixed for auto if the hardware has bfloat16 units, else 32-true; other values unchanged.

    Raises:
        UserError: if the device does not support the precision.
    """
    if precision != "auto":
        lacks_bfloat16 = accelerator == "cuda" and not supports_bf16(accelerator)[0]
        kind = {"bf16": lacks_bfloat16, "64": accelerator == "mps"}
        for prefix, is_missing in kind.items():
            if is_missing and str(precision).startswith(prefix):
                raise UserError(
                    f"trainer.precision={precision}: not supported by this {accelerator} device; "
                    "trainer.precision=auto picks the fastest supported one"
                )
        log.info("precision: %s (requested)", precision)
        return precision
    fast, reason = supports_bf16(accelerator)
    chosen = "bf16-mixed" if fast else "32-true"
    log.info("precision: %s (%s)", chosen, reason)
    return chosen


def supports_bf16(accelerator: str) -> tuple[bool, str]:
    """Return whether bfloat16 is faster than float32 on this device, and the reason."""
    if accelerator == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return has, f"this GPU has {'' if has else 'no '}bfloat16 units"
    if accelerator == "cpu":
        capabilities = torch.cpu.get_capabilities()
        units = [name for name in ("avx512_bf16", "amx_bf16") if capabilities.get(name)]
        return bool(units), f"this CPU has {' and '.join(units) or 'neither avx512_bf16 nor amx_bf16'}"
    return False, f"bfloat16 is not tested on {accelerator}"


def device_name(accelerator: str) -> str:
    """Return the name of the device."""
    if accelerator == "cuda":
        return torch.cuda.get_device_name()
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return name if accelerator == "mps" else f"{name}, {torch.get_num_threads()} threads"
