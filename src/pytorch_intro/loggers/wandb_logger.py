"""Log to Weights & Biases, at wandb.ai or your own server, or offline into the run folder."""

import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger

from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.errors import UserError, check_installed
from pytorch_intro.common.files import remove
from pytorch_intro.config.paths import display_path
from pytorch_intro.loggers.journal import Row
from pytorch_intro.loggers.run_logger import MODEL_CARD, RunLogger, plain_config
from pytorch_intro.loggers.sender import reason

log = logging.getLogger(__name__)

STEP = "trainer/global_step"  # x-axis of all charts, as Lightning names it
EXIT_CODES = {"FINISHED": 0, "FAILED": 1, "KILLED": 255}  # 255 is W&B's own for Ctrl-C
WRITE_FILES = "write files only with logger.wandb.offline=true"
START_SECONDS = 30  # longest wait for the server at the start
FINISH_SECONDS, FINISH_SECONDS_WITH_MODEL = 30, 600  # and at the end


class WandbLogger(RunLogger, LightningWandbLogger):
    """Lightning's WandbLogger, except that it continues the run of a resumed training, online and offline.

    W&B numbers the rows of a run and accepts a number once: here it is the number of the row in the journal. An offline
    run cannot be continued: a resumed one is written again from the journal, and replaces the one before.

    Args:
        save_dir: Run folder; W&B's files are in its subfolder wandb.
        project: Project that the runs belong to.
        entity: User or team; None: the default of your account.
        tags: Further tags of the run.
        offline: Whether to write files only; `wandb sync` uploads them.
        log_model: Whether to log best.ckpt.
    """

    _experiment: Any  # W&B's Run

    def __init__(
        self,
        save_dir: str,
        project: str = "pytorch-intro",
        entity: str | None = None,
        tags: list[str] | None = None,
        offline: bool = False,
        log_model: bool = False,
    ) -> None:
        check_installed("logger=wandb", ["wandb"], "wandb")
        RunLogger.__init__(self, save_dir, "wandb", log_model)
        LightningWandbLogger.__init__(self, save_dir=save_dir, project=project, offline=offline)
        self.entity = entity
        self.own_tags = tags or []
        self.is_broken = False
        if is_rank_zero() and not offline and os.environ.get("WANDB_MODE", "online") == "online":
            check_account()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run. The first access starts or continues it."""
        if self._experiment is None:
            self.start()
        return self._experiment

    def start(self) -> None:
        import wandb

        tags = self.run_tags()
        identity = self.load_identity()
        run_id = identity["id"] if identity else uuid.uuid4().hex[:12]
        seconds = FINISH_SECONDS_WITH_MODEL if self.has_model else FINISH_SECONDS
        try:
            run = wandb.init(
                project=self._project,
                entity=self.entity,
                id=run_id,
                name=tags["name"],
                group=tags.get("sweep"),
                tags=[tags["sweep"][:64], *self.own_tags] if "sweep" in tags else self.own_tags,
                dir=self.save_dir,
                mode="offline" if self._offline else None,
                resume=None if self._offline else "allow",
                reinit="finish_previous",
                settings=wandb.Settings(
                    silent=True,
                    console="off",  # train.log has it
                    init_timeout=START_SECONDS,
                    finish_timeout=seconds,
                    finish_timeout_raises=True,
                ),
            )
        except Exception as error:  # of W&B's many kinds
            raise not_reached(error) from error
        self._experiment = run
        self.save_identity(id=run_id)
        rows = self.open(is_new=identity is None)
        described = {key: value for key, value in tags.items() if key != "name" and not key.startswith("extended.")}
        run.config.update({**plain_config(self.run), "run": described}, allow_val_change=True)
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        for row in rows:
            if row.metrics:  # not the row of the pictures
                self.send(row)
        if run.offline:
            for old in self.folder.glob(f"offline-run-*-{run_id}*"):  # of starts in the same second: …-1
                if old != Path(run.dir).parent:
                    remove(old)
        place = display_path(Path(run.dir).parent) if run.offline else run.url
        log.info(f"W&B: run {tags['name']} ({run_id}) in {place}")

    def send(self, row: Row) -> None:
        if row.number >= self._experiment.step:  # otherwise W&B has it from before the training was killed
            self.try_to(self.log_row, row, {**row.metrics, STEP: row.step, "_timestamp": row.time})

    def log_row(self, row: Row, values: dict[str, Any]) -> None:
        self._experiment.log(values, step=row.number, commit=True)

    def try_to(self, log_something: Callable[..., None], *values: Any) -> None:
        """Call a function of this logger; whatever error W&B raises, training continues, with one warning."""
        if self.is_broken:
            return
        try:
            log_something(*values)
        except Exception as error:
            self.is_broken = True
            log.warning(f"logger.wandb: {reason(error)}; training continues without it")

    def send_files(self, files: list[Path], pictures: list[Path], model: Path | None) -> None:
        self.try_to(self.log_files, files, pictures, model)

    def log_files(self, files: list[Path], pictures: list[Path], model: Path | None) -> None:
        import wandb

        run = self._experiment
        for path in files:
            copy = Path(run.dir, "run", path.name)  # W&B has a config.yaml of its own
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
            run.save(str(copy), base_path=run.dir, policy="now")
            if path.name == MODEL_CARD:
                run.notes = path.read_text(encoding="utf-8")
        if model:
            artifact = wandb.Artifact(f"model-{run.id}", type="model")
            artifact.add_file(str(model))
            run.log_artifact(artifact, aliases=["best"])
        images = {f"report/{path.stem}": wandb.Image(str(path)) for path in pictures}
        self.log_row(self.journal.append(0, {}), images)

    def end(self, status: str) -> None:
        try:
            self._experiment.finish(exit_code=EXIT_CODES[status])
        except Exception as error:
            remedy = f"upload the rest with wandb sync {display_path(Path(self._experiment.dir).parent)}"
            log.warning(f"logger.wandb: not everything was uploaded ({reason(error)}); {remedy}")

    @property
    def version(self) -> str | None:
        return self._experiment.id if self._experiment else None


def check_account() -> None:
    """Raise a UserError unless the server can be reached and accepts the API key."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        if wandb.login(verify=True, prompt=False):
            return
    except wandb.errors.Error as error:
        raise not_reached(error) from error
    raise UserError(f"logger.wandb: no API key; run wandb login, set WANDB_API_KEY, or {WRITE_FILES}")


def not_reached(error: Exception) -> UserError:
    return UserError(f"logger.wandb: {reason(error)}; check the network and WANDB_API_KEY, or {WRITE_FILES}")
