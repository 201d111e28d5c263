"""Explain errors in one line with a remedy: mistakes in the arguments, a full disk, memory, a lost process."""

import errno
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.cli.argv import find_groups
from pytorch_intro.cli.hydra_internals import invalid_default, known_keys, unknown_choice
from pytorch_intro.common.errors import INTERRUPTED, OUT_OF_MEMORY, RunError, UserError, exception_chain, first_lines
from pytorch_intro.config import groups
from pytorch_intro.config.groups import choices, config_file, is_group
from pytorch_intro.config.paths import display_path

DISK = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EFBIG: "a file would become larger than the system allows; raise the limit",
    errno.EROFS: "the file system is read-only; make it writable",
    errno.EACCES: "no permission to write a file; make it writable",
}
OUT_OF_FILES = r"Too many open files|received 0 items of ancdata"  # the latter from a socket that passes a file on
LOST_RANK = r"(gloo|NCCL).*(closed|reset|peer|pipe|remote process|aborted|[Tt]imed out|[Tt]imeout)"
KILLED_WORKER = r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)"


def explain_composition(error: Exception, config_name: str, arguments: Sequence[str]) -> str | None:
    """Return the line for an error of composing conf/<config_name>.yaml; None if it is not a user mistake."""
    for cause in exception_chain(error):  # OmegaConf wraps the errors of resolvers
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark:
            return explain_yaml(cause, cause.problem_mark)
        if isinstance(cause, UnicodeDecodeError) and (file := find_undecodable()):
            return f"{display_path(file)}: not UTF-8 ({cause.reason}); save it as UTF-8"
    message = next(filter(None, map(first_lines, exception_chain(error))), "")  # Hydra's own may be empty
    if isinstance(error, OverrideParseException) and "while evaluating" not in message:  # a function such as choice()
        return explain_syntax(error.override, config_name)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return unknown_choice(group, choice, error.options)
    if merged := re.match(r"Error merging override ([\w.]+)=(.*)", message):
        group = merged[1].replace(".", "/")
        if is_group(group):
            return f"{merged[1]}: is a config group; use {group}={merged[2]}"
        return f"{merged[1]}={merged[2]}: invalid value; see --cfg job"
    if unknown := re.match(r"Could not override '([^']+)'", message):
        return explain_unknown_key(unknown[1], known_keys(error), arguments)
    if isinstance(error, ValueError) and "Config group override" in message:
        given = [text for text in arguments if "[" not in text and is_group(text.partition("=")[0])]
        wrong = [text for text in given if not config_file(text.replace("=", "/", 1)).exists()]
        return f"{', '.join(wrong)}: is a config group; set it to one of its choices, see --help"
    if entry := invalid_default(error):
        return f"{entry}: not GROUP: NAME; write both as text, and quote a name such as 'on', which is no text in YAML"
    if isinstance(error, ValueError) and "Invalid defaults list" in message:
        return f"{message}; write a list there, as in the other files"
    if isinstance(error, ValueError) and "completion plugin" in message:
        return f"--shell-completion: {message}; use install=bash"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return f"{message.rstrip('.')}; see --help"
    if isinstance(error, OSError):
        return f"outputs: cannot create the run folder ({error}); use another outputs=DIR"
    return None


def explain_syntax(argument: str, config_name: str) -> str:
    """Return the line for an argument that Hydra cannot parse."""
    key, equals, _ = argument.partition("=")
    if not equals:
        return f"{argument}: not a setting; use {meant_by(argument, config_name)}, see --help"
    if not re.fullmatch(r"[~+]*[\w./@:-]+", key, re.ASCII):
        return f"{argument}: invalid key {key!r}; use letters from a to z, digits, _ and ."
    return f"{argument}: invalid value; close brackets and quotes, and quote other text, as in \"{key}='TEXT'\""


def meant_by(argument: str, config_name: str) -> str:
    """Return the setting for an argument without a key: most likely a path."""
    config = OmegaConf.load(config_file(config_name))
    texts = [config, *(OmegaConf.load(config_file(str(name))) for name in config.defaults if name == "finished_run")]
    path = Path(argument)
    if "images" in config:
        return f"images={argument}"
    if any("run" in text for text in texts) and (not path.exists() or (path / "config.yaml").exists()):
        return f"run={argument}"
    if (path / "config.yaml").exists():
        return f"resume={argument}"
    if path.is_dir():
        return f"data=folder data.root={argument}"
    found = (group for group in find_groups(config.defaults) if argument in [file.stem for file in choices(group)])
    return next((f"{group}={argument}" for group in found), "KEY=VALUE")


def explain_yaml(error: yaml.MarkedYAMLError, place: yaml.Mark) -> str:
    """Return the line for a config file that is not valid YAML, with the place of the error."""
    return f"{display_path(place.name)}, line {place.line + 1}: not valid YAML ({error.problem}); correct this line"


def find_undecodable() -> Path | None:
    """Return the first config file that is not UTF-8."""
    for file in (file for folder in groups.CONFIG_DIRS for file in sorted(folder.rglob("*.yaml"))):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return file
    return None


def explain_unknown_key(key: str, known: Iterable[str], arguments: Sequence[str]) -> str:
    """Return the line for a key that the config does not have; the choice of a group may add it."""
    from pytorch_intro.config.validate import unknown_key

    names = key.split(".")
    for depth in range(1, len(names)):
        group, paths = "/".join(names[:depth]), (".".join(names[depth:]), key)
        possible = []
        for file in choices(group):
            with suppress(yaml.YAMLError, ValueError, OSError):  # a broken file, which is not the one in question
                content = OmegaConf.load(file)  # its keys are those of the group, or with @package _global_ full ones
                if any(OmegaConf.select(content, path) is not None for path in paths):
                    possible.append(file.stem)
        if possible and any(re.match(rf"{group}=[^\[]+,", text) for text in arguments):
            return f"{key}: unknown setting without its {group}; in a sweep over {group}, use ++{key}=VALUE"
        if possible:
            return f"{key}: unknown setting; it needs {' or '.join(f'{group}={choice}' for choice in possible[:2])}"
    return unknown_key(key, [name for name in known if name != key])


def explain_failure(error: Exception, config: DictConfig) -> tuple[str, int] | None:
    """Return the line for an error of a task and its exit code, 2 or 1; None if the error is not known.

    Raises:
        KeyboardInterrupt: after Ctrl-C, since an import that is interrupted may fail with any error.
    """
    if INTERRUPTED.is_set():
        raise KeyboardInterrupt from error
    # First, since functions that open a file blame the file.
    if any(re.search(OUT_OF_FILES, str(cause)) for cause in exception_chain(error)):
        return "too many open files; raise the limit with ulimit -n 4096, then rerun the same command", 1
    # The last is Lightning's for wrong arguments, by its name: importing Lightning takes seconds.
    if isinstance(error, UserError) or type(error).__name__ == "MisconfigurationException":
        return first_lines(error), 2
    if isinstance(error, OmegaConfBaseException):
        return f"{first_lines(error)}; see --cfg job", 2
    if isinstance(error, RuntimeError) and str(error).startswith("Early stopping conditioned on metric"):
        return f"callbacks: {first_lines(error)}", 2  # a metric of the user's own, which check_monitors cannot know
    line = explain_fault(error, config)
    return (line, 1) if line else None


def explain_fault(error: Exception, config: DictConfig) -> str | None:
    """Return the line for an error of the system; None if it is not known."""
    has_checkpoints = "resume" in config
    hint = "rerun the same command" + (" to resume from the last checkpoint" if has_checkpoints else "")
    for cause in exception_chain(error):
        if isinstance(cause, RunError):  # Lightning's cleanup may fail after it
            return str(cause)
        if isinstance(cause, FileNotFoundError) and has_checkpoints and not Path(config.run_dir).is_dir():
            moved = "the run folder was moved or removed during the run"
            return f"{config.run_dir}: {moved}; if you moved it, resume it with resume=DIR"
        if isinstance(cause, OSError) and cause.errno in DISK:
            explained = DISK[cause.errno].replace(";", f" ({cause.filename});" if cause.filename else ";")
            folder, other = config.run_dir, ""
            if config.get("output"):
                folder, other = Path(config.output).parent, ", or use another output=FILE"
            elif "run" in config:
                other = ", or copy the run to another folder and use run=DIR"
            return f"{folder}: {explained}, then {hint}{other}"
    settings, prefix = (config.data, "data.") if "data" in config else (config, "")
    if "batch_size" not in settings:  # a benchmark, whose trainings run in other processes and print their errors
        return None
    message = first_lines(error)
    # For the CPU, torch has no type of error.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and re.search(OUT_OF_MEMORY, message)):
        size, name = settings.batch_size, ", under a new name=NAME" if prefix else ""
        smaller = f"{prefix}batch_size={size // 2}{name}" if size > 1 else "a smaller data.image_size or model"
        details = message.split(";")[0].split(". ")[0] or "MemoryError"
        return f"{prefix}batch_size={size}: out of memory ({details}); try {smaller}"
    if isinstance(error, RuntimeError) and re.search(LOST_RANK, message):
        return f"{config.run_dir}: another rank of the training ended; see its own error, then {hint}"
    if worker := re.search(KILLED_WORKER, message):
        setting = f"{prefix}num_workers={settings.num_workers}: " if settings.num_workers else ""
        missing, remedy = "memory", "free some memory"
        if "Bus error" in message:
            missing, remedy = "shared memory", f"use {prefix}num_workers=0, or in Docker --shm-size=8g"
        return (
            f"{setting}DataLoader worker (pid {worker[1].strip()}) was killed, probably out of {missing}; {remedy}, "
            f"then {hint}"
        )
    return None
