"""An error fits the transport, whatever was put in it, and the least useful went first."""

import random

import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faultwire.v1 import errors_pb2
from grpc_faultwire.category import RetryScope
from grpc_faultwire.errors import InvalidArgument, NotFound, Origin
from grpc_faultwire.redaction import Redactor
from grpc_faultwire.status import DETAILS_KEY, decode, encode
from grpc_faultwire.truncation import (
    BUDGET,
    FIXED,
    TRANSPORT,
    Draft,
    _fits_easily,
    base64_size,
    fit,
    message_size,
    trailer_size,
)

KIB = 1024
ORDER = (
    "debug_info",
    "help",
    "causes",
    "batch",
    "violations",
    "details",
    "localized_message",
    "metadata",
    "message",
    "metadata_keys",
    "trailers",
)
STATUS = status_pb2.Status(code=3, message="item " * 4)


def violations(size):
    return [{"field": f"lines[{n}]", "description": "d" * 90} for n in range(max(1, size // 100))]


PARTS = {
    "debug_info": lambda size: {"details": [rpc.DebugInfo(stack_entries=["f" * 100] * (size // 100 + 1))]},
    "help": lambda size: {"details": [rpc.Help(links=[{"url": "https://e.x/" + "u" * size}])]},
    "causes": lambda size: {"causes": [{"parent": -1, "message": "c" * 100} for _ in range(size // 100 + 1)]},
    "one-cause": lambda size: {"causes": [{"parent": -1, "message": "c" * size}]},
    "batch-failures": lambda size: {
        "details": [
            errors_pb2.BatchReport(
                total=9999, failures=[{"index": n, "key": "k", "status": STATUS} for n in range(size // 40 + 1)]
            )
        ]
    },
    "batch-indexes": lambda size: {
        "details": [errors_pb2.BatchReport(total=9999, groups=[{"indexes": range(size // 2 + 1), "status": STATUS}])]
    },
    "batch-groups": lambda size: {
        "details": [errors_pb2.BatchReport(groups=[{"indexes": [n], "status": STATUS} for n in range(size // 40 + 1)])]
    },
    "bad-request": lambda size: {"details": [rpc.BadRequest(field_violations=violations(size))]},
    "quota": lambda size: {
        "details": [rpc.QuotaFailure(violations=[{"description": "q" * 90} for _ in range(size // 100 + 1)])]
    },
    "precondition": lambda size: {
        "details": [rpc.PreconditionFailure(violations=[{"type": "p" * 90} for _ in range(size // 100 + 1)])]
    },
    "request-info": lambda size: {"details": [rpc.RequestInfo(serving_data="s" * size)]},
    "resource-info": lambda size: {"details": [rpc.ResourceInfo(description="r" * size)]},
    "foreign": lambda size: {"details": [struct_pb2.Value(string_value="v" * size)]},
    "localized": lambda size: {"details": [rpc.LocalizedMessage(locale="de", message="ß" * (size // 2))]},
    "metadata": lambda size: {"metadata": {f"k{n}": "v" * (size // 4) for n in range(4)}},
    "metadata-keys": lambda size: {"metadata": {f"{'k' * 50}{n}": "" for n in range(size // 50 + 1)}},
    "message": lambda size: {"message": "m" * size},
    "message-unicode": lambda size: {"message": "é😀" * (size // 6)},
    "message-percent": lambda size: {"message": "%\n" * (size // 2)},
}


def draft(parts, trailers=()) -> Draft:
    given_ = {"details": [], "causes": [], "metadata": {}, "message": "m"}
    for part in parts:
        given_ |= part | {
            "details": [*given_["details"], *part.get("details", ())],
            "causes": [*given_["causes"], *part.get("causes", ())],
            "metadata": given_["metadata"] | part.get("metadata", {}),
        }
    return Draft(
        code=3,
        message=given_["message"],
        info=rpc.ErrorInfo(reason="SOME_REASON", domain="d.example.com", metadata=given_["metadata"]),
        retry=rpc.RetryInfo(retry_delay={"seconds": 1}),
        report=errors_pb2.ErrorReport(error_id="0f" * 16, service="s.S", method="M", causes=given_["causes"]),
        details=[type(one).FromString(one.SerializeToString()) for one in given_["details"]],
        trailers=list(trailers),
    )


def left(one: Draft) -> dict[str, int]:
    """Return how much of each part is left."""
    kinds = {type(detail): detail for detail in one.details}
    batch = kinds.get(errors_pb2.BatchReport, errors_pb2.BatchReport())
    fields = {rpc.BadRequest: "field_violations", rpc.QuotaFailure: "violations", rpc.PreconditionFailure: "violations"}
    special = (rpc.DebugInfo, rpc.Help, rpc.LocalizedMessage)
    return {
        "debug_info": rpc.DebugInfo in kinds,
        "help": rpc.Help in kinds,
        "causes": len(one.report.causes),
        "batch": len(batch.failures) + len(batch.groups) + sum(len(group.indexes) for group in batch.groups),
        "violations": sum(len(getattr(kinds[kind], name)) for kind, name in fields.items() if kind in kinds),
        "details": sum(kind not in special for kind in kinds) + bool(one.report.service) + bool(one.report.method),
        "localized_message": rpc.LocalizedMessage in kinds,
        "metadata": sum(map(len, one.info.metadata.values())),
        "message": len(one.message),
        "metadata_keys": len(one.info.metadata),
        "trailers": len(one.trailers),
    }


def check(parts, trailers=(), budget=BUDGET) -> Draft:
    """Check all that holds of any error that is made to fit, and return what became of it."""
    before, after = draft(parts, trailers), draft(parts, trailers)
    had = left(before)
    fit(after, budget)
    has = left(after)
    dropped = list(after.report.truncation.dropped)

    # It fits; where the user's trailers leave no room even for what is never dropped, at least between two cores.
    raw = sum(32 + len(key) + len(value) for key, value in after.trailers)
    core = FIXED + after.status().ByteSize() + message_size(after.message) + raw <= TRANSPORT
    assert after.excess(budget) <= 0 or (core and not any(has[name] for name in ORDER[:-1]))
    # What is never dropped is there.
    assert (after.code, after.info.reason, after.info.domain) == (3, "SOME_REASON", "d.example.com")
    assert (after.retry, after.report.error_id) == (before.retry, before.report.error_id)
    # The list says what is missing, no more and no less, in order.
    changed = [name for name in ORDER if has[name] != had[name]]
    assert dropped == changed
    assert bool(dropped) == (before.excess(budget) > 0)
    assert after.report.truncation.original_bytes == (before.size() if dropped else 0)
    # A later part is touched only when nothing is left of those before it.
    if dropped:
        last = max(ORDER.index(name) for name in dropped)
        assert [name for name in ORDER[:last] if has[name]] == []
    assert before.message.startswith(after.message)
    return after


TRAILERS = {
    "none": [],
    "some": [("x-a", "t" * 900)] * 2,
    "much": [(f"x-{n}", "t" * 950) for n in range(7)],
    "binary": [("x-a-bin", b"\xff" * 5000)],
}


@pytest.mark.parametrize("trailers", TRAILERS.values(), ids=TRAILERS)
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_any_part_of_any_size_fits(part, trailers):
    """An error of 1 byte to 200 KiB in any part fits, beside trailers of up to 7 KiB."""
    for size in (1, 100, 3000, 4500, 6000, 8 * KIB, 40 * KIB, 200 * KIB):
        check([part(size)], trailers)


@settings(max_examples=120, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(PARTS)), st.integers(1, 12_000), max_size=6),
    st.lists(st.integers(0, 2000), max_size=4),
    st.integers(1024, TRANSPORT),
)
def test_any_mixture_fits(parts, trailers, budget):
    """Errors with something in several parts fit any budget, and keep the order of dropping."""
    chosen = [PARTS[name](size) for name, size in parts.items() if name not in ("batch-failures", "batch-indexes")]
    check(chosen, [(f"x-{n}", "t" * size) for n, size in enumerate(trailers)], budget)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("debug_info", "help"),
        ("help", "causes"),
        ("causes", "batch-failures"),
        ("batch-failures", "bad-request"),
        ("bad-request", "foreign"),
        ("foreign", "localized"),
        ("localized", "metadata"),
        ("metadata", "message"),
    ],
)
def test_the_order_of_dropping(first, second):
    """Of two parts that do not fit together, the one that is of less use goes first, and alone if that is enough."""

    def dropped(size):
        after = check([PARTS[first](3000), PARTS[second](size)], budget=4096)
        # The names of service and method go with the details, and there are always some.
        return [
            name
            for name in after.report.truncation.dropped
            if name != "details" or first not in ("localized", "metadata")
        ]

    (alone,) = dropped(1500)
    assert dropped(9000)[0] == alone
    assert len(dropped(9000)) > 1


def test_the_entries_that_are_always_there():
    """What gRPC adds to any error is counted: names and values with HTTP/2's 32 for each entry."""
    entries = {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "16",
        "grpc-message": "",
        DETAILS_KEY: "",
        "grpc-retry-pushback-ms": str(2**31 - 1),
    }
    assert sum(trailer_size(entry) for entry in entries.items()) <= FIXED < 400


def test_small_errors_are_untouched():
    """What fits is sent as it is, without a marker."""
    one = draft([PARTS["help"](100), PARTS["metadata"](100), PARTS["bad-request"](300)])
    before = one.status().SerializeToString(deterministic=True)
    fit(one)
    assert one.status().SerializeToString(deterministic=True) == before
    assert not one.report.HasField("truncation")


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=250))
@example("\x01" * 1000)
@example("\U0001f600" * 250)
def test_what_fits_at_a_glance_fits(message):
    """The least budget that is seen to be enough without measuring is enough when measured."""
    one = draft([{"message": message}])
    budget = 5 * one.status().ByteSize()
    assert not _fits_easily(one, one.status(), budget)
    assert _fits_easily(one, one.status(), budget + 1)
    assert one.excess(budget + 1) <= 0
    one.trailers.append(("x-own", "t"))
    assert not _fits_easily(one, one.status(), TRANSPORT)


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=2000, max_size=6000), st.integers(1024, BUDGET))
def test_a_message_is_cut_on_a_character(message, budget):
    """A message is cut between characters, and by no more than has to be."""
    after = check([{"message": message}], budget=budget)
    assert message.startswith(after.message)
    after.message.encode()
    if len(after.message) < len(message):
        after.message = message[: len(after.message) + 2]
        assert after.excess(budget) > 0


def test_keys_of_metadata_outlive_the_message():
    """The keys stay, as AIP-193 demands, even where the message is cut to make room."""
    after = check([{"metadata": {"isbn": "9780441172719"}}, PARTS["message"](20_000)])
    assert dict(after.info.metadata) == {"isbn": ""}
    assert 1000 < len(after.message) < 20_000


def test_the_largest_values_of_metadata_go_first():
    """One long value does not take the short ones with it."""
    after = check([{"metadata": {"a": "1", "long": "v" * 6000, "b": "2"}}])
    assert dict(after.info.metadata) == {"a": "1", "long": "", "b": "2"}


def test_the_deepest_causes_go_first():
    """Parents stand first, so what is left is a tree."""
    after = check([PARTS["causes"](40 * KIB)])
    kept = len(after.report.causes)
    assert 20 < kept < 60
    assert after.report.causes == draft([PARTS["causes"](40 * KIB)]).report.causes[:kept]


def test_violations_lose_their_tail():
    """The first violations of a form are kept."""
    after = check([PARTS["bad-request"](40 * KIB)])
    fields = [one.field for one in after.details[0].field_violations]
    assert fields == [f"lines[{n}]" for n in range(len(fields))]
    assert len(fields) > 20


def test_a_batch_keeps_its_counts():
    """Items of a batch that were left out are still counted."""
    after = check([PARTS["batch-indexes"](40 * KIB)])
    (report,) = after.details
    assert report.total == 9999
    assert report.groups[0].count == 20 * KIB + 1
    assert report.groups[0].status == STATUS
    assert list(report.groups[0].indexes) == list(range(len(report.groups[0].indexes)))


def test_a_group_that_is_whole_has_no_count():
    """A group whose indexes all fit is not changed, though another one was."""
    parts = {"details": [errors_pb2.BatchReport(groups=[{"indexes": [1]}, {"indexes": range(8000)}])]}
    (report,) = check([parts]).details
    assert [group.count for group in report.groups] == [0, 8000]


def test_foreign_details_go_before_standard_ones():
    """What others than google.rpc define is dropped first, the largest of it first."""
    foreign = [struct_pb2.Value(string_value="v" * 2000), struct_pb2.Struct(fields={"a": struct_pb2.Value()})]
    after = check([{"details": [*foreign, rpc.ResourceInfo(description="r" * 2500)]}])
    assert [type(one) for one in after.details] == [struct_pb2.Struct, rpc.ResourceInfo]
    assert after.report.service == "s.S"


def test_trailers_are_dropped_from_the_end():
    """The user's trailers that do not fit beside the rest are dropped last, from the last one on."""
    own = [(f"x-{n}", "t" * 950) for n in range(12)]
    after = check([PARTS["message"](5000)], own)
    assert after.trailers == own[: len(after.trailers)]
    assert 5 < len(after.trailers) < 12
    assert after.report.truncation.dropped[-1] == "trailers"


@pytest.mark.parametrize(
    ("message", "size"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param("plain ~", 7, id="plain"),
        pytest.param("100%", 6, id="percent"),
        pytest.param("é", 6, id="two-bytes"),
        pytest.param("\n\x7f", 6, id="control"),
    ],
)
def test_message_size(message, size):
    """A message takes three bytes for each that has to be percent-encoded."""
    assert message_size(message) == size


@given(st.binary(max_size=100))
def test_base64_size(data):
    """Details take what unpadded base64 takes."""
    import base64

    assert base64_size(len(data)) == len(base64.b64encode(data).rstrip(b"="))


@pytest.mark.parametrize(("trailer", "size"), [(("x-a", "abc"), 38), (("x-b-bin", b"abc"), 43)], ids=["text", "binary"])
def test_trailer_size(trailer, size):
    """A trailer takes its key, its value as it travels, and HTTP/2's 32."""
    assert trailer_size(trailer) == size


# Through the wire.


@pytest.mark.parametrize("part", ["message", "message-unicode", "bad-request", "causes", "metadata", "foreign"])
@pytest.mark.parametrize("own", [0, 3, 7])
def test_an_error_too_large_arrives_whole_in_meaning(part, own):
    """What programs decide by arrives from an error of any size, and the list of what did not."""
    for size in (1, 5000, 40 * KIB, 200 * KIB):
        given_ = PARTS[part](size)
        error = InvalidArgument(
            given_.get("message", "m"),
            reason="TOO_LARGE",
            domain="d.example.com",
            retry_delay=1.5,
            retry_scope=RetryScope.REQUEST,
            metadata=given_.get("metadata"),
            error_details=given_.get("details", ()),
            causes=[NotFound(one["message"]) for one in given_.get("causes", ())],
        )
        reply = encode(
            error,
            service="s.S",
            method="M",
            redactor=Redactor(metadata_keys=["k0", "k1", "k2", "k3"]),
            now=1.0,
            trailers=[(f"x-{n}", "t" * 950) for n in range(own)],
        )
        total = sum(32 + len(key) + len(value) for key, value in reply.trailers)
        assert total + 42 + 60 + 45 + 44 + message_size(reply.message) <= TRANSPORT
        got = decode(reply.code, reply.message, trailing_metadata=reply.trailers)
        assert (type(got), got.reason, got.domain) == (InvalidArgument, "TOO_LARGE", "d.example.com")
        assert (got.retry_delay, got.retry_scope, got.error_id) == (1.5, RetryScope.REQUEST, error.error_id)
        assert (got.origin, got.anomalies) == (Origin.REMOTE, ())
        assert tuple(got.report.truncation.dropped) == reply.dropped
        assert error.message.startswith(got.message)
        assert len([key for key, _ in reply.trailers if key == DETAILS_KEY]) == 1
        assert len([key for key, _ in reply.trailers if key.startswith("x-")]) == own


def test_the_longest_names_fit_the_least_budget():
    """The longest reason and domain that an error may have fit the smallest budget."""
    rng = random.Random(1)
    for _ in range(5):
        error = InvalidArgument("m" * rng.randrange(9000), reason="R" * 63, domain="d" * 253, retry_delay=1.5)
        reply = encode(error, service="s" * 200, method="M", redactor=Redactor(), now=1.0, budget=1024)
        (value,) = [value for key, value in reply.trailers if key == DETAILS_KEY]
        assert base64_size(len(value)) + message_size(reply.message) <= 1024


def test_trailers_that_only_a_proxy_refuses_are_kept():
    """Binary trailers that fit gRPC's core, and are too large in base64 alone, stay when nothing else is left."""
    one = draft([{"message": "m" * 400}], trailers=[("x-bin", b"x" * 6000)])
    status = fit(one)
    assert status == one.status()
    assert one.excess(BUDGET) > 0
    assert (one.message, len(one.trailers)) == ("", 1)
    assert list(one.report.truncation.dropped) == ["details", "message"]
