"""The face of a finished call, for exceptions to inherit."""

import grpc
import pytest

from grpc_faultwire.finished import FinishedCall


class EndedError(Exception, FinishedCall):
    """The least that makes the face complete."""

    def code(self):
        return grpc.StatusCode.NOT_FOUND

    details = initial_metadata = trailing_metadata = code


@pytest.mark.parametrize(
    ("method", "arguments", "answer"),
    [
        ("is_active", (), False),
        ("time_remaining", (), None),
        ("cancel", (), False),
        ("add_callback", (print,), False),
        ("cancelled", (), False),
        ("running", (), False),
        ("done", (), True),
        ("traceback", (1.0,), None),
    ],
)
def test_the_call_has_ended(method, arguments, answer):
    """Every question of grpc.Call and grpc.Future has the answer of a call that has ended."""
    assert getattr(EndedError(), method)(*arguments) is answer


def test_its_result_is_the_error():
    """result() raises the error, exception() returns it, and a callback gets it at once."""
    error, seen = EndedError(), []
    assert error.exception(1.0) is error
    error.add_done_callback(seen.append)
    assert seen == [error]
    with pytest.raises(EndedError) as caught:
        error.result(1.0)
    assert caught.value is error
    assert error.traceback() is error.__traceback__ is not None


def test_nothing_of_grpcs_interface_is_left_out():
    """No abstract method of grpc.Call and grpc.Future is left."""
    assert not EndedError.__abstractmethods__
