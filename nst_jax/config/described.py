"""What every key means, read from the comments of the schema, so that it is said once."""

import inspect
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from nst_jax.config import rules, schema
from nst_jax.errors import UserError
from nst_jax.pictures import sizes

_KEY = re.compile(r"c\.([\w.]+) = (.*?)(?:  # (.*))?$")
_TABLE = re.compile(r"(?:a key|keys) of (rules|sizes)\.(\w+)")


def meanings() -> dict[str, str]:
    """Key or group -> its meaning: the comment lines above it, then that beside it."""
    found, above = {}, []
    for line in inspect.getsource(schema.default).splitlines():
        text = line.strip()
        if text.startswith("#"):
            above.append(text.removeprefix("#").strip())
        elif match := _KEY.match(text):
            beside = [match[3]] if match[3] else []
            found[match[1]] = _TABLE.sub(_names, " ".join([*above, *beside]))
            above = []
        else:
            above = []
    return found


def _names(table: re.Match[str]) -> str:
    """The names in a table that a comment points to."""
    module: Any = {"rules": rules, "sizes": sizes}[table[1]]
    names: Iterable[str] = getattr(module, table[2])
    return ", ".join(f'"{name}"' for name in names)


def _belongs(key: str, group: str) -> bool:
    """Whether a key is of a group, or begins like it where that is no whole name."""
    whole = any(f"{name}.".startswith(f"{group}.") for name in schema.flat(schema.default()))
    return f"{key}.".startswith(f"{group}.") if group and whole else key.startswith(group)


def described(group: str = "") -> str:
    """All keys, or those of a group, with their defaults and meanings, for a terminal.

    Args:
      group: "optimizer", the beginning of a key, or "" for all.

    Raises:
      UserError: no key begins so.
    """
    said, values = meanings(), schema.flat(schema.default())
    lines = []
    for key, meaning in said.items():
        if key in values and _belongs(key, group):
            lines.append(f"{key} = {values[key]!r}")
            lines += textwrap.wrap(meaning, 96, initial_indent="    ", subsequent_indent="    ")
    if not lines:
        groups = sorted({key.partition(".")[0] for key in values if "." in key})
        raise UserError(f"no key begins with {group!r}; the groups are {', '.join(groups)}")
    return "\n".join(lines)
