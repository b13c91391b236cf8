"""Ready-made maps, against the libraries themselves, with canaries in their texts."""

import sqlite3
import subprocess
import sys
from enum import Enum
from types import SimpleNamespace
from typing import Annotated, Literal

import grpc
import httpx
import pydantic
import pydantic_core
import pytest
import redis
import requests
import sqlalchemy
import sqlalchemy.exc
import sqlalchemy.orm.exc
from google.api_core import exceptions as google_exceptions
from google.rpc import error_details_pb2 as rpc
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from grpc_faultwire.category import Category
from grpc_faultwire.details import known_type
from grpc_faultwire.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    StatusError,
    Unavailable,
    Unimplemented,
)
from grpc_faultwire.mappings import MAPS, MAX_VIOLATIONS
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.status import DETAILS_KEY, encode
from grpc_faultwire.translation import MASKED, Translator

CANARY = "canary-7f3a"
CALL = SimpleNamespace(context=None, exception=None, service="s.S", method="M", expired=False, cancelled=False)


def mapped(name: str, exception: BaseException) -> StatusError:
    """Translate by one map, and check that no text of the exception leaves."""
    error = Translator(maps=[name]).translate(exception, CALL).error
    reply = encode(error, service="s.S", method="M", redactor=Redactor(), now=1.0)
    (details,) = [value for key, value in reply.trailers if key == DETAILS_KEY]
    assert CANARY not in reply.message
    assert CANARY.encode() not in details
    return error


def is_masked(error: StatusError) -> bool:
    return type(error) is Internal and error.message == MASKED


# The standard library.


@pytest.mark.parametrize(
    ("exception", "cls"),
    [
        pytest.param(ValueError(CANARY), InvalidArgument, id="value"),
        pytest.param(UnicodeDecodeError("utf-8", b"\xff", 0, 1, CANARY), InvalidArgument, id="subclass-of-value"),
        pytest.param(KeyError(CANARY), NotFound, id="key"),
        pytest.param(LookupError(CANARY), NotFound, id="lookup"),
        pytest.param(IndexError(CANARY), OutOfRange, id="index"),
        pytest.param(FileNotFoundError(2, CANARY), NotFound, id="file-not-found"),
        pytest.param(FileExistsError(17, CANARY), AlreadyExists, id="file-exists"),
        pytest.param(PermissionError(13, CANARY), PermissionDenied, id="permission"),
        pytest.param(NotImplementedError(CANARY), Unimplemented, id="not-implemented"),
        pytest.param(TimeoutError(CANARY), DeadlineExceeded, id="timeout"),
        pytest.param(ConnectionRefusedError(111, CANARY), Unavailable, id="connection"),
        pytest.param(MemoryError(CANARY), ResourceExhausted, id="memory"),
        pytest.param(OSError(5, CANARY), None, id="other-os-error"),
        pytest.param(TypeError(CANARY), None, id="a-bug"),
        pytest.param(RuntimeError(CANARY), None, id="runtime"),
        pytest.param(ZeroDivisionError(CANARY), None, id="arithmetic"),
    ],
)
def test_the_standard_library(exception, cls):
    """Exceptions whose meaning is known become that; all others stay masked."""
    error = mapped("stdlib", exception)
    assert is_masked(error) if cls is None else type(error) is cls


@pytest.mark.parametrize("exception", [ValueError(CANARY), KeyError(CANARY), sqlalchemy.exc.NoResultFound(CANARY)])
def test_no_map_is_on_by_default(exception):
    """Without asking for a map, everything is masked."""
    assert is_masked(Translator().translate(exception, CALL).error)


# pydantic.


class Cover(Enum):
    HARD = "hard"
    SOFT = "soft"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


def refuse(value: str) -> str:
    if value == "custom":
        raise pydantic_core.PydanticCustomError("no_such_rule", CANARY)
    if value == "assert":
        raise AssertionError(CANARY)
    raise ValueError(CANARY)


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    isbn: str = pydantic.Field("1", max_length=13, pattern=r"^\d+$")
    quantity: int = pydantic.Field(1, gt=0)
    cover: Cover = Cover.HARD
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")] | None = None
    checked: Annotated[str, pydantic.AfterValidator(refuse)] | None = None
    lines: list[Cat] = []


def refused(model=Order, **given) -> pydantic.ValidationError:
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate(given)
    return caught.value


@pytest.mark.parametrize(
    ("given", "field", "reason", "description"),
    [
        pytest.param({"isbn": CANARY + "x" * 9}, "isbn", "STRING_TOO_LONG", "at most 13 characters", id="length"),
        pytest.param({"isbn": CANARY}, "isbn", "STRING_PATTERN_MISMATCH", "String should match pattern", id="pattern"),
        pytest.param({"quantity": CANARY}, "quantity", "INT_PARSING", "should be a valid integer", id="parsing"),
        pytest.param({"quantity": 0}, "quantity", "GREATER_THAN", "greater than 0", id="range"),
        pytest.param({"cover": CANARY}, "cover", "ENUM", "'hard' or 'soft'", id="enum"),
        pytest.param({"lines": [{"kind": "cat"}, {}]}, "lines.1.kind", "MISSING", "Field required", id="path"),
        pytest.param({"lines": CANARY}, "lines", "LIST_TYPE", "should be a valid list", id="type"),
        pytest.param({"pet": {"kind": CANARY}}, "pet", "UNION_TAG_INVALID", "not accepted", id="tag"),
        pytest.param({"checked": "x"}, "checked", "VALUE_ERROR", "The value is not accepted.", id="own-validator"),
        pytest.param(
            {"checked": "assert"}, "checked", "ASSERTION_ERROR", "The value is not accepted.", id="own-assert"
        ),
        pytest.param({"checked": "custom"}, "checked", "NO_SUCH_RULE", "The value is not accepted.", id="own-error"),
        pytest.param({"extra": CANARY}, "extra", "EXTRA_FORBIDDEN", "Extra inputs are not permitted", id="extra"),
    ],
)
def test_pydantic(given, field, reason, description):
    """Each field that was refused is named with the rule that it broke, and with no word of what was sent."""
    error = mapped("pydantic", refused(**given))
    (violation,) = error.find(rpc.BadRequest).field_violations
    assert (type(error), error.reason) == (InvalidArgument, "INVALID_FIELDS")
    assert (violation.field, violation.reason) == (field, reason)
    assert description in violation.description


def test_the_number_of_violations_is_bounded():
    """Of thousands of wrong fields some are named."""
    error = mapped("pydantic", refused(lines=[{"kind": CANARY}] * 5000))
    assert len(error.find(rpc.BadRequest).field_violations) == MAX_VIOLATIONS


def test_a_rule_of_ones_own_whose_name_is_no_reason():
    """A violation of a rule with an odd name has no reason; which rule it was is not told."""
    problem = {"type": pydantic_core.PydanticCustomError("no", CANARY), "loc": ("isbn",), "input": CANARY}
    error = mapped("pydantic", pydantic_core.ValidationError.from_exception_data("Order", [problem]))
    (violation,) = error.find(rpc.BadRequest).field_violations
    assert (violation.field, violation.reason, violation.description) == ("isbn", "", "The value is not accepted.")


def test_pydantic_goes_before_the_standard_library():
    """A ValidationError is a ValueError, and its own map is closer."""
    translator = Translator(maps=["stdlib", "pydantic"])
    assert translator.translate(refused(quantity=0), CALL).error.reason == "INVALID_FIELDS"


# SQLAlchemy.


class Base(DeclarativeBase):
    pass


class Book(Base):
    __tablename__ = CANARY
    id: Mapped[int] = mapped_column(primary_key=True)
    isbn: Mapped[str] = mapped_column(unique=True)


def run(work):
    engine = sqlalchemy.create_engine("sqlite://")
    try:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Book(id=1, isbn=CANARY))
            session.flush()
            work(session)
            session.flush()
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("work", "cls", "reason"),
    [
        pytest.param(lambda one: one.add(Book(id=2, isbn=CANARY)), AlreadyExists, "ALREADY_EXISTS", id="unique"),
        pytest.param(
            lambda one: one.execute(sqlalchemy.insert(Book).values(id=1, isbn="2")),
            AlreadyExists,
            "ALREADY_EXISTS",
            id="primary-key",
        ),
        pytest.param(lambda one: one.add(Book(id=2, isbn=None)), FailedPrecondition, "INTEGRITY", id="not-null"),
        pytest.param(
            lambda one: one.execute(sqlalchemy.text(f"select * from nowhere where '{CANARY}'")),
            Unavailable,
            "DEPENDENCY_UNAVAILABLE",
            id="operational",
        ),
        pytest.param(
            lambda one: one.execute(sqlalchemy.select(Book).where(Book.id == 9)).one(), NotFound, "NOT_FOUND", id="none"
        ),
    ],
)
def test_sqlalchemy(work, cls, reason):
    """What a database refuses becomes what it means, without its statement and parameters."""
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError) as caught:
        run(work)
    assert CANARY in str(caught.value) or cls is NotFound
    error = mapped("sqlalchemy", caught.value)
    assert (type(error), error.reason) == (cls, reason)


class DriverError(Exception):
    def __init__(self, *arguments, **attributes):
        super().__init__(*arguments)
        vars(self).update(attributes)


class UniqueViolation(DriverError):  # as psycopg calls it
    pass


@pytest.mark.parametrize(
    ("cls", "original", "expected", "reason"),
    [
        pytest.param(
            "IntegrityError", DriverError(CANARY, sqlstate="23505"), AlreadyExists, "ALREADY_EXISTS", id="psycopg"
        ),
        pytest.param(
            "IntegrityError", DriverError(CANARY, pgcode="23505"), AlreadyExists, "ALREADY_EXISTS", id="pgcode"
        ),
        pytest.param("IntegrityError", UniqueViolation(CANARY), AlreadyExists, "ALREADY_EXISTS", id="by-type"),
        pytest.param("IntegrityError", DriverError(1062, CANARY), AlreadyExists, "ALREADY_EXISTS", id="mysql"),
        pytest.param("IntegrityError", DriverError(1452, CANARY), FailedPrecondition, "INTEGRITY", id="mysql-foreign"),
        pytest.param(
            "IntegrityError", DriverError(CANARY, sqlstate="23503"), FailedPrecondition, "INTEGRITY", id="foreign"
        ),
        pytest.param("IntegrityError", DriverError(), FailedPrecondition, "INTEGRITY", id="nothing-said"),
        pytest.param(
            "OperationalError", DriverError(sqlstate="40001"), Aborted, "TRANSACTION_CONFLICT", id="serialization"
        ),
        pytest.param("OperationalError", DriverError(pgcode="40P01"), Aborted, "TRANSACTION_CONFLICT", id="deadlock"),
        pytest.param(
            "OperationalError", DriverError(1213, CANARY), Aborted, "TRANSACTION_CONFLICT", id="mysql-deadlock"
        ),
        pytest.param("DBAPIError", DriverError(sqlstate="40001"), Aborted, "TRANSACTION_CONFLICT", id="asyncpg"),
        pytest.param("OperationalError", DriverError(CANARY), Unavailable, "DEPENDENCY_UNAVAILABLE", id="gone"),
        pytest.param("InterfaceError", DriverError(CANARY), Unavailable, "DEPENDENCY_UNAVAILABLE", id="interface"),
        pytest.param("DataError", DriverError(CANARY), InvalidArgument, "INVALID_ARGUMENT", id="data"),
        pytest.param("ProgrammingError", DriverError(CANARY), Internal, "DEPENDENCY_FAILED", id="programming"),
        pytest.param("DBAPIError", DriverError(CANARY), Internal, "DEPENDENCY_FAILED", id="other"),
    ],
)
def test_sqlalchemy_by_driver(cls, original, expected, reason):
    """Drivers say in their own ways what happened."""
    raised = getattr(sqlalchemy.exc, cls)(f"select '{CANARY}'", {"isbn": CANARY}, original)
    error = mapped("sqlalchemy", raised)
    assert (type(error), error.reason) == (expected, reason)


@pytest.mark.parametrize(
    ("exception", "cls", "category"),
    [
        pytest.param(sqlalchemy.exc.TimeoutError(CANARY), Unavailable, Category.OVERLOAD, id="pool"),
        pytest.param(sqlalchemy.orm.exc.StaleDataError(CANARY), Aborted, Category.CONFLICT, id="stale"),
        pytest.param(sqlalchemy.exc.NoResultFound(CANARY), NotFound, Category.NOT_FOUND, id="none"),
        pytest.param(sqlalchemy.exc.MultipleResultsFound(CANARY), None, None, id="several-are-a-bug"),
        pytest.param(sqlalchemy.exc.ArgumentError(CANARY), None, None, id="argument-is-a-bug"),
        pytest.param(sqlite3.IntegrityError(CANARY), None, None, id="the-driver-itself"),
    ],
)
def test_sqlalchemy_itself(exception, cls, category):
    """What SQLAlchemy itself raises is mapped where it is no bug."""
    error = mapped("sqlalchemy", exception)
    assert is_masked(error) if cls is None else (type(error), error.category) == (cls, category)


# redis.


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        ("ConnectionError", Unavailable),
        ("TimeoutError", Unavailable),
        ("BusyLoadingError", Unavailable),
        ("ReadOnlyError", Unavailable),
        ("ClusterDownError", Unavailable),
        ("MaxConnectionsError", Unavailable),
        ("AuthenticationError", Internal),
        ("AuthorizationError", Internal),
        ("WatchError", Aborted),
        ("LockError", Aborted),
        ("LockNotOwnedError", Aborted),
        ("ResponseError", Internal),
        ("DataError", Internal),
        ("RedisError", Internal),
    ],
)
def test_redis(cls, expected):
    """What redis says of itself is a dependency's failure, and what it says of a lock a conflict."""
    error = mapped("redis", getattr(redis.exceptions, cls)(CANARY))
    assert type(error) is expected
    assert error.category is (Category.CONFLICT if expected is Aborted else Category.DEPENDENCY)
    assert not is_masked(error)


# HTTP clients.


def httpx_status(code, **headers):
    request = httpx.Request("GET", f"https://{CANARY}.example.com")
    response = httpx.Response(code, headers=headers, text=CANARY, request=request)
    return httpx.HTTPStatusError(CANARY, request=request, response=response)


def requests_status(code, **headers):
    response = requests.Response()
    response.status_code, response._content = code, CANARY.encode()
    response.headers.update(headers)
    return requests.HTTPError(CANARY, response=response)


@pytest.mark.parametrize("made", [httpx_status, requests_status], ids=["httpx", "requests"])
@pytest.mark.parametrize(
    ("code", "after", "cls", "delay"),
    [
        pytest.param(503, None, Unavailable, None, id="503"),
        pytest.param(429, "7", Unavailable, 7.0, id="retry-after"),
        pytest.param(503, "0", Unavailable, 0.0, id="retry-at-once"),
        pytest.param(503, "Wed, 21 Oct 2026 07:28:00 GMT", Unavailable, None, id="a-date"),
        pytest.param(503, "-5", Unavailable, None, id="negative"),
        pytest.param(503, "nan", Unavailable, None, id="nan"),
        pytest.param(503, "inf", Unavailable, None, id="inf"),
        pytest.param(503, "1e9", Unavailable, None, id="years"),
        pytest.param(500, None, Internal, None, id="500"),
        pytest.param(404, None, Internal, None, id="404-is-not-our-callers"),
        pytest.param(401, None, Internal, None, id="401-is-not-our-callers"),
    ],
)
def test_http_statuses(made, code, after, cls, delay):
    """An answer of another server is a dependency's failure; busy ones may be tried again when they say so."""
    error = mapped("http", made(code, **({"Retry-After": after} if after is not None else {})))
    assert (type(error), error.category, error.retry_delay) == (cls, Category.DEPENDENCY, delay)


@pytest.mark.parametrize(
    ("exception", "cls"),
    [
        pytest.param(httpx.ConnectError(CANARY), Unavailable, id="httpx-connect"),
        pytest.param(httpx.ReadTimeout(CANARY), Unavailable, id="httpx-timeout"),
        pytest.param(httpx.RemoteProtocolError(CANARY), Unavailable, id="httpx-protocol"),
        pytest.param(httpx.TooManyRedirects(CANARY), Internal, id="httpx-redirects"),
        pytest.param(httpx.DecodingError(CANARY), Internal, id="httpx-decoding"),
        pytest.param(requests.ConnectionError(CANARY), Unavailable, id="requests-connection"),
        pytest.param(requests.ConnectTimeout(CANARY), Unavailable, id="requests-timeout"),
        pytest.param(requests.exceptions.InvalidURL(CANARY), Internal, id="requests-url"),
        pytest.param(requests.HTTPError(CANARY), Internal, id="requests-without-a-response"),
    ],
)
def test_http_failures(exception, cls):
    """What did not get an answer is a dependency's failure."""
    error = mapped("http", exception)
    assert (type(error), error.category) == (cls, Category.DEPENDENCY)
    assert not is_masked(error)


# google-api-core.


@pytest.mark.parametrize(
    ("exception", "cls"),
    [
        pytest.param(google_exceptions.ServiceUnavailable(CANARY), Unavailable, id="unavailable"),
        pytest.param(google_exceptions.NotFound(CANARY), Internal, id="not-found-is-not-our-callers"),
        pytest.param(google_exceptions.Unauthenticated(CANARY), Internal, id="unauthenticated"),
        pytest.param(google_exceptions.GoogleAPICallError(CANARY), Internal, id="other"),
        pytest.param(google_exceptions.RetryError(CANARY, ValueError(CANARY)), Unavailable, id="retries-used-up"),
        pytest.param(
            google_exceptions.from_grpc_status(grpc.StatusCode.UNAVAILABLE, CANARY), Unavailable, id="from-grpc"
        ),
    ],
)
def test_google(exception, cls):
    """What a Google API said is a dependency's failure."""
    error = mapped("google", exception)
    assert (type(error), error.category) == (cls, Category.DEPENDENCY)


# The maps themselves.


@pytest.mark.parametrize("name", sorted(MAPS))
def test_names_are_the_libraries(name):
    """Each dotted name is that of an exception as its library calls it; valkey has the names of redis."""
    import importlib

    for dotted in MAPS[name]:
        module, _, attribute = dotted.replace("valkey.", "redis.").rpartition(".")
        cls = getattr(importlib.import_module(module), attribute, None)
        if cls is None:
            assert attribute == "ValkeyError"
        else:
            assert issubclass(cls, Exception)
            assert f"{cls.__module__}.{cls.__qualname__}" == dotted.replace("valkey.", "redis.")


def test_the_details_of_maps_are_known():
    """What a map adds can be looked into, and so may leave."""
    assert known_type("google.rpc.BadRequest") is rpc.BadRequest


OPTIONAL = (
    "pydantic pydantic_core sqlalchemy redis valkey httpx requests google.api_core prometheus_client opentelemetry rich"
)


def test_nothing_optional_is_needed():
    """All of this works where none of the optional libraries is installed."""
    program = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {OPTIONAL.split()!r}):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from types import SimpleNamespace
import grpc_faultwire
from grpc_faultwire import mappings, status, sync, aio
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.translation import Translator
call = SimpleNamespace(expired=False, cancelled=False, service="s.S", method="M", context=None, exception=None)
error = Translator(maps=mappings.MAPS).translate(KeyError("x"), call).error
status.encode(error, service="s.S", method="M", redactor=Redactor(), now=1.0)
print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert (done.stdout.strip(), done.stderr) == ("NotFound", "")
