"""A stand-in for the training of jobs, for claims about sweeps: it takes no time and writes the files of a run."""

from omegaconf import DictConfig

from pytorch_intro.runs.folder import Result, RunFolder


def score(config: DictConfig) -> float:
    """Return the accuracy of an instant job, in which a small learning rate and a large seed are better."""
    return 0.5 - config.optimizer.lr / 10 + config.seed / 1000


def finish_at_once(config: DictConfig, run: RunFolder) -> Result:
    """Do what src/train.py does with a run folder, without training."""
    if finished := run.recorded_result(config):
        return finished
    run.begin(config)
    accuracy = score(config)
    # The best job by accuracy is the worst one by loss, so that a test sees the difference.
    result = {"name": run.path.name, "val/accuracy": accuracy, "val/loss": accuracy, "test/accuracy": accuracy}
    result |= {"epochs": 1, "parameters": 1, "total_seconds": 0.1}
    run.finish(result)
    return result


def fail_at_once(config: DictConfig, run: RunFolder) -> Result:
    run.begin(config)
    raise RuntimeError("it is broken")
