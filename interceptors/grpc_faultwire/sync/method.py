"""How the calls of one method are made: blocking ones in a plain loop, the others by way of `Running`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc

from grpc_faultwire.errors import StatusError
from grpc_faultwire.flow import Flow
from grpc_faultwire.local_errors import failed
from grpc_faultwire.plan import UNANSWERED, Begun, Plan
from grpc_faultwire.records import Attempt
from grpc_faultwire.status import from_rpc_error
from grpc_faultwire.sync.backoffs import Backoffs, closed_channel
from grpc_faultwire.sync.calls import Call
from grpc_faultwire.sync.hedging import Hedged
from grpc_faultwire.sync.native import refused, visible
from grpc_faultwire.sync.reading import Reading
from grpc_faultwire.sync.recovery import Answered, fallen_back, refreshed
from grpc_faultwire.sync.requests import Counted, Requests

Send = Callable[..., Any]
"""grpc's own multi-callable, or its ``with_call`` or ``future``."""
Options = tuple[Any, Any, Any]
"""What else a multi-callable was given: credentials, wait_for_ready, compression; None: it was not."""
NO_OPTIONS: Options = (None, None, None)


class Method:
    """How the calls of one method are made.

    Args:
        plan: what is decided about them.
        backoffs: the channel's.
        replays: whether grpc gets its serialized requests from `Requests`.

    Attributes:
        hedges: whether further attempts may be sent beside those in flight: then nobody blocks inside of one.
        replays: the same.
    """

    __slots__ = (
        "_activates",
        "_adds",
        "_backoffs",
        "_counts",
        "_defaults",
        "_injects",
        "_plan",
        "_simple",
        "_streams_requests",
        "hedges",
        "replays",
    )

    def __init__(self, plan: Plan, backoffs: Backoffs, *, replays: bool) -> None:
        self._plan = plan
        self._backoffs = backoffs
        self._activates = plan.audience.activates
        self._counts = plan.audience.counts_messages
        self._injects = plan.audience.injects
        self._streams_requests = plan.call.kind.request_streaming
        self._defaults: dict[str, Any] = {} if plan.wait_for_ready is None else {"wait_for_ready": plan.wait_for_ready}
        self._adds = self._injects or bool(self._defaults)
        self._simple = plan.simple
        self.hedges = plan.hedges
        self.replays = replays

    def call(
        self,
        send: Send,
        request: Any,
        timeout: float | None,
        metadata: Any,
        options: Options,
        *,
        with_call: bool = False,
    ) -> Any:
        """Make a call whose response is waited for here, with as many attempts as it takes.

        Args:
            send: returns the response.
            request: or the requests.
            timeout: seconds for the whole call.
            metadata: the caller's.
            options: the caller's others.
            with_call: ``send`` returns a call object too, and so does this.
        """
        begun: Any = None  # until it is let go below, as are the others
        attempt: Any
        raised: Any = None
        if self._simple and options == NO_OPTIONS and (not metadata or type(metadata) is tuple):
            begun = self._plan.begin(timeout)
        if begun is not None:
            attempt, tokens = begun
            try:
                response = send(request, timeout=attempt.timeout, metadata=metadata)
            except grpc.RpcError as failure:
                raised = failure
            except BaseException as exception:
                _close(Flow(self._plan, timeout, begun), exception)
                begun = attempt = None
                raise
            else:
                self._plan.succeed(attempt, tokens)
                return response
        error = None
        try:
            response, error = self._run(
                send, request, timeout, metadata, options, with_call=with_call, begun=begun, raised=raised
            )
            if error is None:
                return response
            raise error from error.__cause__
        finally:
            # An error that its own traceback leads back to would live until the next garbage collection.
            begun = attempt = error = raised = None

    def wait(
        self, future: Send, request: Any, timeout: float | None, metadata: Any, options: Options
    ) -> tuple[Any, Call]:
        """Make a call that may be hedged, and wait for its response and its call object.

        Args:
            future: begins an attempt.
            request: one, as hedged calls have.
            timeout: seconds for the whole call.
            metadata: the caller's.
            options: the caller's others.
        """
        running = self._begin(future, request, timeout, metadata, options)
        call = Call(running)
        try:
            running.wait()
        except BaseException:
            call.cancel()
            raise
        error = running.flow.error
        if error is None:
            return running.inner.result(), call
        try:
            raise visible(error) from error.__cause__
        finally:
            del error

    def _run(
        self,
        send: Send,
        request: Any,
        timeout: float | None,
        metadata: Any,
        options: Options,
        *,
        with_call: bool,
        begun: Begun | None,
        raised: Any,
    ) -> tuple[Any, StatusError | None]:
        flow: Any = Flow(self._plan, timeout, begun)  # a Flow, until it is let go below
        requests: Any = None
        if self._streams_requests or metadata:
            requests, metadata = self._prepared(flow, request, metadata)
        try:
            if begun is not None:
                attempt = self._following(flow, begun[0], from_rpc_error(raised))
            else:
                try:
                    attempt = flow.send()
                except StatusError as refusal:
                    refused(refusal)
                    attempt = None
            while attempt is not None:
                sent = request if requests is None else requests.of(attempt)
                if self._adds or attempt.number > 1 or options != NO_OPTIONS:
                    given = self._given(flow, attempt, metadata, options)
                else:
                    given = {"timeout": attempt.timeout, "metadata": metadata}
                response, raised = _attempted(flow.activate() if self._activates else None, send, sent, given)
                if raised is None:
                    if self._plan.learn is not None:
                        flow.learn(request, response[0] if with_call else response)
                    flow.settle(attempt, None)
                    return response, None
                attempt = self._following(flow, attempt, from_rpc_error(raised))
            return _ended(flow, request, with_call=with_call)
        except BaseException as exception:
            _close(flow, exception)
            raise
        finally:
            # The traceback of what was raised leads back to this frame, and so to itself.
            flow = attempt = requests = raised = None

    def _following(self, flow: Flow, attempt: Attempt, error: StatusError) -> Attempt | None:
        """Return the attempt after one that has failed, once it is time for it; None: there is none."""
        delay = flow.settle(attempt, error)
        if delay is not None and self._backoffs.closed.wait(delay):
            flow.close(closed_channel(), "done")
        return flow.send() if flow.how is None and refreshed(flow) else None

    def begin(self, send: Send, request: Any, timeout: float | None, metadata: Any, options: Options) -> Call:
        """Begin a call that its caller holds: a future or a stream."""
        return Call(self._begin(send, request, timeout, metadata, options))

    def _begin(
        self, send: Send, request: Any, timeout: float | None, metadata: Any, options: Options
    ) -> Reading | Hedged:
        flow = Flow(self._plan, timeout)
        requests, metadata = self._prepared(flow, request, metadata)

        def start(attempt: Attempt, following: Any) -> Any:
            sent = following if requests is None else requests.of(attempt)
            return send(sent, **self._given(flow, attempt, metadata, options))

        running = (Hedged if self.hedges else Reading)(flow, start, self._backoffs, request)
        running.begin()
        return running

    def _given(self, flow: Flow, attempt: Attempt, metadata: Any, options: Options) -> dict[str, Any]:
        if self._injects or attempt.number > 1:
            added = flow.injected(attempt)
            if flow.credentials:
                replaced = {key for key, _ in flow.credentials}
                metadata = [pair for pair in metadata or () if pair[0] not in replaced]
                added = [*flow.credentials, *added]
            metadata = (*(metadata or ()), *added) if added else metadata
        # Only what was given: what grpc's interface knows now, an older interceptor's multi-callable may not.
        named = zip(("credentials", "wait_for_ready", "compression"), options, strict=True)
        chosen = {name: value for name, value in named if value is not None}
        return {"timeout": attempt.timeout, "metadata": metadata, **self._defaults, **chosen}

    def _prepared(self, flow: Flow, request: Any, metadata: Any) -> tuple[Requests | Counted | None, Any]:
        if metadata and flow.retriable:
            metadata = tuple(metadata)
        if not self._streams_requests:
            return None, metadata
        if self.replays:
            return Requests(request, flow, self._plan.replay_bytes), metadata
        # Another attempt would find the caller's iterator empty, and its server would answer as if that were all.
        flow.commit()
        return Counted(request, flow) if self._counts else None, metadata


def _close(flow: Flow, exception: BaseException) -> None:
    """End a call in which something else was raised than an RpcError."""
    flow.close(failed(exception, ()), "failed" if isinstance(exception, Exception) else "cancelled")


def _ended(flow: Flow, request: Any, *, with_call: bool) -> tuple[Any, StatusError | None]:
    """Return what a call gives that has failed: a fallback's answer, or the error."""
    answer = fallen_back(flow, request) if flow.falling is not None else UNANSWERED
    if answer is UNANSWERED:
        return None, flow.error
    return (answer, Answered(answer)) if with_call else answer, None


def _attempted(
    activation: AbstractContextManager[Any] | None, send: Send, request: Any, given: dict[str, Any]
) -> tuple[Any, grpc.RpcError | None]:
    # What is raised leads back to this frame, which must not know the flow: the flow knows what was raised.
    try:
        if activation is None:
            return send(request, **given), None
        with activation:
            return send(request, **given), None
    except grpc.RpcError as raised:
        return None, raised
