"""Log to MLflow: to a database such as outputs/mlflow.db, or to a server."""

import functools
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers import MLFlowLogger as LightningMLFlowLogger

from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.errors import UserError, check_installed
from pytorch_intro.config.paths import display_path
from pytorch_intro.loggers.journal import Row
from pytorch_intro.loggers.run_logger import MODEL_CARD, RunLogger
from pytorch_intro.loggers.sender import Sender, reason

log = logging.getLogger(__name__)

# MLflow would wait 120 seconds for an answer, eight times, send usage data to its makers, and print addresses.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the Sender tries again
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
KIND = {"mlflow.experimentKind": "custom_model_development"}  # of an experiment, for the UI
MAX_PARAMS, MAX_METRICS = 100, 1000  # per request, as MLflow's API allows
CLOSE_SECONDS, MODEL_SECONDS = 15.0, 600.0  # longest wait for one request at the end of a run, without and with a model
MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 5000  # characters


class MLFlowLogger(RunLogger, LightningMLFlowLogger):
    """Lightning's MLFlowLogger, except that it sends in the background and continues the run of a resumed training.

    Args:
        save_dir: Run folder.
        tracking_uri: Database, sqlite:///PATH, or address of a server, http://HOST:5000.
        experiment_name: Experiment that the runs belong to.
        artifact_location: Folder of the files that are logged to a database; a server has its own.
        tags: Further tags of the run.
        log_model: Whether to log best.ckpt.
    """

    _run_id: Any  # a text, or None before the run starts

    def __init__(
        self,
        save_dir: str,
        tracking_uri: str,
        experiment_name: str = "pytorch-intro",
        artifact_location: str | None = None,
        tags: dict[str, str] | None = None,
        log_model: bool = False,
    ) -> None:
        uses_database = urlsplit(tracking_uri).scheme.partition("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")
        check_installed("logger=mlflow", ["mlflow", *(["sqlalchemy", "alembic"] if uses_database else [])], "mlflow")
        RunLogger.__init__(self, save_dir, "mlflow", log_model)
        self.own_tags = tags or {}
        if not is_rank_zero():  # the client would open the database
            Logger.__init__(self)
            return
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self.setting = f"logger.mlflow.tracking_uri={without_password(tracking_uri)}"
        try:
            if uses_database:
                connect(tracking_uri)
            import mlflow  # noqa: F401  # sets the level of its log

            logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # tracebacks of errors that the Sender reports
            location = None if not uses_database else artifact_location
            with lock_database(tracking_uri) if uses_database else nullcontext():
                LightningMLFlowLogger.__init__(
                    self, experiment_name, tracking_uri=tracking_uri, save_dir=save_dir, artifact_location=location
                )
                self._mlflow_client.search_experiments(max_results=1)
        except Exception as error:  # of any client or database
            remedy = "start the server, or use another address"
            if tracking_uri.startswith("sqlite"):
                remedy = "if the file is damaged, move it away, or use another address"
            raise UserError(f"{self.setting}: not reached ({reason(error)}); {remedy}") from error

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client. The first access starts the run, or continues it."""
        if not self._initialized:
            from mlflow.exceptions import MlflowException

            try:
                self.start()
            except (MlflowException, ValueError, OSError) as error:
                raise UserError(f"{self.setting}: {reason(error)}; use another experiment or address") from error
        return self._mlflow_client

    def start(self) -> None:
        from mlflow.entities import Param, RunTag

        client, tags = self._mlflow_client, self.run_tags()
        identity = self.load_identity()
        run = self.find_run(identity)
        self._experiment_id = run.info.experiment_id if run else self.find_experiment()
        if run is None:
            run = client.create_run(self._experiment_id, run_name=tags["name"])
        self._run_id = run.info.run_id
        self.save_identity(tracking_uri=without_password(self._tracking_uri), run_id=self._run_id)
        later = f"send them later with python -m pytorch_intro.loggers.send {display_path(self.run.path)}"
        self.sender = Sender(self.setting, self.send_rows, is_rejected, later)
        rows = self.open(is_new=identity is None)
        self._initialized = True
        params = {re.sub(r"[^\w\-. :/]", "_", key)[:MAX_KEY]: str(value) for key, value in self.settings().items()}
        new = [Param(key, value[:MAX_PARAM]) for key, value in params.items() if key not in run.data.params]
        for start in range(0, len(new), MAX_PARAMS):
            client.log_batch(self._run_id, params=new[start : start + MAX_PARAMS])
        commit = {"mlflow.source.git.commit": tags["git_commit"]} if "git_commit" in tags else {}
        source = {"mlflow.source.name": "train", "mlflow.source.type": "LOCAL", **commit}
        named = source | {key: value for key, value in tags.items() if key != "name"} | self.own_tags
        client.log_batch(self._run_id, tags=[RunTag(key, value[:MAX_TAG]) for key, value in named.items()])
        client.update_run(self._run_id, status="RUNNING")
        log.info(f"MLflow: run {tags['name']} ({self._run_id}) in {without_password(self._tracking_uri)}")
        for row in rows:
            self.sender.put(row)
        self.sender.start()

    def find_run(self, identity: Mapping[str, str] | None) -> Any:
        """Return MLflow's run of a resumed training; None if there is none, or if it was deleted."""
        from mlflow.exceptions import MlflowException

        if identity is None or identity.get("tracking_uri") != without_password(self._tracking_uri):
            return None
        try:
            run = self._mlflow_client.get_run(identity["run_id"])
        except MlflowException as error:
            if error.get_http_status_code() != 404:
                raise
        else:
            if run.info.lifecycle_stage == "active":
                return run
        log.warning(f"MLflow: run {identity['run_id']} was deleted; a new one gets everything")
        return None

    def find_experiment(self) -> str:
        """Return the id of the experiment, which is created if it does not exist."""
        from mlflow.exceptions import MlflowException

        client = self._mlflow_client
        found = client.get_experiment_by_name(self._experiment_name)
        if found is None:
            with suppress(MlflowException):  # another job of a sweep was faster
                return client.create_experiment(self._experiment_name, self._artifact_location, KIND)
            found = client.get_experiment_by_name(self._experiment_name)
        if found is None or found.lifecycle_stage != "active":
            raise ValueError(f"the experiment {self._experiment_name} was deleted, or cannot be created")
        return found.experiment_id

    @functools.cached_property
    def known_points(self) -> set[tuple[str, int]]:
        """Name and step of every value that the server has of earlier rows; such values are not sent again."""
        names = {name for row in self.journal.earlier for name in row.metrics}
        histories = {name: self._mlflow_client.get_metric_history(self._run_id, name) for name in sorted(names)}
        return {(name, value.step) for name, values in histories.items() for value in values}

    def send(self, row: Row) -> None:
        self.sender.put(row)

    def send_rows(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(1000 * row.time), row.step)
            for row in rows
            for name, value in row.metrics.items()
            if (name, row.step) not in self.known_points
        ]
        for start in range(0, len(metrics), MAX_METRICS):
            self._mlflow_client.log_batch(self._run_id, metrics=metrics[start : start + MAX_METRICS])

    def send_files(self, files: list[Path], pictures: list[Path], model: Path | None) -> None:
        def send() -> None:
            for path in (*files, *pictures):
                self._mlflow_client.log_artifact(self._run_id, str(path))
                if path.name == MODEL_CARD:  # shown as the description of the run
                    self._mlflow_client.set_tag(self._run_id, "mlflow.note.content", description(path)[:MAX_TAG])
            if model:
                self._mlflow_client.log_artifact(self._run_id, str(model), "checkpoints")

        self.sender.put(send)

    def end(self, status: str) -> None:
        self.sender.put(lambda: self._mlflow_client.set_terminated(self._run_id, status))
        self.sender.close(timeout=MODEL_SECONDS if self.has_model else CLOSE_SECONDS)

    @property
    def name(self) -> str:
        return self._experiment_name

    @property
    def version(self) -> str | None:
        return self._run_id


def connect(uri: str) -> None:
    """Connect to a database once, or raise an error; MLflow would try again for minutes."""
    import sqlalchemy

    address = sqlalchemy.make_url(uri)
    if file := database_file(uri):
        file.parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(address)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1" if engine.name != "sqlite" else "PRAGMA schema_version"))
    engine.dispose()


def database_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for another one."""
    import sqlalchemy

    address = sqlalchemy.make_url(uri)
    is_file = address.get_backend_name() == "sqlite" and address.database not in (None, "", ":memory:")
    return Path(str(address.database)) if is_file else None


def lock_database(uri: str) -> AbstractContextManager[Any]:
    """Lock the file of an SQLite database; two runs that create its tables at once would leave it unusable."""
    from filelock import FileLock

    file = database_file(uri)
    return FileLock(file.with_name(f".{file.name}.lock")) if file else nullcontext()


def without_password(uri: str) -> str:
    """Return an address without the user and the password in it."""
    return re.sub(r"//[^/]*@", "//", uri)


def description(card: Path) -> str:
    """Return the text of a model card, without its front matter and figures, which MLflow does not show."""
    text = re.sub(r"\A---\n.*?\n---\n", "", card.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"^!\[.*\n\n?", "", text, flags=re.MULTILINE).lstrip()


def is_rejected(error: Exception) -> bool:
    """Return whether the server answered that a request is wrong, so that it need not be sent again."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and 400 <= error.get_http_status_code() < 500
