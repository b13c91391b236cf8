"""Requests and responses that cannot be read or written."""

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

from bookshop.v1 import bookshop_pb2
from grpc_faultwire.messages import (
    UNCHECKED,
    Malformed,
    MalformedRequestError,
    UnserializableError,
    check,
    checked,
    reading,
)

Book = bookshop_pb2.Book


def test_a_request_that_can_be_read():
    """A deserializer that succeeds gives its request."""
    read = reading(Book.FromString)
    assert checked(read(Book(isbn="1").SerializeToString())) == Book(isbn="1")
    assert reading(None) is None
    assert checked(None) is None


def test_a_request_that_cannot_be_read():
    """A deserializer that raises gives a stand-in, which raises where the handler would read."""
    stand_in = reading(Book.FromString)(b"\xff")
    assert isinstance(stand_in, Malformed)
    with pytest.raises(MalformedRequestError) as raised:
        checked(stand_in)
    assert isinstance(raised.value.__cause__, DecodeError)


def refusing(_response):
    raise RuntimeError("refused")


@pytest.mark.parametrize(
    ("response", "serializer"),
    [
        pytest.param(Book(), Book.SerializeToString, id="message"),
        pytest.param(b"bytes", None, id="bytes-as-they-are"),
        pytest.param("text", str.encode, id="own-serializer"),
        pytest.param(object(), UNCHECKED, id="unchecked"),
        pytest.param(5, lambda _: b"", id="empty-bytes"),
    ],
)
def test_responses_that_can_be_sent(response, serializer):
    """What can be serialized passes."""
    check(response, serializer)


@pytest.mark.parametrize(
    ("response", "serializer", "sentence"),
    [
        pytest.param(None, Book.SerializeToString, "the serializer refused a NoneType", id="none"),
        pytest.param({}, Book.SerializeToString, "the serializer refused a dict", id="dict"),
        pytest.param("text", None, "a str is no response", id="text-without-serializer"),
        pytest.param(Book(), refusing, "the serializer refused a Book", id="raises"),
        pytest.param(Book(), lambda _: None, "a Book is no response", id="gives-none"),
        pytest.param(Book(), lambda _: "text", "a Book is no response", id="gives-text"),
        pytest.param(
            descriptor_pb2.UninterpretedOption.NamePart(),
            descriptor_pb2.UninterpretedOption.NamePart.SerializeToString,
            "a NamePart is no response",
            id="incomplete",
        ),
    ],
)
def test_responses_that_cannot_be_sent(response, serializer, sentence):
    """What grpc could not send is found out while it can be answered well."""
    with pytest.raises(UnserializableError, match=sentence):
        check(response, serializer)
