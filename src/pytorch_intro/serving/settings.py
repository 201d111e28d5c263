"""From the settings of src/serve.py to the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import numpy as np
from omegaconf import DictConfig
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.config.validate import check_item
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.inference.load import Predictor, load_from
from pytorch_intro.inference.predict import Invert, Preprocessor, predict
from pytorch_intro.serving.app import Service, read_card
from pytorch_intro.serving.batching import Batcher
from pytorch_intro.serving.monitoring import Monitoring
from pytorch_intro.serving.uploads import Limits
from pytorch_intro.training.hardware import choose_accelerator

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow refuses larger pictures


def check_settings(config: DictConfig) -> Limits:
    """Validate the settings of src/serve.py and return the limits; raise a UserError for an invalid value."""
    hints = {
        "host": str,
        "port": Annotated[int, Field(ge=0, le=65535)],
        "invert": Invert,
        "batch_size": PositiveInt,
        "trainer.accelerator": str,
        "allow": list[str],
        "limits.bytes": PositiveInt,
        "limits.pixels": Annotated[int, Field(gt=0, le=MAX_PIXELS)],
        "limits.files": PositiveInt,
        "limits.requests": PositiveInt,
        "limits.seconds": PositiveFloat,
    }
    for key, hint in hints.items():
        group, _, name = key.rpartition(".")
        check_item(config[group] if group else config, name, hint, key)
    return Limits(**config.limits)


@contextmanager
def open_service(run: FinishedRun, config: DictConfig, limits: Limits) -> Iterator[Service]:
    """Load the network of a run and start the thread that classifies."""
    predictor = Predictor(load_from(run)).to(choose_accelerator(config.trainer.accelerator))
    monitoring = Monitoring()

    def classify(images: list[np.ndarray]) -> list[list[float]]:
        monitoring.batch_size.observe(len(images))
        return predict(predictor, images).tolist()

    with Batcher(classify, config.batch_size) as batcher:
        yield Service(
            name=run.path.name,
            classes=to_display_names(run.inputs["classes"]),
            card=read_card(run.path),
            preprocess=Preprocessor(predictor.decoder, config.invert, run.inputs["border"]),
            batcher=batcher,
            limits=limits,
            monitoring=monitoring,
        )
