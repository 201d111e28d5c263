"""W&B and MLflow get what TensorBoard gets, also of runs that are killed; read back from real files and databases."""

import json
import re
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import FORKS, NO_PICTURES, TWO_SHORT_EPOCHS, Command, Killed, Process, read_summary, train_here
from read_back import (
    Curves,
    csv_curves,
    mlflow_client,
    mlflow_curves,
    mlflow_run,
    mlflow_runs,
    single,
    tensorboard_curves,
    wandb_curves,
    wandb_history,
    wandb_records,
    without_times,
)

# The tests import them: both together take seconds, which only one process of pytest-xdist needs.
pytestmark = pytest.mark.skipif(not all(map(find_spec, ("mlflow", "wandb"))), reason="needs mlflow and wandb")

TINY = [
    *TWO_SHORT_EPOCHS,
    *NO_PICTURES,
]
ALL = ["logger=[tensorboard,csv,mlflow,wandb]", "logger.wandb.offline=true"]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of MLflow without runs."""
    folder = tmp_path_factory.mktemp("database")
    mlflow_client(folder).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def _database(empty_database: Path, tmp_path: Path) -> None:
    """Start each test with a copy, since MLflow takes a second to create a database; `outputs` has a new one."""
    (tmp_path / "outputs").mkdir()
    shutil.copy(empty_database, tmp_path / "outputs")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the outputs of a whole run with all loggers, named first."""
    outputs = tmp_path_factory.mktemp("logged")
    train_here(*TINY, *ALL, "name=first", f"outputs={outputs}", "logger.mlflow.log_model=true")
    return outputs


def assert_same_curves(outputs: Path, name: str) -> Curves:
    """Assert that all loggers have the same points, and return them."""
    expected = without_times(tensorboard_curves(outputs / name))
    assert {"train/loss", "val/accuracy", "test/loss", "lr"} <= expected.keys()
    assert single(without_times(mlflow_curves(outputs, name))) == expected
    assert single(without_times(wandb_curves(outputs / name))) == expected
    of_pages = {"val/best_accuracy": expected["val/best_accuracy"]}
    assert single(without_times(csv_curves(outputs / name))) | of_pages == expected
    return expected


def test_all_loggers_get_the_same_metrics_at_the_same_steps(outputs: Path) -> None:
    assert_same_curves(outputs, "first")


def test_mlflow_gets_config_tags_figures_card_and_model(outputs: Path) -> None:
    client, run = mlflow_client(outputs), mlflow_run(outputs, "first")
    assert run.info.status == "FINISHED"
    assert (run.data.params["trainer.max_epochs"], run.data.params["model._target_"]) == (
        "2", "pytorch_intro.models.cnn.CNN",
    )  # fmt: skip
    result = json.loads((outputs / "first" / "result.json").read_text())
    assert run.data.tags["mlflow.source.git.commit"] == result["git_commit"]
    assert run.data.tags["command"] == result["command"]
    assert "sweep" not in run.data.tags
    assert run.data.tags["mlflow.note.content"].startswith("# first\n")
    assert not {"![", "library_name"} & set(run.data.tags["mlflow.note.content"].split())
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files >= {"README.md", "config.yaml", "train.log", "checkpoints"}
    (model,) = client.list_artifacts(run.info.run_id, "checkpoints")
    assert model.path == "checkpoints/best.ckpt"
    assert model.file_size == (outputs / "first" / "checkpoints" / "best.ckpt").stat().st_size


def test_wandb_gets_config_tags_figures_and_card(outputs: Path) -> None:
    records = wandb_records(outputs / "first")
    run = next(record.run for record in records if record.HasField("run"))
    assert (run.display_name, run.project, run.run_group) == ("first", "pytorch-intro", "")
    config: dict[str, Any] = {}
    for record in records:
        update = record.run.config if record.HasField("run") else record.config
        config |= {item.key: json.loads(item.value_json) for item in update.update}
    assert config["trainer"]["max_epochs"] == 2
    assert config["run"]["git_commit"] == json.loads((outputs / "first" / "result.json").read_text())["git_commit"]
    saved = {file.path for record in records if record.HasField("files") for file in record.files.files}
    assert saved >= {"run/README.md", "run/config.yaml", "run/train.log"}
    (card,) = (outputs / "first" / "wandb").glob("offline-run-*/files/run/README.md")
    assert card.read_text() == (outputs / "first" / "README.md").read_text()
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]


@pytest.mark.pictures
def test_figures_arrive(command: Command, tmp_path: Path) -> None:
    pictured = [argument for argument in TINY if argument not in NO_PICTURES]
    answer = command(*pictured, "callbacks.tensorboard=null", "logger=[mlflow,wandb]", "name=first")
    assert answer.code == 0, answer.err
    names = {"curves", "confusion_matrix", "reliability", "mistakes"}
    run = mlflow_run(tmp_path / "outputs", "first")
    files = {file.path for file in mlflow_client(tmp_path / "outputs").list_artifacts(run.info.run_id)}
    assert files >= {f"{name}.png" for name in names}
    images = wandb_history(tmp_path / "outputs" / "first")[-1]
    assert {name.split("/")[1] for name in images if name.startswith("report/")} == names


def test_after_kill_9_within_an_epoch_all_loggers_have_the_curves_of_a_whole_run(
    command: Command, tmp_path: Path, outputs: Path
) -> None:
    """MLflow has rows after the checkpoint, which are computed again; W&B's file has none, and is written again."""
    kill = {"_target_": "kill_run.KillRun", "marker": tmp_path / "killed", "batch": 9, "sent": "true"}
    arguments = [*TINY, *ALL, "name=killed", *(f"+callbacks.kill.{key}={value}" for key, value in kill.items())]
    # Not the service of this process, which would not notice that its client is killed.
    process = Process(*arguments, f"outputs={tmp_path / 'outputs'}", variables={"WANDB_SERVICE": ""})
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed = mlflow_run(tmp_path / "outputs", "killed")
    assert killed.info.status == "RUNNING"
    sent = mlflow_curves(tmp_path / "outputs", "killed")["lr"]
    assert [step for step, _ in sent] == list(range(1, 10))
    answer = command(*arguments)
    assert answer.code == 0, answer.err
    assert "resuming from" in answer.out
    assert assert_same_curves(tmp_path / "outputs", "killed") == without_times(tensorboard_curves(outputs / "first"))
    resumed = mlflow_run(tmp_path / "outputs", "killed")
    assert (resumed.info.run_id, resumed.info.status) == (killed.info.run_id, "FINISHED")


def test_rows_that_were_not_sent_before_a_kill_are_sent_by_the_resumed_run(
    command: Command, tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first checkpoint and after it, in one run that is interrupted twice."""
    from pytorch_intro.loggers.run_logger import RunLogger
    from pytorch_intro.loggers.sender import Sender
    from pytorch_intro.training.classifier import Classifier

    step = Classifier.training_step

    arguments = [*TINY, *ALL, "name=killed"]
    with monkeypatch.context() as patch:
        patch.setattr(Sender, "start", lambda self: None)  # sends nothing
        patch.setattr(RunLogger, "close", lambda *_: None)  # as kill -9
        for last in (3, 9):

            def killed(self: Classifier, images: Any, batch_idx: int, last: int = last) -> Any:
                if self.trainer.fit_loop.total_batch_idx == last:
                    raise Killed
                return step(self, images, batch_idx)

            patch.setattr(Classifier, "training_step", killed)
            with pytest.raises(Killed):
                command(*arguments)
    assert mlflow_curves(tmp_path / "outputs", "killed") == {}
    assert command(*arguments).code == 0
    assert assert_same_curves(tmp_path / "outputs", "killed") == without_times(tensorboard_curves(outputs / "first"))
    assert len(mlflow_runs(tmp_path / "outputs")) == 1


def test_a_run_that_is_trained_longer_continues_its_run(command: Command, tmp_path: Path) -> None:
    arguments = [*TINY, "logger=[tensorboard,mlflow,wandb]", "name=longer"]
    assert command(*arguments, "trainer.max_epochs=1").code == 0
    run, before = tmp_path / "outputs" / "longer", mlflow_curves(tmp_path / "outputs", "longer")
    assert command(f"resume={run}", "trainer.max_epochs=2").code == 0
    expected = without_times(tensorboard_curves(run))
    assert single(without_times(wandb_curves(run))) == expected
    logged = single(without_times(mlflow_curves(tmp_path / "outputs", "longer")))
    of_end = ("test/", "val/best", "epoch")  # logged by both tests
    assert {name: some for name, some in logged.items() if not name.startswith(of_end)} == {
        name: some for name, some in expected.items() if not name.startswith(of_end)
    }
    assert logged["test/accuracy"] == sorted([*single(before)["test/accuracy"], *expected["test/accuracy"]])
    tags = mlflow_run(tmp_path / "outputs", "longer").data.tags
    assert tags["extended.trainer.max_epochs"] == "2"


def test_logging_does_not_change_a_single_bit(command: Command, tmp_path: Path, outputs: Path) -> None:
    assert command(*TINY, "logger=none", "name=none").code == 0
    results = [json.loads((run / "result.json").read_text()) for run in (outputs / "first", tmp_path / "outputs/none")]
    assert results[0]["test/loss"] == results[1]["test/loss"]


@pytest.mark.parametrize(
    ("error", "status", "exit_code"),
    [(RuntimeError("broken"), "FAILED", 1), (KeyboardInterrupt(), "KILLED", 255), (SystemExit(143), "KILLED", 255)],
)
def test_a_run_that_fails_or_is_stopped_is_closed_as_such(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: str,
    exit_code: int,
) -> None:
    from pytorch_intro.training.classifier import Classifier

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Classifier, "training_step", fail)
    command(*TINY, "logger=[mlflow,wandb]", "name=first")
    assert mlflow_run(tmp_path / "outputs", "first").info.status == status
    if not isinstance(error, RuntimeError):  # then the run without a checkpoint is removed
        records = wandb_records(tmp_path / "outputs" / "first")
        assert [record.exit.exit_code for record in records if record.HasField("exit")] == [exit_code]


def test_jobs_of_a_sweep_are_runs_of_the_same_sweep(command: Command, tmp_path: Path) -> None:
    answer = command("-m", *TINY, "logger=[mlflow,wandb]", "trainer.max_epochs=1", "seed=0,1", "name=seeds")
    assert answer.code == 0, answer.err
    sweep = tmp_path / "outputs" / "sweeps" / "seeds"
    assert len(read_summary(sweep)) == 2
    runs = {run.info.run_name: run for run in mlflow_runs(tmp_path / "outputs")}
    assert runs.keys() == {"seed=0", "seed=1"}
    assert {run.data.tags["sweep"] for run in runs.values()} == {"seeds"}
    for name in runs:
        run = next(record.run for record in wandb_records(sweep / name) if record.HasField("run"))
        assert (run.display_name, run.run_group) == (name, "seeds")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logger=mlflow", "logger.mlflow.tracking_uri=http://127.0.0.1:9"],
         r"logger\.mlflow\.tracking_uri=http://127\.0\.0\.1:9: not reached \(.*refused.*\); start the server"),
        (["logger=mlflow", "logger.mlflow.tracking_uri='http://me:secret@127.0.0.1:9'"],
         r"logger\.mlflow\.tracking_uri=http://127\.0\.0\.1:9: not reached"),
        (["logger=mlflow", "logger.mlflow.tracking_uri=sqlite:////proc/none/mlflow.db"],
         r"logger\.mlflow\.tracking_uri=sqlite:////proc/none/mlflow\.db: not reached \(.*\); if .* move it away, or "),
        (["logger=mlflow", "logger.mlflow.tracking_uri=nothing://x"], r"tracking_uri=nothing://x: not reached \(.*\);"),
        (["logger=mlflow", "logger.mlflow.uri=x"], r"logger\.mlflow\.uri: unknown setting; did you mean"),
        (["logger=[mlflow,wandbb]"], r"wandbb"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_used_is_one_line_at_the_start(
    command: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    answer = command(*TINY, *arguments, "name=first")
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1
    assert re.search(message, answer.err), answer.err
    assert not (tmp_path / "outputs" / "first").exists()


def test_wandb_without_an_account_is_one_line_at_the_start(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    answer = command(*TINY, "logger=wandb", "name=first")
    assert answer.code == 2
    assert answer.err.startswith("error: logger.wandb: no API key; run wandb login, set WANDB_API_KEY, or")
    assert not (tmp_path / "outputs" / "first").exists()


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_missing_package_is_one_line_with_what_to_install(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else find(name, *a))
    answer = command(*TINY, f"logger={package}", "name=first")
    assert answer.code == 2
    wanted = rf"error: logger={package}: {package} not installed; run pip install .*{package}"
    assert re.fullmatch(wanted + r"(\.txt|\]')\n", answer.err), answer.err


def log_at_once(run: Path, database: Path, start: Any) -> None:
    """Create the logger of a run at the same time as the other process."""
    import mlflow  # noqa: F401  # takes seconds

    from pytorch_intro.loggers.mlflow_logger import MLFlowLogger

    start.wait(60)
    logger = MLFlowLogger(str(run), f"sqlite:///{database}")
    logger._mlflow_client.create_run(logger.find_experiment())


def test_runs_that_start_together_share_a_new_database(tmp_path: Path) -> None:
    """Creating its tables takes MLflow a second; two processes at once would leave it unusable."""
    database, start = tmp_path / "new" / "mlflow.db", FORKS.Barrier(2)
    runs = [FORKS.Process(target=log_at_once, args=(tmp_path / name, database, start)) for name in ("a", "b")]
    for run in runs:
        run.start()
    for run in runs:
        run.join(100)
    assert [run.exitcode for run in runs] == [0, 0]
    client = mlflow_client(database.parent)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert len(client.search_runs(experiments)) == 2


def test_with_two_ranks_only_rank_0_logs(tmp_path: Path) -> None:
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.threads=1"]
    arguments = [*(each for each in TINY if each != "trainer=cpu"), *ranks, "logger=[tensorboard,mlflow,wandb]"]
    process = Process(
        *arguments, "name=two", f"outputs={tmp_path / 'outputs'}", variables={"WANDB_SERVICE": ""}, processes=1
    )
    process.communicate()
    assert process.returncode == 0
    expected = without_times(tensorboard_curves(tmp_path / "outputs" / "two"))
    assert {"train/loss", "test/accuracy"} <= expected.keys()
    assert single(without_times(mlflow_curves(tmp_path / "outputs", "two"))) == expected
    assert single(without_times(wandb_curves(tmp_path / "outputs" / "two"))) == expected
    assert len(mlflow_runs(tmp_path / "outputs")) == 1


def test_a_server_that_goes_away_does_not_stop_training(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are two warnings: of the first failure, and of what could not be sent, which can be sent later."""
    from mlflow.tracking import MlflowClient

    from pytorch_intro.loggers import send

    log_batch = MlflowClient.log_batch

    def fail(self: MlflowClient, run_id: str, metrics: Any = (), **values: Any) -> None:
        if metrics:
            raise ConnectionError("connection refused")
        log_batch(self, run_id, metrics, **values)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        answer = command(*TINY, "logger=[tensorboard,mlflow]", "name=first")
    assert answer.code == 0, answer.err
    assert answer.out.count("not reached (connection refused); training continues") == 1
    assert re.search(r"mlflow\.db: \d+ rows could not be sent; .*pytorch_intro\.loggers\.send", answer.out)
    before = mlflow_run(tmp_path / "outputs", "first")
    assert (before.info.status, before.data.metrics) == ("RUNNING", {})
    send.main([str(tmp_path / "outputs" / "first")])
    after = mlflow_run(tmp_path / "outputs", "first")
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    logged = single(without_times(mlflow_curves(tmp_path / "outputs", "first")))
    assert logged == without_times(tensorboard_curves(tmp_path / "outputs" / "first"))


def test_sending_later_needs_a_finished_run_with_mlflow(command: Command, tmp_path: Path, outputs: Path) -> None:
    from pytorch_intro.common.errors import UserError
    from pytorch_intro.loggers import send

    for folder, message in ((tmp_path, "file not found"), (outputs / "first" / "wandb", "file not found")):
        with pytest.raises(UserError, match=message):
            send.main([str(folder)])
    assert command(*TINY, "logger=none", "trainer.max_epochs=1", "name=none").code == 0
    with pytest.raises(UserError, match="did not log to MLflow"):
        send.main([str(tmp_path / "outputs" / "none")])
    with pytest.raises(UserError, match="usage:"):
        send.main([])


def test_wandb_gets_no_row_twice_when_its_server_has_it_already(tmp_path: Path) -> None:
    """The number of the next row that the server accepts is run.step."""
    from types import SimpleNamespace

    from pytorch_intro.loggers.wandb_logger import WandbLogger

    sent: list[tuple[int, dict[str, float]]] = []
    logger = WandbLogger(str(tmp_path), offline=True)
    logger._experiment = SimpleNamespace(step=2, log=lambda values, step, commit: sent.append((step, values)))
    logger.open(is_new=True)
    for step in (10, 20, 30):
        logger.log_metrics({"lr": 0.1}, step)
    logger.is_open = False
    logger.journal.close()
    (number, values) = sent.pop()
    assert not sent
    assert (number, values["lr"], values["trainer/global_step"]) == (2, 0.1, 30)


def test_an_error_of_wandb_does_not_stop_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from types import SimpleNamespace

    from pytorch_intro.loggers.wandb_logger import WandbLogger

    def fail(*_: Any, **__: Any) -> None:
        raise BrokenPipeError("the service is gone")

    logger = WandbLogger(str(tmp_path), offline=True)
    logger._experiment = SimpleNamespace(step=0, log=fail, finish=lambda exit_code: None)
    logger.open(is_new=True)
    for step in (10, 20, 30):
        logger.log_metrics({"lr": 0.1}, step)
    logger.close("FINISHED")
    assert caplog.messages == ["logger.wandb: the service is gone; training continues without it"]
