"""Model repositories of the Hugging Face hub: upload a folder, download the files of a run."""

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytorch_intro.common.errors import UserError, check_installed, first_lines


def download(name: str, revision: str | None, files: Sequence[str]) -> Path:
    """Download only these files of a model repository into the cache of huggingface_hub, and return their folder."""
    source = f"hf://{name}" + (f"@{revision}" if revision else "")
    check_installed(source, ["huggingface_hub"], "hub")
    import huggingface_hub

    with hub_errors(source, "check the name and the connection, or for a private repository the token"):
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(files)))


def check_name(name: str) -> None:
    """Raise a UserError unless push=NAME is USER/NAME, huggingface_hub is installed and there is a token."""
    check_installed(f"push={name}", ["huggingface_hub"], "hub")
    import huggingface_hub

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise UserError(f"push={name}: not a user or organization and a name; use push=USER/NAME")
    if huggingface_hub.get_token() is None:
        raise UserError(f"push={name}: no token of the Hugging Face hub found; run `hf auth login`, or set HF_TOKEN")


def describe_repository(name: str, private: bool) -> str:
    """Return whether the repository is new, and who will see it; refuse one that is public if `private` is true."""
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    with hub_errors(f"push={name}", "nothing was uploaded; check the connection and the token, then rerun"):
        try:
            is_private = bool(huggingface_hub.HfApi().model_info(name).private)
        except RepositoryNotFoundError:
            return f"new, {'private' if private else 'public'}"
    if private and not is_private:
        raise UserError(
            f"push={name}: this repository exists and is public; add private=false to upload, or use another name"
        )
    return f"exists, {'private' if is_private else 'public'}; files of these names are replaced"


def upload(name: str, folder: Path, private: bool) -> str:
    """Upload the files of a folder in one commit, and return the address of the repository."""
    import huggingface_hub
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = huggingface_hub.HfApi()
    with hub_errors(f"push={name}", "check the connection and the rights of the token, then rerun"):
        url = api.create_repo(name, private=private, exist_ok=True)
        operations = [CommitOperationAdd(file.name, file) for file in sorted(folder.iterdir())]
        api.create_commit(name, operations, commit_message="Upload the trained network")
    return str(url)


@contextmanager
def hub_errors(source: str, remedy: str) -> Iterator[None]:
    """Raise a UserError for a failure of the hub or the network, without the token."""
    import huggingface_hub

    for client in ("httpx", "httpx2"):  # they log each request
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # many kinds: of the hub, the network and the file system
        reason = first_lines(error) or type(error).__name__
        token = huggingface_hub.get_token()
        if token:
            reason = reason.replace(token, "***")
        raise UserError(f"{source}: {reason[:300]}; {remedy}") from None  # an error of the client may show the token
