"""What every error message contains: its setting, the problem and a remedy.

Expectations are regular expressions of these facts, which accept equivalent wordings.
"""

import re
from collections.abc import Sequence

WRONG_VALUE = r"should be|should have|should match|must be|has to be|expected|[Ii]nvalid|is not|not allowed"
UNKNOWN = r": unknown setting;"
NO_CHOICE = r"[Uu]nknown (choice|option)"

# Accepted values: the remedy for an invalid value.
INTEGER = r"\binteger\b"
NUMBER = r"(valid|a|finite) number"
BOOLEAN = r"\bboolean\b|true or false"
LIST = r"\blist\b"
ABOVE_0 = r"greater than 0|above 0|> 0|positive"
AT_LEAST_0 = r"greater than or equal to 0|at least 0|>= 0|0 or (more|greater)|non-negative"
AT_LEAST_2 = r"greater than or equal to 2|at least 2|>= 2|2 or (more|greater)"
BELOW_1 = r"less than 1|below 1|< 1"
AT_MOST_1 = r"less than or equal to 1|at most 1|<= 1"
AN_INT_OR_SHARE = r"\[0\.0, 1\.0\] or an int"


def assert_explained(message: str, arguments: Sequence[str], names: Sequence[str], problem: str, remedy: str) -> None:
    """Assert that a message is one line with the names, a problem and a remedy.

    Problem and remedy must not match the arguments: a message that only repeats these would pass.
    """
    assert message.startswith("error: "), message
    assert message.count("\n") == 1, message
    assert_facts(message, arguments, names, problem, remedy)


def assert_facts(message: str, arguments: Sequence[str], names: Sequence[str], problem: str, remedy: str) -> None:
    """Assert the names, the problem and the remedy of a part of a message."""
    given = "\n".join(arguments)
    for name in names:
        assert name in message, message
    for fact in (problem, remedy):
        assert not re.search(fact, given), f"{fact!r} is in the arguments, so it proves nothing"
        assert re.search(fact, message), f"{fact!r} is not in {message!r}"
