"""Code, configs and docs use the field's words; see docs/contributing.md."""

import re
from pathlib import Path

import pytest

from pytorch_intro.config.paths import PROJECT

# Words that a PyTorch engineer would not use in this place. The notes that the tour teaches are quoted as they are.
WORDS = (
    r"tell|tells|told|telling|said|says|drawn|anew|beside|lest|in the midst|takes? the place of|in the place of"
    r"|one's own|held|seen|there is no|is asked for|asks for|it is no|for want of|mend(?:s|ed)?"
    r"|carr(?:y|ies|ied) on|goes on|go on|likeliest|rightly|wherefrom|thereof|be it|at hand"
)
BRITISH = (
    r"normalis\w+|colou?red? blind|colour\w*|labelled|labelling|initialis\w+|optimis\w+|behaviour\w*|centre\w*"
    r"|licence\w*|grey\w*|parametris\w+|organis\w+|serialis\w+|orthogonalis\w+|summaris\w+|recognis\w+|neighbour\w*|favour\w*"
)
QUOTED = ("src/pytorch_intro/tour/NOTES.md", "src/pytorch_intro/data/sample/README.md")


def texts() -> list[Path]:
    """Return the files whose words are checked."""
    folders = [PROJECT / name for name in ("src", "conf", "docs")]
    files = [path for folder in folders for kind in (".py", ".yaml", ".md") for path in folder.rglob(f"*{kind}")]
    return [path for path in [*files, PROJECT / "README.md"] if str(path.relative_to(PROJECT)) not in QUOTED]


@pytest.mark.parametrize(("kind", "words"), [("unusual", WORDS), ("British", BRITISH)])
def test_no_file_uses_words_that_a_reader_would_have_to_translate(kind: str, words: str) -> None:
    pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    found = []
    for file in texts():
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if "# >" in line:  # the tour's quotation of the notes
                continue
            words_found = pattern.findall(line.replace("study.tell(", ""))  # Optuna's method
            found += [f"{file.relative_to(PROJECT)}:{number}: {word}" for word in words_found]
    assert len(texts()) > 150
    assert not found, f"{kind} words:\n" + "\n".join(found)
