"""What may be declared of an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_faultwire.category import REDACTED, Sensitivity
from grpc_faultwire.declaration import Declaration, MetadataKey, class_name
from grpc_faultwire.error_info import MAX_RETRY_DELAY, check_retry_delay


def declare(**changes):
    return Declaration(**{"reason": "SOME_REASON", "domain": "d.example.com", "code": "NOT_FOUND"} | changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"reason": "NO"}, r"reason 'NO' does not match .* \(google.rpc.ErrorInfo\)", id="short-reason"),
        pytest.param({"reason": "some_reason"}, r"reason 'some_reason' does not match", id="lower-case-reason"),
        pytest.param({"reason": "SOME_REASON_"}, r"reason 'SOME_REASON_' does not match", id="reason-ends-in-_"),
        pytest.param({"reason": "R" * 64}, r"reason 'R{64}' does not match", id="long-reason"),
        pytest.param({"domain": ""}, r"domain '' is not a printable name of 1 to 253 characters", id="no-domain"),
        pytest.param({"domain": "a\x00b"}, r"domain 'a\\x00b' is not a printable name", id="domain"),
        pytest.param({"domain": None}, r"domain None is not a printable name", id="domain-none"),
        pytest.param({"retry_delay": -0.1}, r"retry_delay -0.1 is not between 0 and 315576000000 seconds", id="delay"),
        pytest.param(
            {"message": "{isbn} {shelf}", "metadata": (MetadataKey(key="isbn"),)},
            r"the message of SOME_REASON uses metadata it does not declare: \['shelf'\]",
            id="message",
        ),
        pytest.param(
            {"metadata": (MetadataKey(key="a1"), MetadataKey(key="a1"))},
            r"SOME_REASON declares a metadata key twice: a1, a1",
            id="key-twice",
        ),
    ],
)
def test_wrong_declarations(changes, sentence):
    """A declaration that breaks a rule is refused with a sentence that names the value."""
    with pytest.raises(ValueError, match=sentence):
        declare(**changes)


@pytest.mark.parametrize("key", ["", "Key", "1a", "a b", "k" * 65, "ä", None])
def test_wrong_metadata_keys(key):
    """A key that google.rpc.ErrorInfo does not allow is refused."""
    with pytest.raises(ValueError, match=r"metadata key .* does not match"):
        MetadataKey(key=key)


@pytest.mark.parametrize(
    ("key", "sensitivity", "public"),
    [
        ("isbn", None, True),
        ("isbn", Sensitivity.PUBLIC, True),
        ("isbn", Sensitivity.PERSONAL, False),
        ("isbn", Sensitivity.SECRET, False),
        ("password", None, False),
        ("api-key", None, False),
        ("page_token", Sensitivity.PUBLIC, True),
    ],
)
def test_what_is_public(key, sensitivity, public):
    """A key is public if its declaration says so, or says nothing and its name speaks of no secret."""
    assert MetadataKey(key=key, sensitivity=sensitivity).public is public
    rendered = declare(message=f"<{{{key}}}>", metadata=(MetadataKey(key=key, sensitivity=sensitivity),))
    assert rendered.render({key: "value"}) == ("<value>" if public else f"<{REDACTED}>")


@pytest.mark.parametrize(
    ("message", "metadata", "text"),
    [
        pytest.param("No {isbn}.", {"isbn": "1"}, "No 1.", id="value"),
        pytest.param("No {isbn}.", {}, "No .", id="missing"),
        pytest.param("No {isbn}.", {"isbn": "{isbn} {email}"}, "No {isbn} {email}.", id="value-is-no-template"),
        pytest.param("{email}", {"email": "x"}, REDACTED, id="personal"),
        pytest.param("{} {0} {Isbn} {{isbn}} {isbn", {"isbn": "1"}, "{} {0} {Isbn} {1} {isbn", id="no-other-syntax"),
        pytest.param("{isbn.__class__} {isbn!r}", {"isbn": "1"}, "{isbn.__class__} {isbn!r}", id="no-format-tricks"),
    ],
)
def test_messages_are_rendered(message, metadata, text):
    """Placeholders are replaced by public values, once, and nothing else is."""
    keys = (MetadataKey(key="isbn"), MetadataKey(key="email", sensitivity=Sensitivity.PERSONAL))
    assert declare(message=message, metadata=keys).render(metadata) == text


@given(st.text(max_size=200))
def test_any_message_can_be_declared_or_is_refused(message):
    """A template never breaks the rendering."""
    try:
        declaration = declare(message=message)
    except ValueError:
        return
    assert declaration.render({}) == message


@pytest.mark.parametrize("delay", [None, 0, 0.5, MAX_RETRY_DELAY])
def test_delays_that_can_be_sent(delay):
    """Any time that a Duration can carry may be waited for."""
    check_retry_delay(delay)


def test_descriptions_do_not_distinguish():
    """Declarations that differ in nothing but what is for people are the same."""
    assert declare(description="a") == declare(description="b")
    assert declare(message="a") != declare(message="b")


@pytest.mark.parametrize(
    ("reason", "name"), [("BOOK_NOT_FOUND", "BookNotFound"), ("ISBN13_BAD", "Isbn13Bad"), ("A__B", "AB")]
)
def test_class_names(reason, name):
    """A reason's class is called as the reason, in Python's way."""
    assert class_name(reason) == name


@pytest.mark.parametrize(
    ("key", "argument"),
    [("isbn", "isbn"), ("book-id", "book_id"), ("class", "class_"), ("reason", "reason_"), ("message", "message_")],
)
def test_arguments(key, argument):
    """Each key can be given by an argument, whatever Python or the constructor makes of its name."""
    assert MetadataKey(key=key).argument == argument
