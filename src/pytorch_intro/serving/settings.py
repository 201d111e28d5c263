"""From the settings of src/serve.py to the service."""

import io
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Annotated

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt

from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.analysis.plots import to_pil_images
from pytorch_intro.common.errors import UserError
from pytorch_intro.config.validate import check_item
from pytorch_intro.inference.explain import BATCH, check_explainable, heat_maps, network_view, overlay
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.inference.load import Predictor, load_from
from pytorch_intro.inference.predict import Invert, Preprocessor, predict
from pytorch_intro.serving.app import NO_HEAT_MAPS, Service, read_card
from pytorch_intro.serving.batching import Batcher
from pytorch_intro.serving.monitoring import Monitoring
from pytorch_intro.serving.uploads import Limits
from pytorch_intro.training.hardware import choose_accelerator

log = logging.getLogger(__name__)

HEAT_MAP_SIDE = 224  # pixels; smaller pictures are enlarged up to here, so that the heat map is smooth
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
    """Load the network of a run and start the threads that classify and explain."""
    predictor = Predictor(load_from(run)).to(choose_accelerator(config.trainer.accelerator))
    monitoring = Monitoring()

    lock = Lock()  # heat maps add hooks to the network: nothing else may use it then

    def classify(images: list[np.ndarray]) -> list[list[float]]:
        monitoring.batch_size.observe(len(images))
        with lock:
            return predict(predictor, images).tolist()

    def explain(items: list[tuple[np.ndarray, int]]) -> list[bytes]:
        pixels, classes = zip(*items, strict=True)
        images = torch.from_numpy(np.stack(pixels))
        with lock:
            heat = heat_maps(predictor, images, torch.tensor(classes))
        pictures = map(enlarge, to_pil_images(network_view(predictor, images)))
        return [to_png(overlay(picture, heat[row])) for row, picture in enumerate(pictures)]

    with ExitStack() as stack:
        explainer = None
        if has_heat_maps(predictor):
            explainer = stack.enter_context(Batcher(explain, min(config.batch_size, BATCH)))
        batcher = stack.enter_context(Batcher(classify, config.batch_size))
        yield Service(
            name=run.path.name,
            classes=to_display_names(run.inputs["classes"]),
            card=read_card(run.path),
            preprocess=Preprocessor(predictor.decoder, config.invert, run.inputs["border"]),
            batcher=batcher,
            explainer=explainer,
            limits=limits,
            monitoring=monitoring,
        )


def has_heat_maps(predictor: Predictor) -> bool:
    """Return whether the network has a spatial feature map; log if it has none."""
    try:
        check_explainable(predictor)
    except UserError:
        log.warning(NO_HEAT_MAPS)
        return False
    return True


def enlarge(picture: Image.Image) -> Image.Image:
    """Return a small picture a whole number of times as large."""
    factor = max(1, HEAT_MAP_SIDE // max(picture.size))
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def to_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()
