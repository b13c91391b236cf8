"""What is said of where an exception came from."""

import sys

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_faultwire import details, from_rpc_error, stack

CANARY = "canary-7f3a"


class FalseError(Exception):
    """An exception that is false."""

    def __bool__(self) -> bool:
        return False


class MuteError(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)


def caught(function, *arguments):
    try:
        function(*arguments)
    except BaseException as error:  # tests raise anything
        return error
    raise AssertionError


def deep(levels, secret=CANARY):
    if levels:
        deep(levels - 1)
    raise ValueError(secret)


def test_frames_name_file_line_and_function():
    """A frame says where, the innermost first, and nothing of locals or arguments."""
    found = stack.frames(caught(deep, 2))
    line = deep.__code__.co_firstlineno
    assert [frame.rpartition(" ")[2] for frame in found] == ["deep", "deep", "deep", "caught"]
    assert [frame.partition(" ")[0].rpartition(":")[2] for frame in found[:2]] == [str(line + 3), str(line + 2)]
    assert all("test_stack.py:" in frame and not frame.startswith("/") for frame in found)
    assert not any(CANARY in frame for frame in found)


def test_the_innermost_frames_are_named():
    """Of a deep recursion the innermost frames are named."""
    found = stack.frames(caught(deep, 300))
    assert len(found) == stack.MAX_FRAMES
    assert found[0].endswith(f":{deep.__code__.co_firstlineno + 3} deep")


def test_own_frames_are_left_out():
    """Faultwire's own frames say nothing of the user's fault."""
    found = stack.frames(caught(details.pack, 5))
    assert [frame.rpartition(" ")[2] for frame in found] == ["caught"]


@pytest.mark.parametrize(
    ("roots", "path", "shown"),
    [
        pytest.param(["/srv/app"], "/srv/app/shop/stock.py", "shop/stock.py", id="from-a-root"),
        pytest.param(["/srv", "/srv/app"], "/srv/app/shop.py", "shop.py", id="from-the-closest-root"),
        pytest.param(["/srv/ap"], "/srv/app/shop.py", "shop.py", id="a-root-of-another-name"),
        pytest.param([""], "/home/ada/shop.py", "shop.py", id="no-root"),
    ],
)
def test_paths_are_relative(monkeypatch, roots, path, shown):
    """A file is named from where it is imported; who lives where on the server is not said."""
    monkeypatch.setattr(sys, "path", roots)
    exception = caught(eval, compile("1 / 0", path, "eval"))
    assert stack.frames(exception)[0] == f"{shown}:1 <module>"


def test_a_chain_is_what_python_would_print():
    """Causes go before contexts, and a context that was suppressed is left out."""
    first, second, third = FalseError("1"), ValueError("2"), KeyError("3")
    second.__cause__, second.__context__ = first, third
    assert stack.chain(second) == [second, first]
    second.__suppress_context__ = False
    assert stack.chain(second) == [second, first]
    second.__cause__ = None
    assert stack.chain(second) == [second]
    second.__suppress_context__ = False
    assert stack.chain(second) == [second, third]


def test_a_chain_ends():
    """Cycles end, and a long chain is cut."""
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
    assert stack.chain(one) == [one, two]
    last = ValueError()
    for _ in range(100):
        following = ValueError()
        following.__cause__, last = last, following
    assert len(stack.chain(last)) == stack.MAX_CHAIN


@pytest.mark.parametrize(
    ("exception", "text"),
    [
        pytest.param(ValueError("x"), "ValueError: x", id="text"),
        pytest.param(ValueError(), "ValueError", id="no-text"),
        pytest.param(MuteError(), "MuteError: (its text cannot be made)", id="mute"),
        pytest.param(
            ExceptionGroup("g", [ValueError("1"), ExceptionGroup("h", [MuteError()])]),
            "ExceptionGroup: g (2 sub-exceptions) [ValueError: 1; "
            "ExceptionGroup: h (1 sub-exception) [MuteError: (its text cannot be made)]]",
            id="group",
        ),
    ],
)
def test_describe(exception, text):
    """An exception is described by type and text, a group with its members."""
    assert stack.describe(exception) == text


def test_a_group_is_described_to_a_bound():
    """A wide or deep group is not described whole."""
    group = ExceptionGroup("wide", [ValueError(str(number)) for number in range(1000)])
    assert stack.describe(group).count("ValueError") == stack.MAX_GROUP
    for _ in range(100):
        group = ExceptionGroup("deep", [group])
    assert stack.describe(group).count("deep") == stack.MAX_CHAIN + 1


def test_groups_that_share_members_are_described_to_a_bound():
    """Groups of groups that are one and the same do not multiply what is said."""
    group = ExceptionGroup("shared", [ValueError("x")] * stack.MAX_GROUP)
    for _ in range(stack.MAX_CHAIN):
        group = ExceptionGroup("shared", [group] * stack.MAX_GROUP)
    described = stack.describe(group)
    assert described.count("shared") + described.count("ValueError") == stack.MAX_DESCRIBED
    assert described.count("[") == described.count("]")


@given(st.text())
def test_any_text_is_described(text):
    """No text of an exception stands in the way."""
    assert stack.describe(ValueError(text)).startswith("ValueError")


def test_errors_of_grpc_are_described_in_one_line_and_once() -> None:
    """What grpc's own error says is said already by the decoded one."""
    nothing = grpc.aio.Metadata()
    grpc_error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "down", "UNAVAILABLE:down")
    decoded = from_rpc_error(grpc_error)
    assert stack.describe(grpc_error) == "AioRpcError: UNAVAILABLE: down"
    assert stack.chain(decoded) == [decoded]
    wrapper = ValueError("x")
    wrapper.__cause__ = decoded
    assert stack.chain(wrapper) == [wrapper, decoded]
