"""Whether the images are still those that a run was trained on."""

from collections.abc import Mapping
from typing import Any


def describe_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return how the training images have changed since an earlier describe_images; None if they have not.

    An older description lacks some of the values.
    """
    old, new = before["classes"], now["classes"]
    if old != new:
        changes = {
            "without": [name for name in old if name not in new],
            "with": [name for name in new if name not in old],
        }
        parts = [f"{word} {', '.join(names[:5])}{', …' * (len(names) > 5)}" for word, names in changes.items() if names]
        return f"the classes changed ({'; '.join(parts) or 'their order'})"
    for name in ("image_shape", "decoded_size"):
        if before[name] != now[name]:
            sizes = (" x ".join(map(str, values[name])) for values in (before, now))
            return f"the {name.replace('_', ' ')} changed ({' → '.join(sizes)})"
    if all(before.get(name, now[name]) == now[name] for name in ("trained_on", "files", "num_images")):
        return None
    if before.get("num_images", now["num_images"]) != now["num_images"]:
        return f"the training images changed ({before['num_images']:,} → {now['num_images']:,})"
    return f"the training images changed ({now['num_images']:,} now, but not the same ones)"
