"""The tables of a job file, one by one: their keys, the types of their values, and errors in one line."""

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator, model_validator

from veilboost.errors import JobError
from veilboost.tables.schema import Feature, Kind

MAX_LEVELS: Final = 4096

#: Which rows are trained on: those that all parties have, or all of the label's holder.
JOINS: Final = ("inner", "left")

#: Name of the dealer's role; no party and no analyst may have it.
DEALER: Final = "dealer"

#: Name of the process that carries sealed answers from the sites of NVFlare to the aggregators.
COURIER: Final = "courier"

#: Names that stand for something else in a job or among its certificates. NVFlare has the last three: for its work
#: folder, its project, its server.
RESERVED_NAMES: Final = (DEALER, COURIER, "ca", "certs", "nvflare", "project", "localhost")

#: How a job is trained: on secret shares of all rows, or on sums of what clients compute of their own rows.
SMPC: Final = "smpc"
FEDERATED: Final = "federated"
METHODS: Final = (SMPC, FEDERATED)

#: What carries questions and answers of federated training: our own transport, or NVFlare.
EMBEDDED: Final = "embedded"
NVFLARE: Final = "nvflare"
ENGINES: Final = (EMBEDDED, NVFLARE)

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")

_WRONG_TYPES: Final = {
    "string_type": "must be text in double quotes",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list in square brackets",
    "too_long": "has too many entries",
    "too_short": "has too few entries",
    "missing": "is missing: add it",
}

Entry = TypeVar("Entry", bound=BaseModel)


def check_participant_name(name: str) -> str:
    """A name that may stand in messages, certificates and file names; raises ValueError with the rule."""
    if not _NAME.fullmatch(name):
        raise ValueError("must be 1 to 64 letters (a to z), digits, '_' or '-'")
    if name.casefold() in RESERVED_NAMES:
        raise ValueError(f"'{name}' is reserved: choose another name")
    return name


def _check_column_name(name: str) -> str:
    if not 1 <= len(name) <= 64 or not name.isprintable() or name != name.strip():
        raise ValueError("must be 1 to 64 printable characters without blanks around them")
    if re.search(r"[\[\]<]", name):
        raise ValueError("must not contain '[', ']' or '<', which XGBoost does not allow: rename the column")
    return name


def _check_title(name: str) -> str:
    if not 1 <= len(name) <= 200 or not name.isprintable() or not name.strip():
        raise ValueError("must be 1 to 200 printable characters")
    return name


class TableEntry(BaseModel):
    """One table of a job file: its keys are known and their types are strict."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Address(TableEntry):
    """Where a participant listens, written "host:port" ("[host]:port" for IPv6)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def key(self) -> tuple[str, int]:
        """The same for two spellings of one address."""
        host = self.host.lower()
        return ("127.0.0.1" if host == "localhost" else host, self.port)

    @classmethod
    def parse(cls, text: object) -> "Address":
        """Raises ValueError with the rule that the text breaks."""
        if isinstance(text, Address):
            return text
        host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
        if not colon or not host:
            raise ValueError('must be "host:port", such as "127.0.0.1:7101"')
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise ValueError("the port must be a whole number from 1 to 65535")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            numbers_only = re.fullmatch(r"[0-9.]+", host) is not None
            if bracketed or numbers_only or not _HOST.fullmatch(host):
                raise ValueError("the host must be a name or an IP address (IPv6 in square brackets)") from None
        else:
            if bracketed != (ip.version == 6):
                raise ValueError("an IPv6 address stands in square brackets, any other host does not")
            if ip.is_unspecified:
                raise ValueError("the others cannot dial this host: give the address under which they reach it")
            host = str(ip)
        return cls(host=host, port=int(port))


#: A key whose value is an address.
AddressText = Annotated[Address, BeforeValidator(Address.parse)]


class JobEntry(TableEntry):
    """[job]."""

    name: str
    method: str
    analyst: str

    _title = field_validator("name")(_check_title)
    _name = field_validator("analyst")(check_participant_name)

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        if method not in METHODS:
            raise ValueError(f"must be {' or '.join(quoted(METHODS))}{_suggestion(method, METHODS)}")
        return method


class DataEntry(TableEntry):
    """[data]."""

    label: str
    label_range: Annotated[tuple[float, float], BeforeValidator(lambda pair: _as_tuple(pair))] | None = None
    weight: str | None = None
    weight_range: Annotated[tuple[float, float], BeforeValidator(lambda pair: _as_tuple(pair))] | None = None
    id: str | None = None
    join: str | None = None

    _name = field_validator("label", "weight", "id")(_check_column_name)

    @field_validator("join")
    @classmethod
    def _known(cls, join: str) -> str:
        if join not in JOINS:
            raise ValueError(f"must be {' or '.join(repr(known) for known in JOINS)}")
        return join


class FeatureEntry(TableEntry):
    """[[feature]]."""

    name: str
    kind: str
    levels: Annotated[tuple[str, ...], BeforeValidator(lambda levels: _as_tuple(levels))] | None = None
    missing: bool = False

    _name = field_validator("name")(_check_column_name)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        kinds = [known.value for known in Kind]
        if kind not in kinds:
            raise ValueError(f"must be one of {', '.join(kinds)}{_suggestion(kind, kinds)}")
        return kind

    @field_validator("levels")
    @classmethod
    def _usable(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if not levels:
            raise ValueError("is empty: list the categories")
        if len(levels) > MAX_LEVELS:
            raise ValueError(f"has {len(levels)} categories: at most {MAX_LEVELS} are allowed, merge the rare ones")
        seen: set[str] = set()
        for level in levels:
            if not level or level != level.strip() or not level.isprintable():
                raise ValueError("a level must be printable text that is not empty and has no blanks around it")
            if level in seen:
                raise ValueError(f"the level '{level}' is there twice: remove one")
            seen.add(level)
        return levels

    @model_validator(mode="after")
    def _levels_where_needed(self) -> "FeatureEntry":
        if self.kind == Kind.CATEGORICAL and self.levels is None:
            raise ValueError("key 'levels': is missing: a categorical column lists its categories")
        if self.kind != Kind.CATEGORICAL and self.levels is not None:
            raise ValueError(f"key 'levels': a {self.kind} column has none: remove it, or use kind = \"categorical\"")
        return self

    def to_feature(self) -> Feature:
        return Feature(self.name, Kind(self.kind), self.levels or (), self.missing)


class Participant(TableEntry):
    """Somebody who has a name and listens."""

    name: str
    address: AddressText

    _name = field_validator("name")(check_participant_name)


class Party(Participant):
    """[[party]]: a data owner, where it listens, and the columns of the job that its table holds."""

    columns: Annotated[tuple[str, ...], BeforeValidator(lambda columns: _as_tuple(columns))]

    @field_validator("columns")
    @classmethod
    def _usable(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if not columns:
            raise ValueError("is empty: list the columns that this party holds")
        for at, column in enumerate(columns):
            if column in columns[:at]:
                raise ValueError(f"'{column}' is listed twice: remove one")
        return columns


class DealerEntry(TableEntry):
    """[dealer]."""

    address: AddressText


def read_entry(model: type[Entry], table: object, where: str) -> Entry:
    """Check one table of the job file; `where` names file and table in the JobError that it raises."""
    if not isinstance(table, Mapping):
        raise JobError(f"{where}: must be a table in single square brackets with keys below it")
    check_keys(table, model.model_fields, where)
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        _raise_first(error, where)


def check_keys(table: Mapping[str, Any], known: Iterable[str], where: str, *, what: str = "key") -> None:
    """Refuse a key that is not known, with the nearest one that is."""
    known = list(known)
    for key in table:
        if key in known:
            continue
        shown = key if len(key) <= 64 and key.isprintable() else "..."
        hint = _suggestion(shown, known) or f": known are {', '.join(known)}"
        raise JobError(f"{where}: unknown {what} '{shown}'{hint}")


def _raise_first(error: ValidationError, where: str) -> NoReturn:
    first = error.errors()[0]
    message = _WRONG_TYPES.get(first["type"], first["msg"])
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    # Rules about several keys name the key themselves and come without a location.
    match first["loc"]:
        case (key, int(index), *_):
            where, message = f"{where}, key '{key}':", f"entry {index + 1} {message}"
        case (key, *_):
            where = f"{where}, key '{key}':"
        case _:
            where = f"{where},"
    raise JobError(f"{where} {' '.join(message.split())}") from None


def _suggestion(word: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(word.lower(), known, n=1)
    return f": did you mean '{nearest[0]}'?" if nearest else ""


def quoted(words: Iterable[str]) -> list[str]:
    """Words in double quotes, as a job file has them."""
    return [f'"{word}"' for word in words]


def _as_tuple(entries: object) -> object:
    return tuple(entries) if isinstance(entries, list) else entries
