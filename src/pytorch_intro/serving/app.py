"""The REST API and the pages, as an ASGI application."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pytorch_intro.common.text import to_displayable
from pytorch_intro.common.version import __version__
from pytorch_intro.data.ingest.parallel import ALL_CORES
from pytorch_intro.inference.predict import Preprocessor
from pytorch_intro.serving.batching import Batcher
from pytorch_intro.serving.html import page
from pytorch_intro.serving.monitoring import Monitoring, MonitoringMiddleware
from pytorch_intro.serving.pictures import PictureError, decode
from pytorch_intro.serving.uploads import MAX_NAME, ImagesRequest, Limits, RequestError, Upload, read_uploads

MAX_CARD = 2**20  # bytes
NO_HEAT_MAPS = (
    "no heat maps, since the network has no map of features whose positions are places in the image; "
    "use a run with a convolutional network or a vision transformer"
)


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
    """The name of the run, and whether /explain has heat maps; the server answers."""

    status: str
    run: str
    explain: bool


class Markdown(PlainTextResponse):
    media_type = "text/markdown"


class Png(Response):
    media_type = "image/png"


PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Predictions, "description": "At least one of the uploads is classified"},
    400: {"model": Problem, "description": "The request cannot be read, has no picture, or too many"},
    408: {"model": Problem, "description": "The request did not arrive in time"},
    413: {"model": Problem, "description": "The request is too large"},
    415: {"model": Problem, "description": "Neither a form nor JSON"},
    422: {"model": NoPicture, "description": "None of the uploads is a readable picture"},
    503: {"model": Problem, "description": "Too many requests in progress, or the server is stopping"},
}
EXPLAIN_DESCRIPTIONS = {status: response["description"] for status, response in RESPONSES.items()} | {
    422: "No readable picture, an unknown label, or a network without heat maps"
}
EXPLAIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": PROBLEM}  # a model would be documented as PNG
    for status, description in EXPLAIN_DESCRIPTIONS.items()
} | {
    200: {
        "description": "The picture in gray, as the network sees it, under the colors of the heat map",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
    }
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
        explainer: Maps pixels and a class to a PNG file with the heat map; None if the network has none.
    """

    name: str
    classes: Sequence[str]
    card: str | None
    preprocess: Preprocessor
    batcher: Batcher[np.ndarray, list[float]]
    explainer: Batcher[tuple[np.ndarray, int], bytes] | None
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
        except asyncio.CancelledError:  # by the server, which stops
            raise RequestError(503, "the server is stopping; send the request again later") from None
        finally:
            self.num_requests -= 1
            self.monitoring.waiting.set(self.num_requests)

    async def decode(self, upload: Upload) -> np.ndarray:
        """Return the pixels of an upload, uint8 (C, H, W); raise a PictureError if it has none."""
        try:
            if upload.error:
                raise PictureError(upload.error)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self.decoders, decode, upload.content, self.preprocess, self.limits.pixels
            )
        except PictureError:
            self.monitoring.failed_images.inc()
            raise

    async def classify(self, upload: Upload) -> Prediction | Failure:
        """Return the prediction for an upload, or why there is none."""
        try:
            pixels = await self.decode(upload)
        except PictureError as error:
            return Failure(file=upload.name, error=str(error))
        probabilities = await asyncio.wrap_future(self.batcher.submit(pixels))
        shares = {name: round(share, 6) for name, share in zip(self.classes, probabilities, strict=True)}
        label = self.classes[max(range(len(self.classes)), key=probabilities.__getitem__)]  # before rounding
        self.monitoring.images.labels(label).inc()
        return Prediction(file=upload.name, label=label, probability=shares[label], probabilities=shares)

    async def explain(self, upload: Upload, label: str | None) -> bytes:
        """Return a PNG file with the heat map of a class, None for the predicted one; raise a RequestError if none."""
        if self.explainer is None:
            raise RequestError(422, NO_HEAT_MAPS)
        if label is not None and label not in self.classes:
            raise RequestError(422, f"label={to_displayable(label, MAX_NAME)}: not a class; see /labels")
        try:
            pixels = await self.decode(upload)
        except PictureError as error:
            raise RequestError(422, f"{upload.name}: {error}") from error
        if label is None:
            probabilities = await asyncio.wrap_future(self.batcher.submit(pixels))
            target = int(np.argmax(probabilities))
        else:
            target = self.classes.index(label)
        return await asyncio.wrap_future(self.explainer.submit((pixels, target)))


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

    one_picture = replace(service.limits, files=1)

    @app.exception_handler(RequestError)
    async def on_request_error(request: Request, error: RequestError) -> Response:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.exception_handler(HTTPException)
    def on_http_error(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": f"{error.detail}; see /docs"}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    def on_internal_error(request: Request, error: Exception) -> Response:  # the server logs the traceback
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

    @app.post(
        "/explain",
        summary="Get the heat map of a picture",
        response_class=Png,
        responses=EXPLAIN_RESPONSES,
        openapi_extra={"requestBody": request_body(one_picture)},
    )
    async def explain(
        request: Request,
        label: Annotated[str | None, Query(description="Class to explain; without it, the predicted one.")] = None,
    ) -> Response:
        """Send one picture as to /predict: the PNG shows where the evidence for a class is, red the most."""
        with service.admit():
            (upload,) = await read_uploads(request, one_picture)
            return Png(await service.explain(upload, label))

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
        return Health(status="ok", run=service.name, explain=service.explainer is not None)

    @app.get("/metrics", summary="Get the counters for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.monitoring.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def request_body(limits: Limits) -> dict[str, Any]:
    """Return the OpenAPI of the two forms in which pictures are sent."""
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
