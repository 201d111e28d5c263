"""The device and precision to train with: chosen by what is available, and logged."""

import logging
import os
import platform
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_type_hints

import torch
from omegaconf import DictConfig
from pydantic import Field, NonNegativeInt, PositiveInt

from pytorch_intro.common.cpu import JOB_MONITOR, affinity, usable_cores
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.text import pluralize
from pytorch_intro.config.validate import SETTINGS, check_config, check_item

log = logging.getLogger(__name__)

MAX_THREADS = torch.get_num_threads()  # one per core, or OMP_NUM_THREADS
# -1 means auto. Lightning also accepts strings of numbers and indices.
DEVICES = PositiveInt | Literal["auto", -1] | Annotated[list[NonNegativeInt], Field(min_length=1)]


def resolve_hardware(config: DictConfig, more_settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the values of trainer.accelerator, precision and threads, and check the whole config with them."""
    from lightning import Trainer  # takes seconds: not for predictions

    trainer = config.trainer
    check_item(trainer, "accelerator", str, "trainer.accelerator")
    check_item(trainer, "devices", DEVICES, "trainer.devices")
    check_item(trainer, "threads", SETTINGS["trainer.threads"], "trainer.threads")
    accelerator = choose_accelerator(trainer.accelerator)
    check_devices(accelerator, trainer.devices)
    hardware = {
        "accelerator": accelerator,
        "precision": choose_precision(trainer.precision, accelerator),
        "threads": choose_threads(trainer.threads, count_devices(accelerator, trainer.devices)),
    }
    precision = Literal["auto"] | get_type_hints(Trainer.__init__)["precision"]
    check_config(config, settings=SETTINGS | {"trainer.precision": precision} | (more_settings or {}))
    return hardware


def choose_accelerator(accelerator: str) -> str:
    """Return cuda, mps or cpu: the best available for auto, the best GPU for gpu, otherwise the one requested."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [name for name, is_available in available.items() if is_available]  # the best first
    chosen = found[0] if accelerator == "auto" or (accelerator == "gpu" and found[0] != "cpu") else accelerator
    if chosen not in found:
        raise UserError(
            f"trainer.accelerator={accelerator}: not available (available: {', '.join(found)}); use "
            "trainer.accelerator=auto"
        )
    reason = "requested"
    if accelerator == "auto":
        missing = " or ".join(name for name in ("cuda", "mps") if name not in found)
        reason = "first available of cuda, mps, cpu" if chosen == "cuda" else f"{missing} not available"
    log.info("accelerator: %s, %s (%s)", chosen, device_name(chosen), reason)
    return chosen


def check_devices(accelerator: str, devices: int | Literal["auto"] | Sequence[int]) -> None:
    """Check trainer.devices against the available devices. On the CPU a device is a process, at most one per core."""
    count = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": os.cpu_count() or 1}[accelerator]
    if devices == "auto":
        return
    wanted = devices if isinstance(devices, int) else max(devices) + 1
    if wanted > count:
        raise UserError(
            f"trainer.devices={devices}: only {count} available for trainer.accelerator={accelerator}; use fewer, or "
            "trainer.devices=auto"
        )


def count_devices(accelerator: str, devices: int | Literal["auto"] | Sequence[int]) -> int:
    """Return the number of devices that a run uses on each machine, and so of its processes there."""
    if devices in ("auto", -1):
        return max(1, torch.cuda.device_count()) if accelerator in ("auto", "gpu", "cuda") else 1
    return devices if isinstance(devices, int) else len(devices)


def choose_threads(threads: int | Literal["auto"], processes: int) -> int:
    """Return the number of CPU threads: for auto, as many as other programs leave cores free, but at least one.

    With more threads than free cores, a step takes several times longer: inside a convolution, all threads wait for the
    one whose core is in use.
    """
    if threads != "auto":
        log.info("threads: %d (requested)", threads)
        return threads
    cores = min(MAX_THREADS, usable_cores())
    if processes > 1:
        chosen, reason = max(1, cores // processes), f"{pluralize(cores, 'core')} for {processes} processes"
    else:
        every, used = len(affinity()), round(JOB_MONITOR.cores_used_by_others())
        chosen = max(1, min(cores, every - used))  # a container's quota may be smaller than its number of cores
        free = f"{pluralize(every, 'core')}, other programs use {used} of them"
        reason = pluralize(cores, "core") if chosen == cores else free
    log.info("threads: %d (%s)", chosen, reason)
    return chosen


def choose_precision(precision: str | int | None, accelerator: str) -> str | int | None:
    """Return bf16-mixed for auto if the hardware has bfloat16 units, else 32-true; other values unchanged."""
    is_fast, reason = supports_bf16(accelerator)
    if precision == "auto":
        precision = "bf16-mixed" if is_fast else "32-true"
    else:
        unsupported = {"mps": "64", "cuda": None if is_fast else "bf16"}.get(accelerator)
        if unsupported and str(precision).startswith(unsupported):
            raise UserError(
                f"trainer.precision={precision}: not supported by this {accelerator} device; use trainer.precision=auto"
            )
        reason = "requested"
    log.info("precision: %s (%s)", precision, reason)
    return precision


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


def synchronize() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def device_name(accelerator: str) -> str:
    """Return the name of the device."""
    if accelerator == "cuda":
        return torch.cuda.get_device_name()
    return torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
