"""A real server process, asked by a real browser; and how it starts and ends."""

import base64
import http.client
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from conftest import FORKS, Command, run_command, write_images
from explained import assert_explained
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from pytorch_intro.config.paths import PROJECT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SERVE = str(PROJECT / "src" / "serve.py")


@dataclass
class Server:
    """A real process of `python src/serve.py`, with its URL and output file."""

    process: ForkServerProcess
    url: str
    out: Path

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid or 0, number)

    def end(self) -> int | None:
        self.process.join(100)
        return self.process.exitcode


@contextmanager
def running_server(run: Path, folder: Path) -> Iterator[Server]:
    """Start a server on a free port, wait until it is ready, and end it."""
    out = folder / "out"
    command = [SERVE, f"run={run}", "port=0", "trainer.accelerator=cpu"]
    process = FORKS.Process(target=run_command, args=(command, out, folder / "err", {}, None, 0))
    process.start()
    address: re.Match[str] | None = None
    while address is None:
        process.join(0.02)
        assert process.exitcode is None, (folder / "err").read_text()
        printed = out.read_text() if out.exists() else ""
        address = re.search(r"^serving \S+ at (http://127.0.0.1:\d+) ", printed, re.MULTILINE)
    try:
        yield Server(process, address[1], out)
    finally:
        process.kill()
        process.join()


@pytest.fixture(scope="module")
def server(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that the tests share."""
    with running_server(finished_run, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def browser_page(server: Server) -> Iterator[Page]:
    """Return a page of a browser, which records what it requests and its errors."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(base_url=server.url)
        page.set_default_timeout(15_000)
        yield page
        browser.close()


@pytest.fixture
def page(browser_page: Page, server: Server) -> Iterator[Page]:
    """Open the page; afterwards, assert that it requested nothing from elsewhere, and that no script failed."""
    urls: list[str] = []
    errors: list[str] = []
    listeners: dict[str, Callable[[Any], None]] = {
        "request": lambda request: urls.append(request.url),
        "console": lambda message: errors.append(message.text) if message.type == "error" else None,
        "pageerror": lambda error: errors.append(str(error)),
    }
    for event, listener in listeners.items():
        browser_page.on(event, listener)  # type: ignore[call-overload]
    browser_page.goto("/")
    yield browser_page
    for event, listener in listeners.items():
        browser_page.remove_listener(event, listener)
    assert any(url == f"{server.url}/" for url in urls)
    assert not [url for url in urls if not url.startswith((f"{server.url}/", f"blob:{server.url}/", "data:"))]
    assert not [error for error in errors if "422" not in error]  # the browser reports each 4xx


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    names = ["shoe.png", "shirt.jpg"]
    write_images(tmp_path, *names, size=(40, 30), mode="RGB")
    return [tmp_path / name for name in names]


def predict(server: Server, picture: Path) -> dict[str, Any]:
    """Return the server's prediction for a file."""
    body = json.dumps({"images": [base64.b64encode(picture.read_bytes()).decode()]}).encode()
    request = urllib.request.Request(f"{server.url}/predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"][0]


def give(page: Page, event: str, *files: Path) -> None:
    """Drop or paste files."""
    contents = [[file.name, list(file.read_bytes())] for file in files]
    code = """([event, files]) => {
        const data = new DataTransfer();
        for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name));
        const Kind = {drop: DragEvent, paste: ClipboardEvent}[event];
        const options = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
        document.body.dispatchEvent(new Kind(event, options));
    }"""
    page.evaluate(code, [event, contents])


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_pictures_that_are_dropped_or_pasted_get_labels_and_bars(
    event: str, page: Page, server: Server, pictures: list[Path]
) -> None:
    give(page, event, *pictures)
    results = page.locator("#results > li")
    expect(results.locator("h3")).to_have_count(2)
    for picture, result in zip(pictures, results.all(), strict=True):
        expected = predict(server, picture)
        expect(result.locator("figcaption")).to_have_text(picture.name)
        expect(result.locator("h3 span").first).to_have_text(expected["label"])
        expect(result.locator("h3 .number")).to_have_text(f"{100 * expected['probability']:.1f} %")
        expect(result.locator(".shares li")).to_have_count(10)  # every class, five of them folded
        (first, *_) = result.locator(".shares li").all()
        share = first.evaluate("li => li.querySelector('.track div').offsetWidth / li.offsetWidth")
        assert share == pytest.approx(expected["probability"], abs=0.02)


def test_why_shows_a_heat_map_next_to_the_picture_and_hides_it_again(page: Page, pictures: list[Path]) -> None:
    give(page, "drop", pictures[0])
    images = page.locator("#results img")
    button = page.get_by_role("button", name="Why? Heat map of shoe.png")
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(images).to_have_count(1)
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(images.nth(1)).to_have_js_property("naturalWidth", 224)
    label = page.locator("#results h3 span").first.inner_text()
    expect(page.locator("#status")).to_have_text(f"Evidence for {label}: red the most.")
    page.keyboard.press("Enter")
    expect(images).to_have_count(1)


def test_pictures_can_be_chosen_and_cleared_with_the_keyboard(page: Page, pictures: list[Path]) -> None:
    page.on("filechooser", lambda _: None)  # intercepted from here on: Playwright does not wait until it is
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.id") != "choose":
        page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    assert chooser.value.is_multiple()
    chooser.value.set_files(pictures)
    expect(page.locator("#results h3")).to_have_count(2)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press("Enter")
    expect(page.locator("#results > li")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "choose"


def test_a_broken_picture_shows_its_error_beside_the_others(
    page: Page, server: Server, pictures: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "<b>broken<b>.png"
    broken.write_bytes(b"no picture")
    give(page, "drop", broken, pictures[0])
    expect(page.locator("#results .error")).to_contain_text("not a picture; send JPEG")
    expect(page.locator("#results figcaption").first).to_have_text("<b>broken<b>.png")
    expect(page.locator("#results h3 span").first).to_have_text(predict(server, pictures[0])["label"])


def test_the_page_shows_the_classes_and_the_card(page: Page) -> None:
    expect(page).to_have_title("first")
    expect(page.locator("#classes li")).to_have_count(10)
    expect(page.locator("#card")).to_contain_text("test accuracy")
    expect(page.locator("#card h3").first).to_have_text("first")
    expect(page.locator("#card img")).to_have_count(0)


def test_a_card_cannot_run_scripts(page: Page) -> None:
    page.route(
        "**/card", lambda route: route.fulfill(body="# <img src=x onerror=alert(1)>\n\n<script>alert(2)</script>")
    )
    page.reload()
    expect(page.locator("#card")).to_contain_text("<script>alert(2)</script>")
    assert page.locator("#card img, #card script").count() == 0
    page.unroute("**/card")


@pytest.mark.parametrize(("width", "columns"), [(360, 1), (1200, 3)], ids=["phone", "desktop"])
def test_the_page_fits_a_phone_and_a_desktop(width: int, columns: int, page: Page, pictures: list[Path]) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    give(page, "drop", *pictures, *pictures)
    expect(page.locator("#results h3")).to_have_count(4)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    tops = page.locator("#results > li").evaluate_all("cards => cards.map((card) => card.offsetTop)")
    assert tops.count(tops[0]) == columns


def test_the_docs_have_every_path_and_are_made_here(page: Page) -> None:
    page.goto("/docs")
    for operation in ("POST /predict", "POST /explain", "GET /labels", "GET /card", "GET /health", "GET /metrics"):
        expect(page.get_by_role("heading", name=operation)).to_be_visible()
    expect(page.locator("article").first).to_contain_text("multipart/form-data")
    expect(page.locator("article").first).to_contain_text("None of the uploads is a readable picture")


def test_the_commands_and_the_program_of_the_docs_work(
    server: Server,
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("some text")
    expected = predict(server, pictures[0])["label"]
    text = (PROJECT / "docs" / "serving.md").read_text().replace("http://127.0.0.1:8000", server.url)
    commands = re.findall(r"^curl .*$", text, re.MULTILINE)
    assert len(commands) == 3
    *commands, explain = commands
    subprocess.run([*shlex.split(explain, comments=True), "--silent", "--fail"], check=True)
    with Image.open("why.png") as image:
        assert image.size == (224, 224)
    for command in commands:
        words = shlex.split(command, comments=True)
        answer = subprocess.run([*words, "--silent", "--fail"], capture_output=True, check=True)
        shoe, *others = json.loads(answer.stdout)["predictions"]
        assert (shoe["file"], shoe["label"]) == ("shoe.png", expected)
        assert all("not a picture; send JPEG, PNG" in other["error"] for other in others)
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(program, {})
    assert capsys.readouterr().out == f"{expected}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_finishes_the_requests_in_progress(
    number: signal.Signals, code: int, finished_run: Path, tmp_path: Path, pictures: list[Path]
) -> None:
    """A request whose second half arrives after the signal is answered; a new connection is refused."""
    head = b'--border\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = head + pictures[0].read_bytes() + b"\r\n--border--\r\n"
    with running_server(finished_run, tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "multipart/form-data; boundary=border")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        connection.send(body[:50])
        with urllib.request.urlopen(f"{server.url}/health", timeout=60):  # by now, the server reads the other request
            pass
        server.send(number)
        while is_open(port):
            server.process.join(0.01)
        connection.send(body[50:])
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.load(answer)["predictions"][0]["label"]
        connection.close()
        assert server.end() == code
    assert (tmp_path / "err").read_text() == ""


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("arguments", "names", "problem", "remedy"),
    [
        (["port=BUSY"], ["port"], "already in use", r"as in port=\d+"),
        (["port=70000"], ["port=70000"], "less than or equal to 65535", "65535"),
        (["host=no.such.host.invalid"], ["host"], "not an address", "127.0.0.1"),
        (["limits.files=0"], ["limits.files=0"], "greater than 0", "greater than 0"),
        (["limits.file=3"], ["limits.file"], "unknown setting", "limits.files"),
        (["invert=maybe"], ["invert=maybe"], "should be|valid", "auto"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_setting_stops_with_one_line(
    arguments: list[str], names: list[str], problem: str, remedy: str, finished_run: Path, script: Command
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = [argument.replace("BUSY", str(listener.getsockname()[1])) for argument in arguments]
        answer = script("serve", f"run={finished_run}", *arguments)
    assert answer.code == 2
    assert_explained(answer.err, arguments, names, problem, remedy)


def test_an_unknown_run_stops_with_one_line(script: Command) -> None:
    answer = script("serve", "run=nowhere")
    assert answer.code == 2
    assert_explained(answer.err, ["run=nowhere"], ["run=nowhere"], "no such folder", "run=latest")


def test_a_run_that_names_other_code_is_refused(run_copy: Path, script: Command) -> None:
    config = run_copy / "config.yaml"
    config.write_text(re.sub(r"(?m)^(model:\n  _target_:) .*", r"\1 os.system", config.read_text()))
    answer = script("serve", f"run={run_copy}", "port=0")
    assert answer.code == 2
    assert_explained(answer.err, [], ["os.system"], "refused, not part of", r"allow=\[")


def test_a_missing_package_stops_with_one_line(
    finished_run: Path, script: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "fastapi" else find_spec(name, *rest)
    )
    answer = script("serve", f"run={finished_run}")
    assert answer.code == 2
    assert_explained(
        answer.err, [], ["serving"], "fastapi not installed", r"pip install -r requirements-serve.txt|\[serve\]"
    )
