"""Every request gets a documented answer: predictions as by predict.py, or one sentence."""

import asyncio
import base64
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from conftest import NO_PICTURES, Command, train_here, write_images
from fastapi import FastAPI
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from pytorch_intro.config.paths import CONFIG_DIR
from pytorch_intro.config.resolvers import register_resolvers
from pytorch_intro.inference.explain import heat_maps
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.serving import app as serving
from pytorch_intro.serving import settings as serving_settings
from pytorch_intro.serving.app import NO_HEAT_MAPS, NoPicture, Predictions, Problem, Service, build_app
from pytorch_intro.serving.pictures import decode
from pytorch_intro.serving.server import listen, serve
from pytorch_intro.serving.settings import check_settings, open_service

SMALL = {"bytes": 200_000, "pixels": 1_000_000, "files": 4, "requests": 3, "seconds": 60}  # limits
JSON = "application/json"
Headers = dict[str, str]


@dataclass
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: Headers
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


END, DISCONNECT = {"type": "http.request", "body": b""}, {"type": "http.disconnect"}


class Client:
    """Calls an ASGI application in this process."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def __call__(
        self, path: str, body: bytes | None = None, kind: str = JSON, after: Sequence[dict[str, Any]] = (END,)
    ) -> Answer:
        """Get a path, or post a body; `after` are the messages of the server that follow it."""
        path, _, query = path.partition("?")
        return asyncio.run(self.request(path, query, body, kind, after))

    async def request(
        self, path: str, query: str, body: bytes | None, kind: str, after: Sequence[dict[str, Any]]
    ) -> Answer:
        waiting = iter([{"type": "http.request", "body": body or b"", "more_body": True}, *after])
        answer = self.answer = Answer(0, {}, b"")

        async def receive() -> Any:
            if message := next(waiting, None):
                return message
            return await asyncio.Event().wait()  # for ever

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            answer.body += message.get("body", b"")

        method = "GET" if body is None else "POST"
        headers = [(b"content-type", kind.encode("latin-1"))] if body is not None else []
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        await self.app(scope, receive, send)
        return answer

    def upload(self, *files: tuple[str, bytes], field: str = "files") -> Answer:
        """Post files as a form."""
        return self("/predict", form(*files, field=field), FORM)

    def images(self, *texts: str) -> Answer:
        """Post texts as JSON."""
        return self("/predict", json.dumps({"images": texts}).encode())


FORM = "multipart/form-data; boundary=border"


def form(*files: tuple[str, bytes], field: str = "files") -> bytes:
    head = b'--border\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'
    return b"".join(head % (field.encode(), name.encode(), content) for name, content in files) + b"--border--\r\n"


def picture(kind: str = "png", size: tuple[int, int] = (20, 10), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    image = Image.linear_gradient("L").resize(size).convert(mode)
    image.save(file, kind)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG file that claims a size; its pixels are missing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def tiff_of_tiles(width: int, height: int) -> bytes:
    """Return a TIFF of 10 x 10 pixels in one tile of another size, deflated."""
    tile = zlib.compress(bytes(width * height))
    values = {
        256: 10,
        257: 10,
        258: 8,
        259: 8,
        262: 1,
        277: 1,
        322: width,
        323: height,
        324: 8,
        325: len(tile),
    }
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + struct.pack("<H", len(values)) + tags + bytes(4)


def run_length_bmp(bits: int) -> bytes:
    """Return a BMP of 4 x 2 pixels with run-length encoding."""
    runs, palette = b"\x04\x01\0\0" * 2 + b"\0\x01", bytes(4 * 2**bits)
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, bits, {8: 1, 4: 2}[bits], len(runs), 0, 0, 2**bits, 0)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


@contextmanager
def service_of(run: Path) -> Iterator[Service]:
    register_resolvers()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        limits = [f"limits.{name}={value}" for name, value in SMALL.items()]
        config = hydra.compose("serve", [f"run_dir={run}", "trainer.accelerator=cpu", *limits])
    GlobalHydra.instance().clear()
    with open_service(FinishedRun(run), config, check_settings(config)) as service:
        yield service


@pytest.fixture(scope="module")
def service(finished_run: Path) -> Iterator[Service]:
    with service_of(finished_run) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> Client:
    return Client(build_app(service))


@pytest.fixture(scope="module")
def documented(client: Client) -> dict[str, Any]:
    """Return the answers to POST /predict that the OpenAPI has, by status."""
    return client("/openapi.json").content["paths"]["/predict"]["post"]["responses"]


def assert_documented(answer: Answer, documented: dict[str, Any]) -> None:
    """Assert that the OpenAPI has this status with this content, and that an error is one sentence."""
    assert str(answer.status) in documented, answer
    (schema,) = documented[str(answer.status)]["content"][answer.headers["content-type"]].values()
    model = {model.__name__: model for model in (Predictions, NoPicture, Problem)}[schema["$ref"].rpartition("/")[2]]
    parsed = model.model_validate_json(answer.body, strict=True)
    for problem in (parsed, *getattr(parsed, "predictions", ())):
        sentence = getattr(problem, "error", "a sentence")
        assert 5 < len(sentence) < 400, sentence
        assert sentence.isprintable(), sentence


def test_predictions_are_those_of_predict(client: Client, run_copy: Path, script: Command, tmp_path: Path) -> None:
    names = ["a.png", "b.jpg", "c.bmp"]
    write_images(tmp_path, *names, size=(50, 40), mode="RGB")
    answer = client.upload(*((name, (tmp_path / name).read_bytes()) for name in names))
    assert answer.status == 200
    predictions = answer.content["predictions"]
    assert [prediction["file"] for prediction in predictions] == names
    assert script("predict", f"run={run_copy}", f"images={tmp_path}/*.*", "trainer.accelerator=cpu").code == 0
    rows = (run_copy / "predictions.csv").read_text().splitlines()[1:]
    for prediction, row in zip(predictions, rows, strict=True):
        path, label, probability = row.split(",")
        assert (Path(path).name, label) == (prediction["file"], prediction["label"])
        assert prediction["probability"] == pytest.approx(float(probability), abs=2e-6)
        assert prediction["probability"] == max(prediction["probabilities"].values())
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert [*prediction["probabilities"]] == client("/labels").content["labels"]


def test_explain_returns_the_heat_map_of_the_predicted_or_a_given_class(client: Client) -> None:
    """Another class has another map."""
    (prediction,) = client.upload(("a.png", picture())).content["predictions"]
    classes = client("/labels").content["labels"]
    answers = {label: client(f"/explain?label={label}", form(("a.png", picture())), FORM) for label in classes[1:]}
    answers[classes[0]] = client(
        f"/explain?label={classes[0]}", json.dumps({"images": [base64.b64encode(picture()).decode()]}).encode()
    )
    predicted = client("/explain", form(("a.png", picture())), FORM)
    for answer in (predicted, *answers.values()):
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(predicted.body)) as image:
        assert image.size == (224, 224)
        assert np.ptp(np.asarray(image).astype(int), axis=2).max() > 50, "colors over the gray picture"
    assert predicted.body == answers[prediction["label"]].body
    assert len({answer.body for answer in answers.values()}) > 1
    assert client("/health").content["explain"] is True


@pytest.mark.parametrize(
    ("path", "files", "status", "sentence"),
    [
        ("/explain", [("a.txt", b"some text")], 422, "a.txt: not a picture; send JPEG"),
        ("/explain", [("a.png", picture())] * 2, 400, "Maximum number of files is 1"),
        ("/explain?label=no%20such", [("a.png", picture())], 422, "label=no such: not a class; see /labels"),
        ("/explain", [("a.png", bytes(200_001))], 413, "larger than 200,000 bytes"),
    ],
    ids=["no picture", "two pictures", "unknown label", "too large"],
)
def test_explain_refuses_with_one_sentence(
    path: str, files: list[tuple[str, bytes]], status: int, sentence: str, client: Client
) -> None:
    answer = client(path, form(*files), FORM)
    assert answer.status == status
    assert sentence in answer.content["error"]
    responses = client("/openapi.json").content["paths"]["/explain"]["post"]["responses"]
    assert_documented(answer, responses)


def test_a_network_without_places_has_no_heat_maps_and_still_predicts(tmp_path: Path) -> None:
    short = ["trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=none", *NO_PICTURES]
    train_here("data=sample", "model=mlp", *short, "name=mlp", f"outputs={tmp_path}")
    with service_of(tmp_path / "mlp") as service:
        client = Client(build_app(service))
        answer = client("/explain", form(("a.png", picture())), FORM)
        assert (answer.status, answer.content) == (422, {"error": NO_HEAT_MAPS})
        assert client("/health").content["explain"] is False, "so that the page hides its button"
        assert client.upload(("a.png", picture())).status == 200


def test_nothing_is_predicted_while_a_heat_map_is_computed(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heat map hooks the network."""
    predictions: list[futures.Future[list[float]]] = []

    def heat_maps_under_load(*arguments: Any) -> Tensor:
        prediction = service.batcher.submit(pixels)
        assert not futures.wait([prediction], timeout=0.1).done
        predictions.append(prediction)
        return heat_maps(*arguments)

    monkeypatch.setattr(serving_settings, "heat_maps", heat_maps_under_load)
    with service_of(finished_run) as service:
        assert service.explainer
        pixels = decode(picture(), service.preprocess, 10_000)
        assert service.explainer.submit((pixels, 0)).result(60).startswith(b"\x89PNG")
    (prediction,) = predictions
    assert len(prediction.result(60)) == 10


def test_json_gives_the_predictions_of_a_form(client: Client) -> None:
    text = base64.b64encode(picture()).decode()
    wrapped = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    answer = client.images(text, f"data:image/png;base64,{text}", wrapped)
    assert answer.status == 200
    (expected,) = client.upload(("a.png", picture())).content["predictions"]
    for index, prediction in enumerate(answer.content["predictions"]):
        assert prediction["file"] == f"images[{index}]"
        assert prediction["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-6)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm", "jpeg2000"])
def test_common_formats_are_read(kind: str, client: Client) -> None:
    assert client.upload((f"a.{kind}", picture(kind))).status == 200


def test_a_tiff_in_tiles_is_read(client: Client) -> None:
    assert client.upload(("a.tif", tiff_of_tiles(16, 16))).status == 200


def test_one_readable_picture_is_enough(client: Client) -> None:
    answer = client.upload(("broken.png", picture()[:-30]), ("good.png", picture()), ("notes.txt", b"some text"))
    assert answer.status == 200
    broken, good, text = answer.content["predictions"]
    assert broken["file"] == "broken.png"
    assert "broken" in broken["error"]
    assert good["label"] in good["probabilities"]
    assert "not a picture" in text["error"]


BAD_FILES = {
    "empty": (b"", "empty; send"),
    "text": (b"this is no picture", "not a picture; send JPEG"),
    "truncated": (picture()[:-30], "broken .*; save it again"),
    "EPS, which would start a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture; send"),
    "too many pixels": (bomb(1001, 1000), "1,001 x 1,000 pixels; send a picture of at most 1,000,000 pixels"),
    "decompression bomb": (bomb(60_000, 60_000), "far too many pixels; send a picture of at most 1,000,000 pixels"),
    "too large a tile": (
        tiff_of_tiles(2000, 1000),
        "tiles of 2,000 x 1,000 pixels; send a picture of at most 1,000,000",
    ),
    "a wide tile": (
        tiff_of_tiles(1_000_016, 16),
        "tiles of 1,000,016 x 16 pixels; send a picture of",
    ),
    "PBM as text": (b"P1 2 2\n0 1 1 0\n", "slow to read; save it as PNG"),
    "PGM as text": (b"P2 2 2 255\n0 1 1 0\n", "slow to read; save it as PNG"),
    "PPM as text": (b"P3 1 2 255\n0 1 1 0 5 5\n", "slow to read; save it as PNG"),
    "PGM with other bits": (b"P5 2 2 99\nabcd", "slow to read; save it as PNG"),
    "run lengths of 8 bits": (run_length_bmp(8), "slow to read; save it as PNG"),
    "run lengths of 4 bits": (run_length_bmp(4), "slow to read; save it as PNG"),
    "no pixels": (bomb(0, 0), "not a picture; send"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_422_with_one_sentence(name: str, client: Client, documented: dict[str, Any]) -> None:
    content, sentence = BAD_FILES[name]
    answer = client.upload(("bad.png", content))
    assert answer.status == 422
    assert_documented(answer, documented)
    assert re.search(sentence, answer.content["error"])
    assert answer.content["error"].startswith("bad.png: ")


DEEP = b"[" * 100_000
BAD_REQUESTS = {
    "no body": (b"", JSON, 400, "JSON is not"),
    "no JSON": (b"hello", JSON, 400, "JSON is not"),
    "deep JSON": (DEEP, JSON, 400, "JSON is not"),
    "other JSON": (b"[]", JSON, 400, "JSON is not"),
    "a number": (b'{"images": [1]}', JSON, 400, "valid string"),
    "another key": (b'{"images": ["eA=="], "top_k": 3}', JSON, 400, "not permitted"),
    "not UTF-8": (b'{"images": ["\xff"]}', JSON, 400, "JSON is not"),
    "no images": (b'{"images": []}', JSON, 400, "no pictures; send at least one"),
    "too many images": (json.dumps({"images": ["eA=="] * 5}).encode(), JSON, 400, "5 pictures; send at most 4"),
    "wrong base64": (b'{"images": ["???"]}', JSON, 422, "not base64; encode"),
    "beyond ASCII": ('{"images": ["\u00e9"]}'.encode(), JSON, 422, "not base64; encode"),
    "half a surrogate": (rb'{"images": ["\ud800"]}', JSON, 400, "JSON is not"),
    "too many files": (form(*[("a.png", b"")] * 5), FORM, 400, "Maximum number of files is 4"),
    "another field": (form(("a.png", picture()), field="file"), FORM, 400, "no pictures; send at least one, in files"),
    "text in files": (form(("", b"x")).replace(b'; filename=""', b""), FORM, 400, "no pictures"),
    "no boundary": (form(("a.png", picture())), "multipart/form-data", 400, "[Mm]issing boundary"),
    "another boundary": (form(("a.png", picture())), "multipart/form-data; boundary=x", 400, "cannot be read"),
    "no file name": (form(("", picture())).replace(b'name="files"; ', b""), FORM, 400, "cannot be read"),
    "cut off": (form(*[("a.png", picture())] * 2)[:-60], FORM, 400, "cannot be read: it ends early"),
    "without an end": (form(("a.png", picture()))[:-4], FORM, 400, "cannot be read: it ends early"),
    "too large a form": (form(("a.png", bytes(200_001))), FORM, 413, "larger than 200,000 bytes; send fewer"),
    "too large a JSON": (b" " * 200_001, JSON, 413, "larger than 200,000 bytes; send fewer"),
    "no type": (picture(), "", 415, "use multipart/form-data or application/json"),
    "another type": (picture(), "image/png", 415, "use multipart/form-data or application/json"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_one_sentence(name: str, client: Client, documented: dict[str, Any]) -> None:
    body, kind, status, sentence = BAD_REQUESTS[name]
    answer = client("/predict", body, kind)
    assert answer.status == status, answer
    assert_documented(answer, documented)
    assert re.search(sentence, answer.content["error"]), answer.content


def test_a_slow_request_gets_408(service: Service, documented: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "limits", replace(service.limits, seconds=0.01))

    client = Client(build_app(service))
    answer = client("/predict", form(("a.png", picture()))[:60], FORM, after=())
    assert answer.status == 408
    assert_documented(answer, documented)


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize("step", ["read", "decode", "classify"])
def test_a_request_that_the_server_cancels_gets_503(
    path: str, step: str, service: Service, documented: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server stops, uvicorn cancels it, and then asyncio again."""
    client = Client(build_app(service))
    body = form(("a.png", picture()))
    submitted = []

    def submit(*_: Any) -> futures.Future[Any]:
        submitted.append(step)
        return futures.Future()  # never done

    if step != "read":
        monkeypatch.setattr({"decode": service.decoders, "classify": service.batcher}[step], "submit", submit)

    async def cancel() -> Answer:
        sent, after = (body[:60], ()) if step == "read" else (body, (END,))
        task = asyncio.create_task(client.request(path, "", sent, FORM, after))
        while not (service.num_requests if step == "read" else submitted):
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        return await task

    answer = asyncio.run(cancel())
    assert answer.status == 503
    assert answer.content["error"].startswith("the server is stopping; ")
    assert service.num_requests == 0
    if path == "/predict":
        assert_documented(answer, documented)


def serve_here(
    service: Service, client: Callable[[tuple[str, int]], None], header_seconds: float = 60, **options: Any
) -> None:
    """Serve on a port of this process until the client, a function of the address in a thread, ends."""

    def run(address: tuple[str, int]) -> None:
        try:
            client(address)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, lambda *_: None)  # the server raises it again
    try:
        with listen("127.0.0.1", 0) as listener, futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(run, listener.getsockname())
            serve(build_app(service), listener, header_seconds, **options)
            running.result()
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_stopping_server_answers_a_half_sent_request(service: Service) -> None:
    """After the grace, here none; not in plain text, as uvicorn answers a canceled request."""
    answers = []

    def client(address: tuple[str, int]) -> None:
        connection = http.client.HTTPConnection(*address, timeout=60)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", FORM)
        connection.putheader("Content-Length", "5000")
        connection.endheaders(form(("a.png", picture()))[:60])
        other = http.client.HTTPConnection(*address, timeout=60)
        other.request("GET", "/health")  # by its answer, the server reads the other request
        assert other.getresponse().status == 200
        os.kill(os.getpid(), signal.SIGTERM)
        answer = connection.getresponse()
        answers.append((answer.status, json.load(answer)))
        connection.close()
        other.close()

    serve_here(service, client, grace=0)
    assert answers == [(503, {"error": "the server is stopping; send the request again later"})]


@pytest.mark.parametrize("sent", ["nothing", "a part", "a part, byte by byte", "a part of the second request"])
def test_a_connection_without_whole_headers_is_closed(sent: str, service: Service) -> None:
    """A request whose body takes longer is answered."""
    head = b"GET /health HTTP/1.1\r\nHost: a\r\n"

    def client(address: tuple[str, int]) -> None:
        with socket.create_connection(address, timeout=60) as connection:
            if sent == "a part of the second request":
                connection.sendall(head + b"\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
            if sent != "nothing":
                connection.sendall(head)
            if sent == "a part, byte by byte":
                connection.settimeout(0.01)
            with suppress(ConnectionError):  # the server may close before it reads the last byte
                while True:
                    with suppress(TimeoutError):
                        received = connection.recv(4096)
                        assert not received.startswith(b"HTTP/")
                        if not received:
                            break
                    if sent == "a part, byte by byte":
                        connection.sendall(b"a")

    serve_here(service, client, header_seconds=0.2)


def test_the_time_for_headers_does_not_limit_the_body_and_the_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body is completed after a second connection, opened later, has run into the limit."""

    def client(address: tuple[str, int]) -> None:
        body = form(("a.png", picture()))
        with socket.create_connection(address, timeout=60) as connection:
            headers = f"Host: a\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(b"POST /predict HTTP/1.1\r\n" + headers.encode() + body[:60])
            with socket.create_connection(address, timeout=60) as other:
                assert other.recv(1) == b""
            connection.sendall(body[60:])
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")

    serve_here(service, client, header_seconds=0.2)


def test_a_connection_that_ends_early_leaves_no_request_in_progress(client: Client, service: Service) -> None:
    answer = client("/predict", form(("a.png", picture()))[:60], FORM, after=[DISCONNECT])
    assert answer.status == 400
    assert service.num_requests == 0


def test_requests_beyond_the_limit_get_503(
    client: Client, service: Service, documented: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "num_requests", SMALL["requests"])
    answer = client.upload(("a.png", picture()))
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert_documented(answer, documented)
    monkeypatch.setattr(service, "num_requests", SMALL["requests"] - 1)
    assert client.upload(("a.png", picture())).status == 200


def broken_copies(count: int, generator: random.Random) -> Iterator[bytes]:
    """Yield image files with changed, missing and added bytes, and random bytes."""
    originals = [picture(kind) for kind in ("png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm", "jpeg2000")]
    for number in range(count):
        content = bytearray(generator.choice(originals))
        if number % 4 == 0:
            content = content[: generator.randrange(len(content))]
        elif number % 4 == 1:
            content[8:] = generator.randbytes(generator.randrange(200))
        for _ in range(generator.randrange(1, 8)):
            if content:
                content[generator.randrange(len(content))] = generator.randrange(256)
        yield bytes(content)


def test_a_thousand_broken_uploads_get_a_documented_answer(client: Client, documented: dict[str, Any]) -> None:
    """Every third body is a form that is itself broken, every third is JSON; some pictures are still readable."""
    generator = random.Random(0)
    statuses: Counter[int] = Counter()
    for number, content in enumerate(broken_copies(1000, generator)):
        if number % 3 == 0:
            answer = client.images(base64.b64encode(content).decode()[: generator.choice([None, -1])])
        else:
            body = bytearray(form((f"{number}.png", content)))
            if number % 3 == 1:
                body[generator.randrange(len(body))] = generator.randrange(256)
            answer = client("/predict", bytes(body), FORM)
        assert_documented(answer, documented)
        statuses[answer.status] += 1
    assert statuses.keys() == {200, 400, 422}
    assert statuses[422] > 500


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.just("images") | st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ANY_JSON | st.fixed_dictionaries({"images": st.lists(st.text(), max_size=5)}))
def test_any_json_gets_a_documented_answer(client: Client, documented: dict[str, Any], value: Any) -> None:
    answer = client("/predict", json.dumps(value).encode())
    assert_documented(answer, documented)
    assert answer.status in (400, 422)


def test_a_large_upload_stays_in_memory(service: Service, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starlette's default is a temporary file from 1 MB on."""

    def refuse(file: Any) -> None:
        raise AssertionError("written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    monkeypatch.setattr(service, "limits", replace(service.limits, bytes=10_000_000))
    large = picture("bmp", (1000, 1000))
    assert len(large) > 2**20
    before = {path: path.stat() for path in finished_run.rglob("*")}
    assert Client(build_app(service)).upload(("a.bmp", large)).status == 200
    assert {path: path.stat() for path in finished_run.rglob("*")} == before


def test_an_unexpected_error_gets_500_without_details(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.batcher, "function", lambda images: 1 / 0)
    client = Client(build_app(service))
    with pytest.raises(ZeroDivisionError):  # the server logs it
        client.upload(("a.png", picture()))
    assert client.answer.status == 500
    assert client.answer.content == {"error": "the server failed; see its log"}


def test_other_paths_and_methods_get_a_sentence(client: Client) -> None:
    assert client("/nowhere").content == {"error": "Not Found; see /docs"}
    assert client("/predict").status == 405
    assert client("/predict").headers["allow"] == "POST"


def test_metrics_count_requests_and_images(finished_run: Path) -> None:
    with service_of(finished_run) as service:
        client = Client(build_app(service))
        (prediction,) = client.upload(("a.png", picture())).content["predictions"]
        client.upload(("a.png", b"no picture"))
        client("/nowhere")
        text = client("/metrics").body.decode()
    for line in (
        'requests_total{path="/predict",status="200"} 1.0',
        'requests_total{path="/predict",status="422"} 1.0',
        'requests_total{path="other",status="404"} 1.0',
        'request_seconds_count{path="/predict"} 2.0',
        f'images_total{{label="{prediction["label"]}"}} 1.0',
        "failed_images_total 1.0",
        "batch_size_count 1.0",
        "requests_waiting 0.0",
    ):
        assert f"\npytorch_intro_{line}\n" in text
    assert "\nprocess_resident_memory_bytes " in text


def test_the_card_is_that_of_the_run(client: Client, finished_run: Path) -> None:
    answer = client("/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.body == (finished_run / "README.md").read_bytes()


def test_a_card_that_links_elsewhere_is_not_shown(run_copy: Path, tmp_path: Path) -> None:
    """A run folder from somebody else could link to any file of this computer."""
    (tmp_path / "secret").write_text("secret")
    (run_copy / "README.md").unlink()
    assert serving.read_card(run_copy) is None
    (run_copy / "README.md").symlink_to(tmp_path / "secret")
    assert serving.read_card(run_copy) is None


def test_pages_allow_their_own_script_and_nothing_from_elsewhere(client: Client) -> None:
    for path in ("/", "/docs"):
        answer = client(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert not re.findall(r"""(?:src|href|url|action)\W{1,3}(?:https?:)?//""", answer.body.decode())
        assert answer.headers["x-content-type-options"] == "nosniff"
