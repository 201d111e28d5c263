"""The folder data.root."""

from pathlib import Path

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT


def checked_root(root: str) -> Path:
    """Return the data root, or raise a UserError; only the default is created if missing."""
    if not root:
        raise UserError("data.root= is empty; set data.root=DIR")
    path = Path(root)
    try:
        if path == PROJECT / "data":
            path.mkdir(exist_ok=True)
        is_folder = path.is_dir()
    except OSError as error:
        raise UserError(f"data.root={root}: {error}; set data.root=DIR") from error
    if not is_folder and path.exists():
        raise UserError(
            f"data.root={root}: is a file, not a folder; unpack it if it is an archive, then set data.root=DIR"
        )
    if not is_folder:
        raise UserError(f"data.root={root}: no such folder; create it, or set data.root=DIR")
    return path
