"""Error details: packed, found, isolated from each other, bounded."""

import copy
import pickle

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as rpc
from hypothesis import given
from hypothesis import strategies as st

from grpc_faultwire.details import MAX_DETAILS, MAX_DURATION, Details, duration, known_type, pack, seconds, type_name

BAD_UTF8 = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RequestInfo", value=b"\x0a\x02\xff\xfe")


def test_a_bad_detail_does_not_lose_the_others():
    """A detail that cannot be decoded stays an Any, is noted once, and the others are found."""
    details = Details([BAD_UTF8, pack(rpc.Help()), BAD_UTF8, pack(rpc.BadRequest())])
    assert list(details) == [BAD_UTF8, rpc.Help(), BAD_UTF8, rpc.BadRequest()]
    assert details.find(rpc.BadRequest) == rpc.BadRequest()
    assert details.find(rpc.RequestInfo) is None
    assert details.anomalies == ["a google.rpc.RequestInfo detail cannot be decoded"]


def test_the_first_that_can_be_decoded_is_found():
    """Of details of one type the first good one is found, and all are kept."""
    first, second = rpc.RequestInfo(request_id="1"), rpc.RequestInfo(request_id="2")
    details = Details([BAD_UTF8, pack(first), pack(second)])
    assert details.find(rpc.RequestInfo) == first
    assert len(details) == 3


def test_their_number_is_bounded():
    """Of a hundred thousand details the first are looked at, and that is noted."""
    details = Details([pack(rpc.Help())] * 100_000)
    assert len(list(details)) == MAX_DETAILS
    assert details.anomalies == [f"100000 details: the first {MAX_DETAILS} are read"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        pytest.param("type.googleapis.com/google.rpc.Help", "google.rpc.Help", id="usual"),
        pytest.param("evil.example/google.rpc.Help", "google.rpc.Help", id="other-host"),
        pytest.param("/google.rpc.Help", "google.rpc.Help", id="no-host"),
        pytest.param("a/b/c/google.rpc.Help", "google.rpc.Help", id="many-slashes"),
        pytest.param("google.rpc.Help", "", id="bare-name"),
        pytest.param("type.googleapis.com/", "", id="no-name"),
        pytest.param("", "", id="empty"),
    ],
)
def test_type_urls(url, name):
    """The type is what stands behind the last slash, whatever the host; without a slash there is none."""
    packed = any_pb2.Any(type_url=url)
    assert type_name(packed) == name
    assert Details([packed]).find(rpc.Help) == (rpc.Help() if name else None)


@pytest.mark.parametrize("name", ["", ".", "nobody.Knows", "google.rpc.Code", "a\x00b", "x" * 100_000])
def test_unknown_types(name):
    """A name that is no message known here gives no class, whatever it is."""
    assert known_type(name) is None
    assert list(Details([any_pb2.Any(type_url=f"h/{name}")])) == [any_pb2.Any(type_url=f"h/{name}")]


def _foreign(value: str):
    file = descriptor_pb2.FileDescriptorProto(name=f"{value}.proto", package="test.details", syntax="proto3")
    file.message_type.add(name="Foreign").field.add(name="value", number=1, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.details.Foreign"))


def test_classes_of_two_pools_do_not_hide_each_other():
    """A type is found by any class of its name, in whatever order they ask."""
    one, two = _foreign("one"), _foreign("two")
    details = Details.of([one(value="x")])
    assert details.find(one).value == "x"
    assert details.find(two).value == "x"
    assert isinstance(details.find(two), two)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_details_can_be_copied_after_they_were_read(copied):
    """What was decoded to a class made at run time does not stand in the way of a copy."""
    cls = _foreign("three")
    details = Details([*Details.of([cls(value="x"), rpc.Help()]).packed, *[BAD_UTF8] * MAX_DETAILS])
    details.find(cls)
    list(details)
    duplicate = copied(details)
    assert duplicate.packed == details.packed
    assert duplicate.anomalies == details.anomalies


def test_an_any_is_packed_as_it_is():
    """An Any is a detail packed already."""
    packed = pack(rpc.Help())
    assert pack(packed) is packed
    assert pack(rpc.Help(links=[{"url": "u"}])).type_url == "type.googleapis.com/google.rpc.Help"


def test_what_is_no_message_is_refused():
    """Packing what is no message is refused with a sentence that names it."""
    with pytest.raises(TypeError, match=r"error detail \{'a': 1\} is no protobuf message"):
        Details.of([{"a": 1}])


def test_packing_is_deterministic():
    """The same map in another order gives the same bytes."""
    one = struct_pb2.Struct(fields={key: struct_pb2.Value(number_value=1) for key in "abcdef"})
    two = struct_pb2.Struct(fields={key: struct_pb2.Value(number_value=1) for key in "fedcba"})
    assert pack(one).value == pack(two).value


def test_a_message_that_lacks_a_required_field_is_packed():
    """An incomplete message of proto2 is no reason to lose the error."""
    assert pack(descriptor_pb2.UninterpretedOption.NamePart()).value == b""


@given(st.floats(0, MAX_DURATION))
def test_durations_come_back(delay):
    """Seconds survive the way through a Duration, but for what is smaller than a nanosecond."""
    assert seconds(duration(delay)) == pytest.approx(delay, abs=1e-9, rel=1e-15)


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        pytest.param(Duration(seconds=-5), 0.0, id="negative"),
        pytest.param(Duration(seconds=2**63 - 1, nanos=2**31 - 1), MAX_DURATION, id="huge"),
        pytest.param(Duration(seconds=-(2**63), nanos=-(2**31)), 0.0, id="hugely-negative"),
        pytest.param(Duration(nanos=2**31 - 1), 2.147483647, id="nanos-out-of-range"),
        pytest.param(Duration(seconds=1, nanos=-500_000_000), 0.5, id="mixed-signs"),
    ],
)
def test_odd_durations(odd, expected):
    """Any Duration gives a time that can be waited for and sent again."""
    assert seconds(odd) == expected
    duration(seconds(odd)).ToTimedelta()


def test_a_delay_too_long_for_a_duration_is_cut():
    """A delay that no Duration can carry becomes the longest."""
    assert duration(1e19).seconds == int(MAX_DURATION)
