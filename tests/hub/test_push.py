"""export.py push=USER/NAME and load_run("hf://USER/NAME"), with a local server in the place of the hub."""

import base64
import hashlib
import importlib.util
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
import torch
import yaml
from conftest import Command, train_here

pytest.importorskip("huggingface_hub")
pytest.importorskip("safetensors")

from pytorch_intro import load_run
from pytorch_intro.common.errors import UserError
from pytorch_intro.inference import repository
from pytorch_intro.inference.repository import without_secrets

NAME, TOKEN, SHA = "alice/shoes", "hf_secretsecretsecret", "a" * 40


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub uses of the hub: create a repository, commit files, list and download them."""

    files: dict[str, bytes] | None
    private: bool
    requests: list[str]
    reject: bool

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, body: Any, code: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        Hub.requests.append(path)
        if Hub.reject:
            self.reply({"error": f"Invalid token {TOKEN}"}, 403, X_Error_Message=f"Invalid token {TOKEN}")
        elif Hub.files is None:
            self.reply({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
        elif "/resolve/" in path:
            content = Hub.files[path.rpartition("/")[2]]
            self.reply(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=SHA)
        elif "/tree/" in path:
            items = {
                name: {"size": len(data), "oid": hashlib.sha1(data).hexdigest()} for name, data in Hub.files.items()
            }
            self.reply([{"type": "file", "path": name, **item} for name, item in items.items()])
        else:
            self.reply({"id": NAME, "sha": SHA, "private": Hub.private, "siblings": [], "tags": [], "downloads": 0})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self.read_chunks()
        path = urlparse(self.path).path
        address = f"http://{self.headers['Host']}/{NAME}"
        Hub.requests.append(path)
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        if path.endswith("/repos/create"):
            Hub.files, Hub.private = {}, json.loads(body).get("visibility") == "private"
            self.reply({"url": address, "name": NAME, "id": NAME})
        elif path.endswith("/validate-yaml"):
            self.reply({})
        elif "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self.reply({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        else:
            assert Hub.files is not None
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    Hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.reply({"commitUrl": f"{address}/commit/{SHA}", "commitOid": SHA, "success": True})

    def read_chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


@pytest.fixture(autouse=True)
def _hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Start the server, and let the client use it with a token and a cache of its own."""
    import huggingface_hub
    from huggingface_hub import constants, hf_api

    Hub.files, Hub.private, Hub.requests, Hub.reject = None, True, [], False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    huggingface_hub.close_session()
    server.shutdown()
    thread.join()
    server.server_close()


def logits(run: Any) -> torch.Tensor:
    with torch.inference_mode():
        return run.network(torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1)))


def test_a_pushed_run_loads_with_the_same_logits(finished_run: Path, script: Command) -> None:
    """Only the three files of a run are downloaded; the token is not printed; the card has its front matter."""
    answer = script("export", f"run={finished_run}", f"push={NAME}", "yes=true")
    assert answer.code == 0, answer.err
    assert TOKEN not in answer.out + answer.err
    assert answer.out.startswith(f"repository: {NAME} (new, private)\n")
    assert Hub.private
    files = Hub.files
    assert files is not None
    assert sorted(files) == ["README.md", "config.yaml", "labels.json", "model.safetensors", "result.json"]
    assert all(f"  {name} " in answer.out for name in files)
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert front["pipeline_tag"] == "image-classification"
    assert "license" not in front
    assert str(finished_run.parent) not in files["config.yaml"].decode()
    assert TOKEN.encode() not in b"".join(files.values())
    Hub.requests.clear()
    loaded, own = load_run(f"hf://{NAME}"), load_run(finished_run)
    assert logits(loaded).equal(logits(own))
    assert loaded.classes == own.classes
    assert loaded.temperature == own.temperature
    downloaded = {path.rpartition("/")[2] for path in Hub.requests if "/resolve/" in path}
    assert downloaded == {"config.yaml", "result.json", "model.safetensors"}
    assert logits(load_run(f"hf://{NAME}@{SHA}")).equal(logits(own))


@pytest.mark.parametrize("home", ["/home/Zoë Łęcka", "/root", "/"])
def test_the_home_folder_is_in_no_file_and_nothing_else_changes(
    home: str, run_copy: Path, script: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON escapes its letters, and YAML could fold its lines."""
    monkeypatch.setenv("HOME", home)
    path = str(Path(home, "my pictures", "x" * 90))
    result = json.loads((run_copy / "result.json").read_text()) | {"command": f"train.py data.root='{path}'"}
    (run_copy / "result.json").write_text(json.dumps(result))
    config = yaml.safe_load((run_copy / "config.yaml").read_text()) | {"resume": path}
    (run_copy / "config.yaml").write_text(yaml.safe_dump(config))
    answer = script("export", f"run={run_copy}", f"push={NAME}", "yes=true")
    assert answer.code == 0, answer.err
    assert Hub.files is not None
    public = path if home == "/" else path.replace(home, "~")
    assert json.loads(Hub.files["result.json"])["command"] == f"train.py data.root='{public}'"
    assert json.loads(Hub.files["labels.json"])["result"]["command"] == f"train.py data.root='{public}'"
    assert yaml.safe_load(Hub.files["config.yaml"])["resume"] == public
    assert json.loads(Hub.files["result.json"]) | {"command": ""} == result | {"command": ""}
    assert "T-shirt/top" in json.loads(Hub.files["labels.json"])["classes"]


@pytest.mark.parametrize(
    ("home", "text", "expected"),
    [
        ("/home/alice", "run=/home/alice", "run=~"),
        ("/home/alice/", "see /home/alice.", "see ~."),
        ("/home/alice", "file:///home/alice/a.db and ../../home/alice/b", "file://~/a.db and ../..~/b"),
        ("/home/alice", "/home/alice2/x /home/alice.old /home/alice-2", "/home/alice2/x /home/alice.old /home/alice-2"),
        ("/root", "/data/root/x /roots", "/data/root/x /roots"),
        ("/", "/data/x a/b", "/data/x a/b"),
        ("", "/data/x a/b", "/data/x a/b"),
        ("/home/a", ["/home/a/b", {"/home/a": ("postgresql://u:p@h/db", 1)}], ["~/b", {"~": ["postgresql://h/db", 1]}]),
    ],
)
def test_only_the_home_folder_itself_is_replaced(
    home: str, text: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home)
    assert without_secrets(text) == expected


def test_a_home_folder_of_windows_is_replaced_with_any_separators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "Path", PureWindowsPath)
    monkeypatch.setattr(os.path, "expanduser", lambda _: r"C:\Users\Zoë")
    assert without_secrets(r"C:\Users\Zoë\a C:/Users/Zoë/a 'C:\\Users\\Zoë\\a'") == r"~\a ~/a '~\\a'"


def test_a_repository_whose_config_names_other_code_is_refused(finished_run: Path, script: Command) -> None:
    assert script("export", f"run={finished_run}", f"push={NAME}", "yes=true").code == 0
    assert Hub.files is not None
    config = yaml.safe_load(Hub.files["config.yaml"])
    config["model"]["_target_"] = "os.system"
    Hub.files["config.yaml"] = yaml.safe_dump(config).encode()
    with pytest.raises(UserError, match=r"os\.system: refused"):
        load_run(f"hf://{NAME}")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_uploaded_without_an_answer(
    finished_run: Path, script: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal it is an error; on one, only y uploads."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    answer = script("export", f"run={finished_run}", f"push={NAME}")
    assert answer.code == 2
    assert "add yes=true" in answer.err
    assert not Hub.requests
    for typed in ("\n", "no\n", ""):  # the last is Ctrl-D
        monkeypatch.setattr(sys, "stdin", Terminal(typed))
        answer = script("export", f"run={finished_run}", f"push={NAME}")
        assert (answer.code, Hub.files) == (0, None)
        assert "nothing was uploaded" in answer.out
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert script("export", f"run={finished_run}", f"push={NAME}").code == 0
    assert Hub.files is not None


def test_a_public_repository_needs_private_false(finished_run: Path, script: Command) -> None:
    Hub.files, Hub.private = {}, False
    answer = script("export", f"run={finished_run}", f"push={NAME}", "yes=true")
    assert answer.code == 2
    assert "private=false" in answer.err
    assert Hub.files == {}


@pytest.mark.parametrize("case", ["token", "name", "rejected", "offline"])
def test_what_prevents_a_push_is_one_line_without_the_token(
    case: str, finished_run: Path, script: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    name, expected = NAME, {"token": "HF_TOKEN", "name": "USER/NAME", "rejected": "***", "offline": "connection"}[case]
    if case == "token":
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    elif case == "name":
        name = "shoes"
    elif case == "rejected":
        Hub.reject = True
    else:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    answer = script("export", f"run={finished_run}", f"push={name}", "yes=true")
    assert answer.code == 2, answer.err
    assert expected in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert TOKEN not in answer.out + answer.err
    assert Hub.files is None


def test_timm_loads_the_config_of_a_pushed_network(tmp_path: Path, script: Command) -> None:
    timm = pytest.importorskip("timm")
    train_here(
        "data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1",
        "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "data.batch_size=16", "model=timm",
        "model.name=test_resnet", "model.weights=null", "calibrate=false", "classifier.tta_flip=false", "name=timm",
        f"outputs={tmp_path}",
    )  # fmt: skip
    answer = script("export", f"run={tmp_path / 'timm'}", f"push={NAME}", "yes=true")
    assert answer.code == 0, answer.err
    assert Hub.files is not None
    folder = tmp_path / "repository"
    folder.mkdir()
    for name, data in Hub.files.items():
        (folder / name).write_bytes(data)
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    own = load_run(f"hf://{NAME}")
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(network(images), own.network(images))
    assert network.pretrained_cfg["input_size"] == (1, 28, 28)
    assert json.loads(Hub.files["config.json"])["label_names"] == own.classes


def test_without_the_package_hub_push_and_load_run_say_so(
    finished_run: Path, script: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    hidden = "pytorch_intro.hub"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == hidden else find_spec(name))
    answer = script("export", f"run={finished_run}", f"push={NAME}", "yes=true")
    assert answer.code == 2
    assert "pytorch_intro/hub, which was deleted" in answer.err
    with pytest.raises(UserError, match="which was deleted"):
        load_run(f"hf://{NAME}")
