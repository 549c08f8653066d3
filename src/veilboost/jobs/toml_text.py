"""The text of a job file: from TOML to nested tables and back."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from veilboost.errors import JobError


def parse_toml(source: bytes, where: str) -> dict[str, Any]:
    """The tables of a TOML file; `where` names it in the JobError that is raised when it is none."""
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise JobError(f"{where}: line {line} is not UTF-8: save the file in this encoding") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        why = " ".join(str(error).split())
        if why.endswith("(at end of document)"):
            why = why.replace("(at end of document)", f"(at line {len(text.splitlines())}, the end of the file)")
        raise JobError(f"{where}: is not valid TOML: {why}: mend that line") from None
    except RecursionError:
        raise JobError(f"{where}: is not a job file: its values are nested too deeply") from None


def write_toml(tables: Iterable[tuple[str, Mapping[str, object]]]) -> str:
    """The text of tables, each with its header, such as "[job]" or "[[party]]"."""
    lines: list[str] = []
    for header, entries in tables:
        lines += [header, *(f"{key} = {_value(value)}" for key, value in entries.items()), ""]
    return "\n".join(lines[:-1]) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's; only DEL needs one in TOML alone.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return repr(value)
