"""The REST API and the pages, as an ASGI application."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pytorch_intro.common.version import __version__
from pytorch_intro.data.ingest.parallel import ALL_CORES
from pytorch_intro.inference.predict import Preprocessor
from pytorch_intro.serving.batching import Batcher
from pytorch_intro.serving.html import page
from pytorch_intro.serving.monitoring import Monitoring, MonitoringMiddleware
from pytorch_intro.serving.pictures import PictureError, decode
from pytorch_intro.serving.uploads import ImagesRequest, Limits, RequestError, Upload, read_uploads

MAX_CARD = 2**20  # bytes


class Prediction(BaseModel):
    """A classified picture; the probabilities are of every class."""

    file: str
    label: str
    probability: float
    probabilities: dict[str, float]


class Failure(BaseModel):
    """An upload that is not a readable picture, and why, in one sentence."""

    file: str
    error: str


class Predictions(BaseModel):
    """The results, in the order of the uploads."""

    predictions: list[Prediction | Failure]


class Problem(BaseModel):
    """Why a request was refused, in one sentence."""

    error: str


class NoPicture(Problem):
    """Why no upload is a readable picture: the first one in a sentence, and each."""

    predictions: list[Failure]


class Labels(BaseModel):
    """Class names, in the order of the network's output."""

    labels: list[str]


class Health(BaseModel):
    """The name of the run; the server answers."""

    status: str
    run: str


class Markdown(PlainTextResponse):
    media_type = "text/markdown"


PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Predictions, "description": "At least one of the uploads is classified"},
    400: {"model": Problem, "description": "The request cannot be read, has no picture, or too many"},
    408: {"model": Problem, "description": "The request did not arrive in time"},
    413: {"model": Problem, "description": "The request is too large"},
    415: {"model": Problem, "description": "Neither a form nor JSON"},
    422: {"model": NoPicture, "description": "None of the uploads is a readable picture"},
    503: {"model": Problem, "description": "Too many requests in progress"},
}


@dataclass
class Service:
    """What the API serves.

    Args:
        name: Name of the run.
        classes: Class names, unique.
        card: Model card as Markdown; None if the run has none.
        preprocess: Converts a picture to the network's input.
        batcher: Maps pixels, uint8 (C, H, W), to the probability of each class.
    """

    name: str
    classes: Sequence[str]
    card: str | None
    preprocess: Preprocessor
    batcher: Batcher[np.ndarray, list[float]]
    limits: Limits
    monitoring: Monitoring

    def __post_init__(self) -> None:
        self.decoders = ThreadPoolExecutor(ALL_CORES, "decoder")
        self.num_requests = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request while it is in progress; raise a RequestError if too many are."""
        if self.num_requests >= self.limits.requests:
            raise RequestError(503, "the server is busy; send the request again in a second")
        self.num_requests += 1
        self.monitoring.waiting.set(self.num_requests)
        try:
            yield
        finally:
            self.num_requests -= 1
            self.monitoring.waiting.set(self.num_requests)

    async def classify(self, upload: Upload) -> Prediction | Failure:
        """Return the prediction for an upload, or why there is none."""
        try:
            if upload.error:
                raise PictureError(upload.error)
            loop = asyncio.get_running_loop()
            pixels = await loop.run_in_executor(
                self.decoders, decode, upload.content, self.preprocess, self.limits.pixels
            )
        except PictureError as error:
            self.monitoring.failed_images.inc()
            return Failure(file=upload.name, error=str(error))
        probabilities = await asyncio.wrap_future(self.batcher.submit(pixels))
        shares = {name: round(share, 6) for name, share in zip(self.classes, probabilities, strict=True)}
        label = max(shares, key=shares.__getitem__)
        self.monitoring.images.labels(label).inc()
        return Prediction(file=upload.name, label=label, probability=shares[label], probabilities=shares)


def build_app(service: Service) -> FastAPI:
    """Return the application; see docs/serving.md for its paths."""
    app = FastAPI(
        title="PyTorch Intro",
        version=__version__,
        description=f"Classifies pictures with the run {service.name}.",
        docs_url=None,  # FastAPI's own pages load scripts from a CDN
        redoc_url=None,
    )
    app.add_middleware(MonitoringMiddleware, monitoring=service.monitoring)

    @app.exception_handler(RequestError)
    def refuse(request: Request, error: RequestError) -> Response:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.exception_handler(HTTPException)
    def explain(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": f"{error.detail}; see /docs"}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    def apologize(request: Request, error: Exception) -> Response:  # the server logs the traceback
        return JSONResponse({"error": "the server failed; see its log"}, 500)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return page("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page("docs.html")

    @app.post(
        "/predict",
        summary="Classify pictures",
        responses=RESPONSES,
        openapi_extra={"requestBody": request_body(service.limits)},
    )
    async def predict(request: Request) -> Response:
        """Send pictures as a form with the field files, one or many, or as JSON in base64."""
        with service.admit():
            uploads = await read_uploads(request, service.limits)
            results = await asyncio.gather(*map(service.classify, uploads))
        failures = [result for result in results if isinstance(result, Failure)]
        answer: dict[str, Any] = Predictions(predictions=[*results]).model_dump()
        if len(failures) < len(results):
            return JSONResponse(answer)
        first, more = failures[0], f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        return JSONResponse({"error": f"{first.file}: {first.error}{more}", **answer}, 422)

    @app.get("/labels", summary="List the classes")
    async def labels() -> Labels:
        return Labels(labels=[*service.classes])

    @app.get(
        "/card",
        summary="Get the model card",
        response_class=Markdown,
        responses={404: {"description": "The run has no model card", "content": PROBLEM}},
    )
    async def card() -> Response:
        if service.card is None:
            raise RequestError(404, "the run has no model card; see /labels")
        return Markdown(service.card)

    @app.get("/health", summary="Check that the server answers")
    async def health() -> Health:
        return Health(status="ok", run=service.name)

    @app.get("/metrics", summary="Get the counters for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.monitoring.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def request_body(limits: Limits) -> dict[str, Any]:
    """Return the OpenAPI of the two forms of a request to /predict."""
    count = {"type": "array", "minItems": 1, "maxItems": limits.files}
    forms = {
        "multipart/form-data": ("files", {"type": "string", "format": "binary"}),
        "application/json": (*ImagesRequest.model_fields, {"type": "string", "format": "byte", "minLength": 1}),
    }
    content: dict[str, Any] = {}
    for kind, (name, item) in forms.items():
        properties = {name: count | {"items": item}}
        content[kind] = {"schema": {"type": "object", "required": [name], "properties": properties}}
    content["application/json"]["schema"]["additionalProperties"] = False
    return {"required": True, "content": content}


def read_card(folder: Path) -> str | None:
    """Return the model card in a run folder; None if it has none.

    A link could show any file of this computer to visitors.
    """
    path = folder / "README.md"
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(MAX_CARD).decode(errors="replace")
