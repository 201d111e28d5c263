"""Read the pictures of a request, within limits and without a temporary file."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pytorch_intro.common.text import to_displayable

MAX_NAME = 200  # characters of a file name in answers
MAX_OTHER_FIELDS = 10  # of a form, which are ignored


@dataclass(frozen=True)
class Limits:
    """What a client may send.

    Args:
        bytes: Size of a request.
        pixels: Width times height of a picture.
        files: Pictures per request.
        requests: Requests that are read or wait for their predictions at the same time.
        seconds: Time that a client may take to send a request.
    """

    bytes: int
    pixels: int
    files: int
    requests: int
    seconds: float


class RequestError(Exception):
    """A request that is refused as a whole: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Upload(NamedTuple):
    """An uploaded file.

    Attributes:
        name: File name, or the position in the JSON list.
        error: Why the content is missing, or "".
    """

    name: str
    content: bytes
    error: str = ""


class ImagesRequest(BaseModel):
    """Pictures as JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: list[str]


class InMemoryParser(MultiPartParser):
    """Parser of multipart forms that never writes to a temporary file; the caller limits the size.

    Attributes:
        is_complete: Whether the form has arrived up to its last boundary.
    """

    spool_max_size = 0  # unlimited
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """Return the files of a request, at least one.

    Raises:
        RequestError: If the request cannot be read, has no file, or exceeds a limit.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    readers = {"multipart/form-data": read_form, "application/json": read_json}
    if kind not in readers:
        raise RequestError(415, f"Content-Type: use {' or '.join(readers)}")
    try:
        uploads = await asyncio.wait_for(readers[kind](request, limits), limits.seconds)
    except asyncio.TimeoutError:
        raise RequestError(408, f"the request did not arrive within {limits.seconds:g} seconds; send less") from None
    except ClientDisconnect:
        raise RequestError(400, "the connection was closed before the request was complete; send it again") from None
    if not uploads:
        raise RequestError(400, "the request has no pictures; send at least one, in files or images")
    return uploads


async def read_form(request: Request, limits: Limits) -> list[Upload]:
    """Return the files in the field `files` of a multipart form."""

    async def read_complete() -> AsyncGenerator[bytes, None]:
        async for chunk in read_limited(request, limits):
            yield chunk
        if not parser.is_complete:
            raise MultiPartException("it ends early.")

    parser = InMemoryParser(request.headers, read_complete(), max_files=limits.files, max_fields=MAX_OTHER_FIELDS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(400, f"the form cannot be read: {error.message}") from error
    files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
    uploads = [Upload(to_displayable(file.filename or "unnamed", MAX_NAME), await file.read()) for file in files]
    await form.close()
    return uploads


async def read_json(request: Request, limits: Limits) -> list[Upload]:
    """Return the pictures in {"images": [base64, …]}."""
    body = b"".join([chunk async for chunk in read_limited(request, limits)])
    try:
        images = ImagesRequest.model_validate_json(body).images
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise RequestError(400, f'the JSON is not {{"images": [base64, …]}}: {problem}') from error
    if len(images) > limits.files:
        raise RequestError(400, f"the request has {len(images)} pictures; send at most {limits.files}")
    return [from_base64(f"images[{index}]", text) for index, text in enumerate(images)]


def from_base64(name: str, text: str) -> Upload:
    """Decode one picture, which may be a data URL and may have line breaks."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return Upload(name, base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        return Upload(name, b"", error="not base64; encode the bytes of the image file")


async def read_limited(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request in chunks, up to the limit of its size."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.bytes:
            raise RequestError(
                413, f"the request is larger than {limits.bytes:,} bytes; send fewer or smaller pictures"
            )
        yield chunk
