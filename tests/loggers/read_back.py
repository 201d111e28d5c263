"""What the loggers have of a run, read by their own means."""

import csv
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

Curves = dict[str, list[tuple[int, float]]]

TIMED = ("epoch_seconds", "images_per_second")


def without_times(curves: Curves) -> Curves:
    """Return curves with measured times set to 0, without those that only TensorBoard's HPARAMS page has."""
    return {
        name: [(step, 0.0) for step, _ in some] if name in TIMED else some
        for name, some in curves.items()
        if not name.startswith("best/")
    }


def single(curves: Curves) -> Curves:
    """Return curves in single precision, as TensorBoard stores them."""
    return {
        name: [(step, struct.unpack("f", struct.pack("f", value))[0]) for step, value in some]
        for name, some in curves.items()
    }


def csv_curves(run: Path) -> Curves:
    curves: Curves = defaultdict(list)
    with (run / "csv" / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name != "step":
                    curves[name].append((int(row["step"]), float(value)))
    return {name: sorted(points) for name, points in curves.items()}


def tensorboard_curves(run: Path) -> Curves:
    """Return the curves of TensorBoard, without those of its pages."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("val_class_accuracy/")]
    return {tag: sorted((event.step, event.value) for event in events.Scalars(tag)) for tag in tags}


def mlflow_client(outputs: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{outputs}/mlflow.db")


def mlflow_runs(outputs: Path) -> list[Any]:
    client = mlflow_client(outputs)
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def mlflow_run(outputs: Path, name: str) -> Any:
    (run,) = [run for run in mlflow_runs(outputs) if run.info.run_name == name]
    return run


def mlflow_curves(outputs: Path, name: str) -> Curves:
    client, run = mlflow_client(outputs), mlflow_run(outputs, name)
    histories = {metric: client.get_metric_history(run.info.run_id, metric) for metric in run.data.metrics}
    return {metric: sorted((value.step, value.value) for value in some) for metric, some in histories.items()}


def wandb_records(run: Path) -> list[Any]:
    """Return the records of the only offline run in a run folder.

    Its file has LevelDB's log format: blocks of 32 KiB with parts of records, each after a checksum, length and kind.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    content, position, parts, records = file.read_bytes(), 7, b"", []
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            record = Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def wandb_history(run: Path) -> list[dict[str, Any]]:
    """Return the rows of the only offline run in a run folder, with nested keys joined by a slash."""
    import json

    rows = [record.history for record in wandb_records(run) if record.WhichOneof("record_type") == "history"]
    return [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in rows]


def wandb_curves(run: Path) -> Curves:
    curves: Curves = defaultdict(list)
    for row in wandb_history(run):
        for name, value in row.items():
            if isinstance(value, (int, float)) and not name.startswith(("_", "trainer/", "report/")):
                curves[name].append((row["trainer/global_step"], float(value)))
    return {name: sorted(points) for name, points in curves.items()}
