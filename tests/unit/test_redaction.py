"""What may leave: detectors with their near misses, names, field options through every kind of field."""

import re
import time
import unicodedata

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, struct_pb2, wrappers_pb2
from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from bookshop.v1 import bookshop_pb2
from faultwire.v1 import errors_pb2, options_pb2
from grpc_faultwire import redaction
from grpc_faultwire.category import REDACTED
from grpc_faultwire.details import pack
from grpc_faultwire.detectors import DETECTORS
from grpc_faultwire.redaction import MAX_DEPTH, Redactor, encodable, escaped, speaks_of_secret

redactor = Redactor()
CANARY = "canary-7f3a"
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,7F\n\nMIIcanary-7f3a=\n"
    "-----END RSA PRIVATE KEY-----"
)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fw"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"key {PEM} end", "key [redacted] end", id="pem-with-headers"),
        pytest.param(PEM[:-30], "[redacted]", id="pem-cut-off"),
        pytest.param(
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\nx-y\n-----END PGP PRIVATE KEY BLOCK-----!", "[redacted]!", id="pgp"
        ),
        pytest.param("postgres://app:hunter2@db:5432/x", "postgres://[redacted]@db:5432/x", id="url"),
        pytest.param("redis://:p@ss/w@rd@cache/0", "redis://[redacted]@cache/0", id="url-odd-password"),
        pytest.param("amqp://u:p/w@mq", "amqp://[redacted]@mq", id="url-slash-in-password"),
        pytest.param("https://ghp@github.com/x", "https://[redacted]@github.com/x", id="url-user-alone"),
        pytest.param(
            "see https://a.example/?to=http://u:p@h/x",
            "see https://a.example/?to=http://[redacted]@h/x",
            id="url-in-url",
        ),
        pytest.param(f"jwt {JWT}.", "jwt [redacted]", id="jwt"),
        pytest.param("AKIAIOSFODNN7EXAMPLE", "[redacted]", id="aws"),
        pytest.param("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[redacted]", id="github"),
        pytest.param("xoxb-123456789012-abcdef", "[redacted]", id="slack"),
        pytest.param("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "[redacted]", id="stripe"),
        pytest.param("Bearer abc123def456", "Bearer [redacted]", id="bearer"),
        pytest.param("basic dXNlcjpwYXNzd29yZA==", "basic [redacted]", id="basic"),
        pytest.param("Authorization: Token abc def", "Authorization: [redacted]", id="authorization"),
        pytest.param(
            'authorization: Digest username="bob", response="6629"\nnext',
            "authorization: [redacted]\nnext",
            id="digest",
        ),
        pytest.param("Set-Cookie: a=1; sid=2", "Set-Cookie: [redacted]", id="cookie"),
        pytest.param("password=hunter2 x", "password=[redacted] x", id="password"),
        pytest.param("Password: hunter2, next", "Password: [redacted], next", id="password-colon"),
        pytest.param('{"client_secret": "a b c", "n": 1}', '{"client_secret": [redacted], "n": 1}', id="json"),
        pytest.param("{'api_key': 'a b'}", "{'api_key': [redacted]}", id="repr"),
        pytest.param(r'{"password": "a\"b c", "n": 1}', '{"password": [redacted], "n": 1}', id="escaped-quote"),
        pytest.param(r'"{\"token\": \"a b\", \"n\": 1}"', r'"{\"token\": [redacted], \"n\": 1}"', id="json-in-json"),
        pytest.param("api key: k1 rest", "api key: [redacted] rest", id="api-key-in-words"),
        pytest.param("card 4111 1111 1111 1111.", "card [redacted].", id="card"),
        pytest.param("4111-1111-1111-1111", "[redacted]", id="card-dashes"),
        pytest.param("pan=378282246310005", "pan=[redacted]", id="amex"),
        pytest.param("3782 822463 10005 ok", "[redacted] ok", id="amex-in-groups"),
        pytest.param("4111111111111111 123", "[redacted]", id="card-and-code"),
        pytest.param("4111 1111 1111 1111 12/26", "[redacted]/26", id="card-and-date"),
        pytest.param("6011000990139424", "[redacted]", id="discover"),
        pytest.param("to bob.o+x@mail.example.co.uk now", "to [redacted] now", id="email"),
    ],
)
def test_secrets_are_found(text, expected):
    """What looks like a secret is taken out, whole, and nothing else is."""
    assert redactor.text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("ISBN 9780441172719 and 978-0-441-17271-9", id="isbn-13"),
        pytest.param("ISBN 0-441-17271-7", id="isbn-10"),
        pytest.param("550e8400-e29b-41d4-a716-446655440000", id="uuid"),
        pytest.param("41111111-1111-1111-a716-446655440000", id="uuid-that-begins-as-a-card"),
        pytest.param("51234123-4123-4123-4123-123412341234", id="uuid-of-digits"),
        pytest.param("4bf92f3577b34da6a3ce929d0e0e4736", id="trace-id"),
        pytest.param("a4111111111111111b", id="hexadecimal"),
        pytest.param("2026-10-28T12:34:56.789012Z", id="timestamp"),
        pytest.param("20261028123456", id="timestamp-without-separators"),
        pytest.param("1793190896 1793190896123 1793190896123456 1793190896123456789", id="epochs"),
        pytest.param("1,234,567.89 EUR or 12.50", id="prices"),
        pytest.param("4111111111111111.50", id="a-long-decimal"),
        pytest.param("order 4111111111111112", id="order-id-of-no-card"),
        pytest.param("order 1234567890123456", id="order-id"),
        pytest.param("order ORD-2026-000123", id="order-id-with-letters"),
        pytest.param("https://example.com:8080/a?b=c#d", id="url"),
        pytest.param("https://medium.com/@alice/post", id="url-with-at-in-path"),
        pytest.param("https://example.com:443/@alice", id="url-with-port-and-at"),
        pytest.param("package@1.2.3", id="version"),
        pytest.param("@decorator", id="at"),
        pytest.param("basic authentication is needed", id="basic-word"),
        pytest.param("The bearer presented no ticket.", id="bearer-word"),
        pytest.param("the token has expired", id="token-word"),
        pytest.param("5 tokens: none", id="tokens-word"),
        pytest.param("a password is needed", id="password-word"),
        pytest.param("eyJust looking", id="eyj-word"),
        pytest.param("task-list-of-the-morning", id="sk-in-a-word"),
    ],
)
def test_near_misses_stay(text):
    """What only resembles a secret is left as it is."""
    assert redactor.text(text) == text


@given(st.uuids())
def test_identifiers_stay(identifier):
    """No UUID is taken for anything else, with or without dashes."""
    assert redactor.text(str(identifier)) == str(identifier)
    assert redactor.text(identifier.hex) == identifier.hex


HOSTILE = {
    "jwt": "-eyJ",
    "jwt-words": "eyJaaaaaaaaaa ",
    "urls": "://",
    "urls-at": "://a@",
    "urls-colon": "://:",
    "at": "a@a.",
    "dots": "a.",
    "local-part": "a",
    "password": "password=",
    "password-quote": 'password:"',
    "backslashes": 'token="\\',
    "bearer": "bearer ",
    "pem": "-----BEGIN PRIVATE KEY-----",
    "pem-start": "-----BEGIN A ",
    "digits": "4",
    "digits-apart": "4 ",
    "card": "4111111111111111 ",
    "spaces": " ",
    "token-spaces": "token    ",
    "sk": "sk-",
    "ya": "ya29.",
    "underscores": "_",
    "cookie": "cookie=",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_detectors_take_linear_time(unit):
    """Eight times the text takes about eight times the time, not sixty-four times."""

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        began = time.thread_time()
        redactor.text(text)
        return time.thread_time() - began

    short = min(seconds(25_000) for _ in range(2))
    assert seconds(200_000) < 20 * short + 0.05


@given(st.text(alphabet=st.characters(), max_size=200))
def test_any_text_can_be_redacted(text):
    """No text makes a detector raise, and what is clean stays clean."""
    once = redactor.text(text)
    assert redactor.text(once).count(REDACTED) >= once.count(REDACTED)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ["password", "API_KEY", "x-api-key", "AccessToken", "session_id", "cardNumber"]),
        *((name, False) for name in ["isbn", "key", "author", "customer", "session", "pass", "card"]),
    ],
)
def test_names_that_speak_of_a_secret(name, secret):
    """Letter case and separators do not hide what a name says."""
    assert speaks_of_secret(name) is secret
    assert redactor.value(name, "x") == (REDACTED if secret else "x")


def test_one_text_is_no_collection_of_keys():
    """A forgotten comma is refused: the letters of a text are no keys."""
    with pytest.raises(TypeError, match="metadata_keys is the text 'isbn'"):
        Redactor(metadata_keys="isbn")


def test_other_detectors_can_be_given():
    """One's own detectors take the place of the default ones."""
    own = Redactor(detectors=[(re.compile("blue"), "red")])
    assert own.text("blue bob@example.com") == "red bob@example.com"


# Text that can be shown and sent.


@given(st.text(alphabet=st.characters()))
def test_escaped_text_is_one_printable_line(text):
    """Escaped text has no character that moves a cursor, breaks a line or turns its direction."""
    shown = escaped(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)
    assert text != shown or text.isprintable()


@given(st.text(alphabet=st.characters()))
def test_encodable_text_can_be_sent(text):
    """Only unpaired surrogates are replaced."""
    sent = encodable(text)
    sent.encode()
    if not any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        assert sent is text
    assert [a for a in text if not 0xD800 <= ord(a) <= 0xDFFF] == [
        a for a in sent if a != "\ufffd" or a in text
    ] or any(ord(a) > 0xFFFF for a in sent)


# Messages.


def _pool():
    """A pool of its own, as reflection makes one; its options are unknown fields to it."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="test.redaction", syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/rpc/error_details.proto"])
    message = file.message_type.add(name="Order")
    field = descriptor_pb2.FieldDescriptorProto
    message.oneof_decl.add(name="payment")
    message.oneof_decl.add(name="_note")

    def add(name, kind=field.TYPE_STRING, *, repeated=False, type_name=None, sensitivity=0, redact=False, **more):
        label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        number = len(message.field) + 1
        one = message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name, **more)
        if sensitivity:
            one.options.Extensions[options_pb2.sensitivity] = sensitivity
        if redact:
            one.options.debug_redact = True

    def add_map(name, kind, type_name=None):
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=1)
        entry.field.add(name="value", number=2, type=kind, label=1, type_name=type_name)
        add(name, field.TYPE_MESSAGE, repeated=True, type_name=f".test.redaction.Order.{name.capitalize()}Entry")

    add("title")
    add("email", sensitivity=options_pb2.SENSITIVITY_PERSONAL)
    add("pin", field.TYPE_INT32, sensitivity=options_pb2.SENSITIVITY_SECRET)
    add("hidden", redact=True)
    add("hidden_list", repeated=True, redact=True)
    add("titles", repeated=True)
    add("token")
    add("next_page_token", sensitivity=options_pb2.SENSITIVITY_PUBLIC)
    add("max_tokens", field.TYPE_INT32)
    add("card_number", field.TYPE_INT64)
    add("blob", field.TYPE_BYTES)
    add("child", field.TYPE_MESSAGE, type_name=".test.redaction.Order")
    add("children", field.TYPE_MESSAGE, repeated=True, type_name=".test.redaction.Order")
    add("hidden_child", field.TYPE_MESSAGE, type_name=".test.redaction.Order", redact=True)
    add("credentials", field.TYPE_MESSAGE, type_name=".test.redaction.Order")
    add("packed", field.TYPE_MESSAGE, type_name=".google.protobuf.Any")
    add("all_packed", field.TYPE_MESSAGE, repeated=True, type_name=".google.protobuf.Any")
    add("debug", field.TYPE_MESSAGE, type_name=".google.rpc.DebugInfo")
    add("cash", oneof_index=0)
    add("iban", oneof_index=0, sensitivity=options_pb2.SENSITIVITY_PERSONAL)
    add("note", oneof_index=1, proto3_optional=True)
    add_map("texts", field.TYPE_STRING)
    add_map("orders", field.TYPE_MESSAGE, ".test.redaction.Order")
    add_map("anys", field.TYPE_MESSAGE, ".google.protobuf.Any")
    add_map("bytes", field.TYPE_BYTES)
    add_map("passwords", field.TYPE_STRING)
    add_map("numbers", field.TYPE_INT32)
    return file


def _classes():
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2.DESCRIPTOR, descriptor_pool.Default().FindFileByName("google/protobuf/duration.proto")):
        copy = descriptor_pb2.FileDescriptorProto()
        known.CopyToProto(copy)
        pool.Add(copy)
    copy = descriptor_pb2.FileDescriptorProto()
    rpc.DESCRIPTOR.CopyToProto(copy)
    pool.Add(copy)
    pool.Add(_pool())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.redaction.Order"))


Order = _classes()
SECRET_PACKED = pack(bookshop_pb2.OrderLine(isbn="1", email=CANARY))


def _any(packed):
    return {"type_url": packed.type_url, "value": packed.value}


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        pytest.param({"title": "Dune"}, {"title": "Dune"}, id="text"),
        pytest.param({"title": "to a@b.de"}, {"title": f"to {REDACTED}"}, id="detected"),
        pytest.param({"email": CANARY}, {}, id="personal"),
        pytest.param({"pin": 1234}, {}, id="secret-number"),
        pytest.param({"hidden": CANARY, "hidden_list": [CANARY]}, {}, id="debug-redact"),
        pytest.param({"titles": ["Dune", "a@b.de"]}, {"titles": ["Dune", REDACTED]}, id="repeated"),
        pytest.param({"token": CANARY}, {}, id="name"),
        pytest.param({"next_page_token": "p2"}, {"next_page_token": "p2"}, id="public-in-spite-of-its-name"),
        pytest.param({"next_page_token": "a@b.de"}, {"next_page_token": REDACTED}, id="public-and-detected"),
        pytest.param({"max_tokens": 5}, {"max_tokens": 5}, id="a-number-of-tokens"),
        pytest.param({"card_number": 4111111111111111}, {}, id="a-number-of-a-card"),
        pytest.param({"blob": b"\xff a@b.de"}, {"blob": b"\xff [redacted]"}, id="bytes"),
        pytest.param({"child": {"email": CANARY, "title": "x"}}, {"child": {"title": "x"}}, id="nested"),
        pytest.param({"children": [{"token": CANARY}, {"title": "x"}]}, {"children": [{}, {"title": "x"}]}, id="list"),
        pytest.param({"hidden_child": {"title": CANARY}}, {}, id="hidden-message"),
        pytest.param({"credentials": {"title": CANARY}}, {}, id="message-by-name"),
        pytest.param({"debug": {"detail": CANARY}}, {}, id="debug-info-in-a-field"),
        pytest.param({"cash": "5 EUR"}, {"cash": "5 EUR"}, id="oneof"),
        pytest.param({"iban": CANARY}, {}, id="oneof-personal"),
        pytest.param({"note": ""}, {"note": ""}, id="optional-keeps-its-presence"),
        pytest.param(
            {"texts": {"isbn": "1", "api-key": CANARY, "to": "a@b.de"}},
            {"texts": {"isbn": "1", "api-key": REDACTED, "to": REDACTED}},
            id="map-of-texts",
        ),
        pytest.param({"texts": {"a@b.de": "x"}}, {}, id="map-key-detected"),
        pytest.param(
            {"orders": {"1": {"email": CANARY, "title": "x"}}}, {"orders": {"1": {"title": "x"}}}, id="map-of"
        ),
        pytest.param({"orders": {"password": {"title": CANARY}}}, {}, id="map-of-messages-by-name"),
        pytest.param({"bytes": {"password": b"x", "n": b"y"}}, {"bytes": {"n": b"y"}}, id="map-of-bytes"),
        pytest.param({"numbers": {"password": 1, "n": 2}}, {"numbers": {"n": 2}}, id="map-of-numbers"),
        pytest.param({"passwords": {"bob": CANARY}}, {}, id="map-by-name"),
        pytest.param(
            {"packed": _any(SECRET_PACKED)}, {"packed": _any(pack(bookshop_pb2.OrderLine(isbn="1")))}, id="any"
        ),
        pytest.param(
            {"anys": {"1": _any(SECRET_PACKED)}},
            {"anys": {"1": _any(pack(bookshop_pb2.OrderLine(isbn="1")))}},
            id="map-of-any",
        ),
        pytest.param({"packed": {"type_url": "h/nobody.Knows", "value": b"canary"}}, {}, id="any-unknown"),
        pytest.param({"anys": {"1": {"type_url": "h/nobody.Knows", "value": b"canary"}}}, {}, id="map-of-any-unknown"),
        pytest.param({"packed": {"type_url": "h/google.rpc.Help", "value": b"\xff"}}, {}, id="any-garbage"),
        pytest.param(
            {"all_packed": [{"type_url": "h/nobody.Knows"}, _any(SECRET_PACKED)]},
            {"all_packed": [_any(pack(bookshop_pb2.OrderLine(isbn="1")))]},
            id="list-of-any",
        ),
        pytest.param({"packed": _any(pack(rpc.DebugInfo(detail=CANARY)))}, {}, id="debug-info-in-an-any"),
    ],
)
def test_fields_of_a_message(given_, kept):
    """Options, names and detectors reach every kind of field, also of a pool of its own."""
    message = Order(**given_)
    before = message.SerializeToString(deterministic=True)
    assert redactor.detail(message) == Order(**kept)
    assert message.SerializeToString(deterministic=True) == before


def test_generated_messages_obey_their_options():
    """A generated message of a request keeps what is personal to itself."""
    line = bookshop_pb2.OrderLine(isbn="1", quantity=2, email=CANARY)
    assert redactor.detail(line) == bookshop_pb2.OrderLine(isbn="1", quantity=2)


def test_unknown_fields_do_not_leave():
    """What a newer peer knows and this process does not is dropped, also inside and in an Any."""
    wide = bookshop_pb2.OrderLine(isbn="1", email=CANARY).SerializeToString()
    empty = wrappers_pb2.BoolValue.FromString(b"\x08\x01" + b"\x7a\x0bcanary-7f3a")
    assert b"canary" in empty.SerializeToString()
    assert redactor.detail(empty).SerializeToString() == b"\x08\x01"
    status = status_pb2.Status(
        details=[any_pb2.Any(type_url="h/google.protobuf.BoolValue", value=b"\x7a\x01c" + b"\x08\x01")]
    )
    assert redactor.detail(status).details[0].value == b"\x08\x01"
    assert CANARY.encode() not in redactor.detail(bookshop_pb2.OrderLine.FromString(wide)).SerializeToString()


def test_a_struct_is_read_by_its_keys():
    """The keys of a Struct are names as any other."""
    struct = struct_pb2.Struct()
    struct.update({"password": CANARY, "list": ["a@b.de"], "inner": {"api_key": CANARY, "isbn": "1"}})
    kept = struct_pb2.Struct()
    kept.update({"list": [REDACTED], "inner": {"isbn": "1"}})
    assert redactor.detail(struct) == kept


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(any_pb2.Any(type_url="h/nobody.Knows", value=b"x"), id="unknown"),
        pytest.param(any_pb2.Any(type_url="h/google.rpc.Help", value=b"\xff"), id="garbage"),
        pytest.param(any_pb2.Any(), id="empty"),
    ],
)
def test_an_any_that_cannot_be_read_does_not_leave(packed):
    """What cannot be looked into does not leave."""
    assert redactor.detail(packed) is None


def _nested_any(levels: int) -> any_pb2.Any:
    packed = pack(rpc.Help(links=[{"description": CANARY}]))
    for _ in range(levels):
        packed = any_pb2.Any(type_url="h/google.protobuf.Any", value=packed.SerializeToString())
    return packed


def test_an_any_in_an_any_is_unwrapped_to_a_depth():
    """Wrapping an Any again and again hides nothing, and three thousand times is too much."""
    assert redactor.detail(_nested_any(5)) == rpc.Help(links=[{"description": CANARY}])
    assert redactor.detail(_nested_any(3000)) is None


def test_depth_is_bounded():
    """Text below the depth that is looked into is dropped, however it got there."""
    message = Order(title=CANARY)
    for _ in range(MAX_DEPTH + 5):
        message = Order(child=message, title="level")
    left = redactor.detail(message)
    assert CANARY.encode() not in left.SerializeToString()
    assert left.SerializeToString().count(b"level") == MAX_DEPTH
    status = status_pb2.Status(message=CANARY)
    for _ in range(3000):
        status = status_pb2.Status(details=[pack(status)])
    assert CANARY.encode() not in redactor.detail(status).SerializeToString()


def test_extensions_do_not_leave():
    """Extensions of a message of proto2 have no plan, so they stay."""
    options = descriptor_pb2.EnumOptions(deprecated=True)
    options.Extensions[options_pb2.catalogue].domain = CANARY
    assert redactor.detail(options) == descriptor_pb2.EnumOptions(deprecated=True)


def test_a_required_field_may_be_cleared():
    """A message of proto2 that misses a required field after redaction can still be packed."""
    option = descriptor_pb2.UninterpretedOption(identifier_value="password=hunter2")
    option.name.add(name_part="a@b.de", is_extension=True)
    cleaned = redactor.detail(option)
    assert cleaned.identifier_value == f"password={REDACTED}"
    pack(cleaned)


def test_a_plan_is_compiled_once_per_type(monkeypatch):
    """The options of a type are read once, however many messages of it are redacted."""
    asked = []
    act = redaction._act
    monkeypatch.setattr(redaction, "_act", lambda field: (asked.append(field.full_name), act(field))[1])
    fresh = Redactor()
    for _ in range(3):
        fresh.detail(errors_pb2.BatchReport(failures=[{"key": "1"}]))
    assert len(asked) == len(set(asked)) > 5


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=10), st.text(max_size=40), max_size=5), st.binary(max_size=60))
def test_any_message_can_be_redacted(texts, blob):
    """Redaction of a message never raises, and leaves the original as it was."""
    message = Order(title="x", blob=blob, texts=texts)
    message.packed.CopyFrom(type(message.packed)(type_url="h/google.rpc.Help", value=blob))
    before = message.SerializeToString(deterministic=True)
    redactor.detail(message)
    assert message.SerializeToString(deterministic=True) == before


FIELD_BY_FIELD = Redactor(detectors=[*DETECTORS, (re.compile("(?!)"), REDACTED)])
"""A detector of one's own, here one that finds nothing, has each message looked into field by field."""
words = st.one_of(
    st.sampled_from(
        ["password=x", "a@b.de", JWT, "4111 1111 1111 1111", "basic dXNlcjpwYXNzd29yZA==", "basic", CANARY]
    ),
    st.text(max_size=150),
)
violations = st.lists(st.builds(rpc.BadRequest.FieldViolation, field=words, description=words), max_size=3)
messages = st.one_of(
    st.builds(rpc.BadRequest, field_violations=violations),
    st.builds(rpc.ResourceInfo, resource_type=words, resource_name=words, owner=words, description=words),
    st.builds(rpc.QuotaFailure.Violation, subject=words, quota_dimensions=st.dictionaries(words, words, max_size=2)),
    st.builds(wrappers_pb2.BytesValue, value=st.one_of(st.binary(max_size=40), words.map(str.encode))),
    st.builds(bookshop_pb2.OrderLine, isbn=words, email=words),
    st.builds(lambda title, child: Order(title=title, child=Order(token=child)), words, words),
    st.builds(lambda packed: status_pb2.Status(details=[pack(rpc.Help(links=[{"url": packed}]))]), words),
    st.builds(
        lambda blob: rpc.Help.FromString(b"\x7a\x03abc" + blob),
        words.map(lambda text: rpc.Help(links=[{"url": text}]).SerializeToString()),
    ),
)


@settings(max_examples=200, deadline=None)
@given(messages)
def test_one_look_at_all_texts_finds_what_a_look_at_each_finds(message):
    """A message that is told to be clean at one look would leave unchanged field by field too."""
    assert redactor.detail(message) == FIELD_BY_FIELD.detail(message)


@pytest.mark.parametrize(
    ("kind", "clean"),
    [
        pytest.param(rpc.BadRequest, True, id="texts in messages"),
        pytest.param(wrappers_pb2.Int64Value, True, id="a number"),
        pytest.param(rpc.ErrorInfo, False, id="a map"),
        pytest.param(status_pb2.Status, False, id="an Any"),
        pytest.param(any_pb2.Any, False, id="an Any itself"),
        pytest.param(struct_pb2.Value, False, id="recursive"),
        pytest.param(descriptor_pb2.EnumOptions, False, id="extendable"),
        pytest.param(bookshop_pb2.OrderLine, False, id="a personal field"),
        pytest.param(Order, False, id="all of these"),
    ],
)
def test_which_types_one_look_is_enough_for(kind, clean):
    """One look is enough only where nothing but what its texts say decides what may leave of a message."""
    assert redactor._is_clean(kind()) is clean
