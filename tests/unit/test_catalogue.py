"""Catalogues: read from a proto enum of any pool, and made exception classes."""

import enum
import inspect
import itertools
import pickle

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from bookshop.v1 import bookshop_pb2
from faultwire.v1 import options_pb2
from grpc_faultwire.catalogue import Catalogue, declaration_of
from grpc_faultwire.category import REDACTED, Category, RetryScope, Sensitivity, Severity
from grpc_faultwire.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    error_class,
)
from grpc_faultwire.reader import read

bookshop = Catalogue.of(bookshop_pb2.BookshopError)
_serial = itertools.count()


def enum_of(*errors, name="ShopError", domain=None, default_code="", docs_url="", catalogue=True, options=True):
    """Return the descriptor of an enum in a pool of its own, to which our options are unknown fields."""
    number = next(_serial)
    file = descriptor_pb2.FileDescriptorProto(name=f"c{number}.proto", package=f"test.c{number}", syntax="proto3")
    declared = file.enum_type.add(name=name)
    if catalogue:
        extension = declared.options.Extensions[options_pb2.catalogue]
        extension.domain = f"c{number}.example.com" if domain is None else domain
        extension.default_code = default_code
        extension.docs_url = docs_url
    declared.value.add(name="UNSPECIFIED", number=0)
    for index, (value, error) in enumerate(errors, start=1):
        one = declared.value.add(name=value, number=index)
        if options:
            one.options.Extensions[options_pb2.error].CopyFrom(options_pb2.ErrorOptions(**error))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindEnumTypeByName(f"test.c{number}.{name}")


GOOD = {"code": "NOT_FOUND"}


# The bookshop's.


@pytest.mark.parametrize(
    ("name", "base", "category", "severity", "scope", "delay"),
    [
        ("BookNotFound", NotFound, Category.NOT_FOUND, Severity.INFO, None, None),
        ("OrderInvalid", InvalidArgument, Category.VALIDATION, Severity.INFO, None, None),
        ("OutOfStock", FailedPrecondition, Category.PRECONDITION, Severity.INFO, None, None),
        ("OrderQuotaExceeded", ResourceExhausted, Category.QUOTA, Severity.WARNING, RetryScope.REQUEST, 30.0),
        ("PricesUnavailable", Unavailable, Category.DEPENDENCY, Severity.ERROR, RetryScope.REQUEST, 0.5),
    ],
)
def test_the_bookshop(name, base, category, severity, scope, delay):
    """The errors of the bookshop are subclasses of their codes' classes, and say what their options say."""
    cls = getattr(bookshop, name)
    error = cls(**dict.fromkeys((key.argument for key in cls.declaration.metadata), "x"))
    assert isinstance(error, base)
    assert (error.category, error.severity) == (category, severity)
    assert (error.declared_retry_scope, error.retry_delay) == (scope, delay)
    assert error.domain == bookshop.domain == "bookshop.example.com"
    assert bookshop[error.reason] is cls
    assert name in dir(bookshop)
    assert cls.declaration.docs_url == f"https://bookshop.example.com/errors#{error.reason}"


def test_metadata_are_keyword_only_arguments():
    """A class takes the metadata that it declares, by name, all of them and no other."""
    assert bookshop.BookNotFound(isbn="1").metadata == {"isbn": "1"}
    assert bookshop.BookNotFound("Other.", isbn="1", severity=Severity.ERROR).message == "Other."
    with pytest.raises(TypeError, match=r"isbn.*left"):
        bookshop.OutOfStock()
    with pytest.raises(TypeError, match="shelf"):
        bookshop.BookNotFound(isbn="1", shelf="2")
    with pytest.raises(TypeError):
        bookshop.BookNotFound("Message.", "1")


def test_the_message_is_filled():
    """The template is filled by the metadata, and a personal value is redacted in it."""
    assert bookshop.BookNotFound(isbn="9780441172719").message == "No book has the ISBN 9780441172719."
    cls = next(
        iter(
            Catalogue.of(
                enum_of(
                    (
                        "A_PERSON",
                        GOOD
                        | {
                            "message": "{name} has {password} at {shelf}",
                            "metadata": [
                                {"key": "name", "sensitivity": options_pb2.SENSITIVITY_PERSONAL},
                                {"key": "password"},
                                {"key": "shelf"},
                            ],
                        },
                    )
                )
            )
        )
    )
    error = cls(name="Ada", password="hunter2", shelf=5)
    assert error.message == f"{REDACTED} has {REDACTED} at 5"


def test_the_same_enum_gives_the_same_classes():
    """A catalogue can be made again anywhere, and its errors are still caught by the first one's classes."""
    again = Catalogue.of(bookshop_pb2.BookshopError.DESCRIPTOR)
    assert list(again) == list(bookshop)
    assert len(again) == len(bookshop)


def test_a_signature_for_editors():
    """help() and editors see the metadata as arguments."""
    parameters = inspect.signature(bookshop.OutOfStock).parameters
    assert list(parameters)[:3] == ["message", "isbn", "left"]
    assert parameters["isbn"].kind is inspect.Parameter.KEYWORD_ONLY


def test_classes_made_at_run_time_have_names_to_know_them_by():
    """Their enum's and their own, and the message for a docstring."""
    made = Catalogue.of(enum_of(("SOME_NAMED_ERROR", GOOD), domain="named.example.com"))
    [cls] = made
    assert cls.__qualname__.endswith(f".{cls.__name__}")
    assert cls.__doc__


def test_names_that_do_not_exist():
    """What no error is called is no attribute and no item."""
    with pytest.raises(AttributeError, match="no error of this catalogue is called 'NoSuchError'"):
        bookshop.NoSuchError  # noqa: B018
    with pytest.raises(KeyError):
        bookshop["NO_SUCH_ERROR"]


class Closer(bookshop.BookNotFound):
    """A subclass of one's own of a class made at run time."""

    def __init__(self) -> None:
        super().__init__(isbn="1")
        self.shelf = 5


def test_a_subclass_of_ones_own_is_pickled_as_itself():
    """A subclass that pickle can find is not replaced by its catalogue's class."""
    duplicate = pickle.loads(pickle.dumps(Closer()))
    assert (type(duplicate), duplicate.shelf, duplicate.metadata) == (Closer, 5, {"isbn": "1"})


# Other enums.


def test_a_catalogue_of_a_pool_of_its_own():
    """An enum that came by reflection is read as a generated one."""
    catalogue = Catalogue.of(
        enum_of(
            (
                "SHOP_ERROR_SHELF_EMPTY",
                {
                    "category": options_pb2.CATEGORY_CONFLICT,
                    "severity": options_pb2.SEVERITY_CRITICAL,
                    "retry_scope": options_pb2.RETRY_SCOPE_OPERATION,
                    "retry_delay": {"seconds": 1, "nanos": 500_000_000},
                    "message": "Shelf {shelf-id} is empty.",
                    "metadata": [
                        {"key": "shelf-id", "description": "which"},
                        {"key": "class", "sensitivity": options_pb2.SENSITIVITY_PUBLIC},
                    ],
                    "raised_by": ["shop.Empty"],
                },
            ),
            ("OTHER_NAME", {"code": "ABORTED", "reason": "RENAMED", "docs_url": "https://e.x/{reason}"}),
            default_code="NOT_FOUND",
            docs_url="https://d.x/{reason}",
        )
    )
    error = catalogue.ShelfEmpty(shelf_id=5, class_="b")
    assert isinstance(error, NotFound)
    assert (error.reason, error.message) == ("SHELF_EMPTY", "Shelf 5 is empty.")
    assert error.metadata == {"shelf-id": "5", "class": "b"}
    assert (error.category, error.severity) == (Category.CONFLICT, Severity.CRITICAL)
    assert (error.retry_scope, error.retry_delay) == (RetryScope.OPERATION, 1.5)
    declaration = declaration_of(catalogue.ShelfEmpty)
    assert (declaration.docs_url, declaration.raised_by) == ("https://d.x/SHELF_EMPTY", ("shop.Empty",))
    assert declaration.metadata[0].description == "which"
    assert declaration.metadata[1].sensitivity is Sensitivity.PUBLIC
    assert declaration_of(catalogue["RENAMED"]).docs_url == "https://e.x/RENAMED"
    assert pickle.loads(pickle.dumps(error)).metadata == error.metadata


def test_values_without_the_option_are_no_errors():
    """An enum may have values that declare nothing."""
    assert len(Catalogue.of(enum_of(("ONE", GOOD), options=False))) == 0


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        pytest.param("ShopError", "SHOP_ERROR_SHELF_EMPTY", "SHELF_EMPTY", id="prefix"),
        pytest.param("HTTPError", "HTTP_ERROR_SHELF_EMPTY", "SHELF_EMPTY", id="acronym"),
        pytest.param("Shop2Error", "SHOP2_ERROR_SHELF_EMPTY", "SHELF_EMPTY", id="digit"),
        pytest.param("ShopError", "SHELF_EMPTY", "SHELF_EMPTY", id="no-prefix"),
    ],
)
def test_reasons(name, value, reason):
    """A reason is the value's name without the prefix that its enum's name gives."""
    _, (declaration,) = read(enum_of((value, GOOD), name=name))
    assert declaration.reason == reason


def key(**fields):
    return GOOD | {"metadata": [fields]}


@pytest.mark.parametrize(
    ("value", "error", "sentence"),
    [
        pytest.param("BAD_CODE", {"code": "NOPE"}, "BAD_CODE: .*status code 'NOPE'", id="code"),
        pytest.param("BAD_CODE", {"code": "OK"}, "BAD_CODE: .*status code 'OK'", id="ok"),
        pytest.param("BAD_CODE", {}, "BAD_CODE: .*status code ''", id="no-code"),
        pytest.param("BAD_REASON", GOOD | {"reason": "low"}, "BAD_REASON: reason 'low' does not match", id="reason"),
        pytest.param(
            "BAD_CATEGORY", GOOD | {"category": 99}, "BAD_CATEGORY: 99 is not a valid Category", id="category"
        ),
        pytest.param(
            "BAD_SEVERITY", GOOD | {"severity": 99}, "BAD_SEVERITY: 99 is not a valid Severity", id="severity"
        ),
        pytest.param("BAD_SCOPE", GOOD | {"retry_scope": 99}, "BAD_SCOPE: 99 is not a valid RetryScope", id="scope"),
        pytest.param(
            "BAD_DELAY", GOOD | {"retry_delay": {"seconds": -5}}, r"BAD_DELAY: retry_delay -5.0 is not", id="delay"
        ),
        pytest.param(
            "LONG_DELAY", GOOD | {"retry_delay": {"seconds": 10**12}}, r"LONG_DELAY: retry_delay .* is not", id="long"
        ),
        pytest.param("BAD_KEY", key(key="Isbn"), "BAD_KEY: metadata key 'Isbn' does not match", id="key"),
        pytest.param(
            "BAD_SENSITIVITY", key(key="isbn", sensitivity=99), "BAD_SENSITIVITY: 99 is not a valid", id="sensitivity"
        ),
        pytest.param(
            "BAD_MESSAGE", GOOD | {"message": "{isbn}"}, r"BAD_MESSAGE: the message of BAD_MESSAGE uses", id="message"
        ),
        pytest.param(
            "BAD_KEYS",
            GOOD | {"metadata": [{"key": "a1"}, {"key": "a1"}]},
            "BAD_KEYS: .* a metadata key twice",
            id="twice",
        ),
    ],
)
def test_wrong_declarations(value, error, sentence):
    """An error that is declared wrongly fails with a sentence that names its value."""
    with pytest.raises(ValueError, match=sentence):
        Catalogue.of(enum_of((value, error)))


def test_a_domain_is_needed():
    """A catalogue without a domain fails at its first error."""
    with pytest.raises(ValueError, match="SOME_ERROR: domain '' is not a printable name"):
        Catalogue.of(enum_of(("SOME_ERROR", GOOD), domain=""))


def test_two_values_of_one_class():
    """Two reasons that would be one class in Python fail, naming both values."""
    with pytest.raises(ValueError, match="A__B and A_B would both be the class AB"):
        Catalogue.of(enum_of(("A_B", GOOD), ("A__B", GOOD)))
    with pytest.raises(ValueError, match="SECOND and FIRST would both be the class Same"):
        Catalogue.of(enum_of(("FIRST", GOOD | {"reason": "SAME"}), ("SECOND", GOOD | {"reason": "SAME"})))


def test_another_declaration_of_the_same_reason():
    """Two enums that declare one reason of a domain differently cannot both be loaded."""
    Catalogue.of(enum_of(("SOME_ERROR", GOOD), domain="same.example.com"))
    with pytest.raises(ValueError, match=r"same\.example\.com/SOME_ERROR is declared twice, and not alike"):
        Catalogue.of(enum_of(("SOME_ERROR", {"code": "ABORTED"}), domain="same.example.com"))
    assert error_class(grpc.StatusCode.NOT_FOUND, "same.example.com", "SOME_ERROR").__name__ == "SomeError"


class Plain(enum.Enum):
    ONE = 1


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        pytest.param(Plain, TypeError, "Plain.* is no protobuf enum", id="python-enum"),
        pytest.param(bookshop_pb2.Book, TypeError, "is no protobuf enum", id="message"),
        pytest.param(5, TypeError, "5 is no protobuf enum", id="number"),
        pytest.param(options_pb2.Category, ValueError, "faultwire.v1.Category has no option", id="no-catalogue"),
    ],
)
def test_what_is_no_catalogue(given, kind, sentence):
    """What is no enum, or has no catalogue option, is refused with a sentence."""
    with pytest.raises(kind, match=sentence):
        Catalogue.of(given)


def test_a_class_that_declares_nothing():
    """A catalogue is made of declared classes only."""
    with pytest.raises(TypeError, match="NotFound declares no reason"):
        Catalogue("d.example.com", [NotFound])


ROOMS = Catalogue.of(
    enum_of(("ROOM_TAKEN", {"metadata": [{"key": "room"}, {"key": "until"}]}), default_code="ALREADY_EXISTS")
)


class Taken(ROOMS.RoomTaken):
    """A subclass of one's own of a class that no generated module has."""

    def __init__(self):
        super().__init__(room="7", until="noon")


def test_metadata_that_are_missing():
    """A declared error is not made without what it declares."""
    with pytest.raises(TypeError, match="RoomTaken needs its metadata: until"):
        ROOMS.RoomTaken(room="7")


def test_only_what_pickle_cannot_find_is_replaced():
    """A subclass of one's own stays itself."""
    duplicate = pickle.loads(pickle.dumps(Taken()))
    assert (type(duplicate), duplicate.metadata) == (Taken, {"room": "7", "until": "noon"})
