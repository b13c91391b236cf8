"""Every name in telemetry: metrics, labels, attributes of spans, events, fields of log lines.

`docs/telemetry.md` is made of this file (``scripts/telemetry.py``).

Others own some of them. The first layer of metrics is go-grpc-middleware's, so that public dashboards work unchanged;
``grpc.client.*`` are gRFC A66's and A96's; ``rpc.*``, ``error.*`` and ``exception.*`` are OpenTelemetry's. Our own
begin with "faultwire.".
"""

from __future__ import annotations

from grpc_faultwire.observers.naming import EventName, Field, Metric

OTHER = "_OTHER"
"""What stands for a value that no label may take: OpenTelemetry's word for a method that is not known."""

NAMESPACE = "faultwire."
"""What our own attributes and events in OpenTelemetry begin with."""

COUNTS = (1.0, 2.0, 3.0, 4.0, 5.0)
"""Upper bounds of the buckets of retries in a call (gRFC A96)."""

GO_CODES = {
    "OK": "OK",
    "CANCELLED": "Canceled",
    "UNKNOWN": "Unknown",
    "INVALID_ARGUMENT": "InvalidArgument",
    "DEADLINE_EXCEEDED": "DeadlineExceeded",
    "NOT_FOUND": "NotFound",
    "ALREADY_EXISTS": "AlreadyExists",
    "PERMISSION_DENIED": "PermissionDenied",
    "RESOURCE_EXHAUSTED": "ResourceExhausted",
    "FAILED_PRECONDITION": "FailedPrecondition",
    "ABORTED": "Aborted",
    "OUT_OF_RANGE": "OutOfRange",
    "UNIMPLEMENTED": "Unimplemented",
    "INTERNAL": "Internal",
    "UNAVAILABLE": "Unavailable",
    "DATA_LOSS": "DataLoss",
    "UNAUTHENTICATED": "Unauthenticated",
}
"""Status codes as Go spells them, which is what ``grpc_code`` holds."""

LABELS = (
    Field("grpc_type", "shape", "unary, client_stream, server_stream or bidi_stream"),
    Field("grpc_service", "name", 'full name of the service; "_OTHER" for methods that are not known or too many'),
    Field("grpc_method", "name", 'name of the method; "_OTHER" as above'),
    Field("grpc_code", "code", 'status code as Go spells it, "NotFound"; with label_style="python", "NOT_FOUND"'),
    Field(
        "category",
        "category",
        'what kind of failure: the names of grpc_faultwire.Category in lower case; "none" of items that did not fail',
    ),
    Field("fault", "fault", "whose: client, server, dependency or none; follows from the category"),
    Field(
        "reason", "name", 'a reason that a catalogue declares, or the name of the code if none was said; else "_OTHER"'
    ),
    Field("origin", "origin", "raised, remote, local (made by a policy here) or unknown (received without details)"),
    Field("exception_type", "name", 'class of the exception; "_OTHER" beyond the first 64'),
    Field("label", "name", "the label whose value was replaced"),
    Field("attempt", "kind", "first, retry or hedge"),
    Field("decision", "name", "what was decided after a failed attempt: the values of grpc_faultwire.policies.Reason"),
    Field(
        "result",
        "name",
        "of a hedge: sent, budget, circuit_open, deadline; of a fallback: answered, failed; of a batch's items: ok, "
        "failed, interrupted, not_attempted, rolled_back",
    ),
    Field("target", "name", "what the channel was made for"),
    Field("breaker", "name", "what the circuit breaker guards"),
    Field("state", "state", "closed, open, half_open, forced_open or forced_closed"),
    Field("from_state", "state", "the state that was left"),
    Field("to_state", "state", "the state that was entered"),
    Field("kind", "kind", "success, failure or neutral"),
)

_METHOD = ("grpc_service", "grpc_method")
_TYPED = ("grpc_type", *_METHOD)
_ERROR = (*_METHOD, "grpc_code", "category", "fault", "reason")


def _of_calls(side: str) -> dict[str, Metric]:
    """Return the metrics that both sides have: go-grpc-middleware's, errors, and calls in flight."""
    errors = _ERROR if side == "server" else (*_ERROR, "origin")
    return {
        "started": Metric(f"grpc_{side}_started_total", "counter", "RPCs that began.", _TYPED),
        "handled": Metric(f"grpc_{side}_handled_total", "counter", "RPCs that ended.", (*_TYPED, "grpc_code")),
        "seconds": Metric(f"grpc_{side}_handling_seconds", "histogram", "How long RPCs took, in seconds.", _TYPED),
        "received": Metric(f"grpc_{side}_msg_received_total", "counter", "Messages received.", _TYPED),
        "sent": Metric(f"grpc_{side}_msg_sent_total", "counter", "Messages sent.", _TYPED),
        "in_flight": Metric(f"grpc_{side}_in_flight", "gauge", "RPCs that have begun and not ended.", _METHOD),
        "errors": Metric(
            f"grpc_{side}_errors_total", "counter", "RPCs that ended with another status than OK.", errors
        ),
    }


SERVER_METRICS = _of_calls("server") | {
    "unhandled": Metric(
        "grpc_server_unhandled_exceptions_total",
        "counter",
        "Exceptions behind errors of severity ERROR and above: those that nobody mapped, above all.",
        (*_METHOD, "exception_type"),
    ),
    "recovered": Metric(
        "grpc_server_recovered_total", "counter", "Errors in whose place an answer was given.", (*_METHOD, "category")
    ),
    "batch_items": Metric(
        "grpc_server_batch_items_total",
        "counter",
        "Items of batches by how they ended; of a partial success the RPC itself is OK.",
        (*_METHOD, "result", "category"),
    ),
}
"""What a server counts, by the names that the code has for them."""

CLIENT_METRICS = _of_calls("client") | {
    "attempts": Metric(
        "grpc_client_attempts_total",
        "counter",
        "Attempts, counted when their call has ended.",
        (*_METHOD, "grpc_code", "attempt"),
    ),
    "attempt_seconds": Metric(
        "grpc_client_attempt_seconds", "histogram", "How long attempts took, in seconds.", _METHOD
    ),
    "decisions": Metric(
        "grpc_client_retry_decisions_total", "counter", "Decisions about failed attempts.", (*_METHOD, "decision")
    ),
    "retries": Metric(
        "grpc_client_call_retries", "histogram", "Retries in calls that had any (A96).", _METHOD, buckets=COUNTS
    ),
    "retry_delay": Metric("grpc_client_retry_delay_seconds", "histogram", "Waits before retries, in seconds.", _METHOD),
    "hedges": Metric("grpc_client_hedges_total", "counter", "Hedges that were due.", (*_METHOD, "result")),
    "fallbacks": Metric(
        "grpc_client_fallbacks_total", "counter", "Fallbacks that were asked.", (*_METHOD, "category", "result")
    ),
    "budget_tokens": Metric(
        "grpc_client_retry_budget_tokens", "gauge", "Tokens left in the retry budget.", ("target",), mode="livemin"
    ),
    "circuit_state": Metric(
        "grpc_client_circuit_state", "gauge", "1 for the state of a breaker.", ("breaker", "state"), mode="livemax"
    ),
    "circuit_transitions": Metric(
        "grpc_client_circuit_transitions_total",
        "counter",
        "Changes of state of a breaker.",
        ("breaker", "from_state", "to_state"),
    ),
    "circuit_rejections": Metric(
        "grpc_client_circuit_rejections_total", "counter", "Calls that a breaker refused.", ("breaker", *_METHOD)
    ),
    "circuit_calls": Metric(
        "grpc_client_circuit_calls_total",
        "counter",
        "Attempts as a breaker judged them, when their call has ended.",
        ("breaker", "kind"),
    ),
}
"""What a client counts."""

COMMON_METRICS = {
    "overflow": Metric(
        "grpc_telemetry_overflow_total", "counter", 'Values of labels that were replaced by "_OTHER".', ("label",)
    )
}
"""What both count."""

_ATTEMPT = Field("attempt", "int", "number of the attempt, from 1")
_CODE = Field("code", "string", "its status code")
_CATEGORY = Field("category", "string", "its category, in lower case")
_DELAY = Field("delay", "double", "seconds")
_BREAKER = Field("breaker", "string", "what the breaker guards")
RETRY = EventName(
    "retry",
    "A failed attempt will be sent again after the delay.",
    (_ATTEMPT, _CODE, _CATEGORY, Field("decision", "string", '"retried"'), _DELAY),
)
RETRY_STOPPED = EventName(
    "retry_stopped",
    "A failed attempt will not be sent again. Not on spans if the caller is at fault and the error is not retryable.",
    (_ATTEMPT, _CODE, _CATEGORY, Field("decision", "string", "why: a value of grpc_faultwire.policies.Reason")),
)
ATTEMPT = EventName(
    "attempt",
    "An attempt of a call that has several ended. Only on spans; made from Attempt records.",
    (_ATTEMPT, _CODE, _CATEGORY, Field("seconds", "double", "how long it took"), Field("hedge", "boolean", "a hedge")),
)
BUDGET = EventName(
    "budget",
    "The tokens of a retry budget have changed.",
    (Field("target", "string", "whose"), Field("tokens", "double", "how many are left")),
)
CIRCUIT_REJECTED = EventName(
    "circuit_rejected",
    "A breaker refused an attempt.",
    (_BREAKER, Field("state", "string", "its state"), Field("retry_after", "double", "seconds until one may pass")),
)
CIRCUIT_TRANSITION = EventName(
    "circuit_transition",
    "A breaker changed its state; its listener tells. On the span of the call whose failure opened the circuit.",
    (
        _BREAKER,
        Field("from_state", "string", "the state left"),
        Field("to_state", "string", "the state entered"),
        Field("failure_ratio", "double", "share of failures that was judged"),
        Field("open_for", "double", "seconds that it will stay open"),
    ),
)
HEDGE = EventName(
    "hedge",
    "A further attempt was due beside one in flight.",
    (_ATTEMPT, Field("result", "string", "sent, budget, circuit_open or deadline"), _DELAY),
)
FALLBACK = EventName(
    "fallback",
    "A fallback was asked for an answer in place of an error.",
    (_CODE, _CATEGORY, Field("fallback", "string", "which"), Field("result", "string", "answered or failed")),
)
RECOVERED = EventName(
    "recovered",
    "A server gave an answer in place of an error.",
    (_CODE, _CATEGORY, Field("reason", "string", "the error's"), Field("error_id", "string", "the error's")),
)
ITEM_ERROR = EventName(
    "item_error",
    'An item of a batch has failed on a server; for counts and error groups. Not on spans, where "batch" has them all.',
    (_CODE, _CATEGORY, Field("reason", "string", "the error's"), Field("error_id", "string", "the error's")),
)
BATCH = EventName(
    "batch",
    "An `ErrorCollector` has ended a batch on a server; of a partial success the RPC itself is OK.",
    (
        Field("items", "int", "how many there were"),
        Field("ok", "int", "carried out"),
        Field("failed", "int", "with an error"),
        Field("interrupted", "int", "cancelled half-way"),
        Field("not_attempted", "int", "whose turn did not come"),
        Field("rolled_back", "int", "innocent, of an atomic batch that failed"),
        Field("categories", "string", 'of those that failed: "not_found=97 validation=3"'),
    ),
)
EVENTS = (
    RETRY,
    RETRY_STOPPED,
    ATTEMPT,
    BUDGET,
    CIRCUIT_REJECTED,
    CIRCUIT_TRANSITION,
    HEDGE,
    FALLBACK,
    RECOVERED,
    ITEM_ERROR,
    BATCH,
)
"""All events."""

RPC_SYSTEM = "rpc.system"
RPC_SYSTEM_NAME = "rpc.system.name"
RPC_SERVICE = "rpc.service"
RPC_METHOD = "rpc.method"
RPC_METHOD_ORIGINAL = "rpc.method_original"
RPC_GRPC_STATUS_CODE = "rpc.grpc.status_code"
RPC_STATUS_CODE = "rpc.response.status_code"
ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
EXCEPTION = "exception"
EXCEPTION_LOGS = {"server": "rpc.server.call.exception", "client": "rpc.client.call.exception"}
"""Names of the log records of exceptions, by side, with OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN."""
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"
PREVIOUS_ATTEMPTS = "previous-rpc-attempts"

CATEGORY = NAMESPACE + "category"
FAULT = NAMESPACE + "fault"
REASON = NAMESPACE + "reason"
DOMAIN = NAMESPACE + "domain"
RETRYABLE = NAMESPACE + "retryable"
ERROR_ID = NAMESPACE + "error_id"
FINGERPRINT = NAMESPACE + "fingerprint"
ATTEMPTS = NAMESPACE + "attempts"
RECOVERED_FROM = NAMESPACE + "recovered_from"
METADATA = NAMESPACE + "metadata."

SPAN_ATTRIBUTES = (
    Field(RPC_SYSTEM, "string", '"grpc"; not with OTEL_SEMCONV_STABILITY_OPT_IN=rpc'),
    Field(RPC_SERVICE, "string", "full name of the service; not with the opt-in"),
    Field(RPC_SYSTEM_NAME, "string", '"grpc"; with the opt-in'),
    Field(RPC_METHOD, "string", 'name of the method; with the opt-in, "package.Service/Method" or "_OTHER"'),
    Field(RPC_METHOD_ORIGINAL, "string", 'what was called, if rpc.method is "_OTHER"; with the opt-in'),
    Field(RPC_GRPC_STATUS_CODE, "int", "number of the status code; not with the opt-in"),
    Field(RPC_STATUS_CODE, "string", "name of the status code; rpc.status_code once OpenTelemetry's package says so"),
    Field(
        ERROR_TYPE, "string", "name of the status code, if it counts as an error on this side; what kept it from one"
    ),
    Field(SERVER_ADDRESS, "string", "host of the channel's target, client side"),
    Field(SERVER_PORT, "int", "port of the channel's target, client side"),
    Field(CATEGORY, "string", "category of the error, in lower case"),
    Field(FAULT, "string", "whose fault it was: client, server, dependency or none"),
    Field(REASON, "string", "reason of the error"),
    Field(DOMAIN, "string", "where the reason is defined"),
    Field(RETRYABLE, "boolean", "whether the same call may be sent again"),
    Field(ERROR_ID, "string", "finds the error in its server's log"),
    Field(FINGERPRINT, "string", "the same for errors that come from the same place in the same way"),
    Field(ATTEMPTS, "int", "how many attempts were made, if several; client side"),
    Field(RECOVERED_FROM, "string", "code of the error in whose place an answer was given"),
    Field(METADATA + "<key>", "string", "metadata of the error, for the keys that the observer was given"),
    Field(PREVIOUS_ATTEMPTS, "int", "on spans of attempts (gRFC A72): how many went before"),
    Field(
        EXCEPTION_TYPE, "string", 'on the event "exception" or its log record: class of the exception behind the error'
    ),
    Field(EXCEPTION_STACKTRACE, "string", "the same: file, line and function of each frame"),
    Field(EXCEPTION_MESSAGE, "string", "the same: its text, redacted; only with exception_messages=True"),
)
"""All attributes of spans, of the event "exception" and of its log record."""

_DURATION = (RPC_SYSTEM_NAME, RPC_METHOD, RPC_STATUS_CODE, ERROR_TYPE, CATEGORY)
SERVER_CALL_DURATION = Metric("rpc.server.call.duration", "histogram", "How long RPCs took, in seconds.", _DURATION)
CLIENT_CALL_DURATION = Metric(
    "rpc.client.call.duration",
    "histogram",
    "How long calls took with all their attempts, in seconds.",
    (*_DURATION, SERVER_ADDRESS, SERVER_PORT),
)
ATTEMPT_DURATION = Metric(
    "grpc.client.attempt.duration",
    "histogram",
    "How long attempts took, in seconds (A66).",
    ("grpc.method", "grpc.target", "grpc.status"),
)
CALL_RETRIES = Metric(
    "grpc.client.call.retries",
    "histogram",
    "Retries in calls that had any (A96).",
    ("grpc.method", "grpc.target"),
    buckets=COUNTS,
)
CALL_RETRY_DELAY = Metric(
    "grpc.client.call.retry_delay",
    "histogram",
    "Seconds spent in waits before retries, in calls that had any (A96).",
    ("grpc.method", "grpc.target"),
)
CIRCUIT_TRANSITIONS = Metric(
    "faultwire.circuit.transitions", "counter", "Changes of state of a breaker.", ("breaker", "from_state", "to_state")
)
CIRCUIT_REJECTIONS = Metric(
    "faultwire.circuit.rejections", "counter", "Calls that a breaker refused.", ("breaker", RPC_METHOD)
)
OPENTELEMETRY_METRICS = (
    SERVER_CALL_DURATION,
    CLIENT_CALL_DURATION,
    ATTEMPT_DURATION,
    CALL_RETRIES,
    CALL_RETRY_DELAY,
    CIRCUIT_TRANSITIONS,
    CIRCUIT_REJECTIONS,
)
"""All metrics of OpenTelemetryObserver, which makes them if it is given a MeterProvider."""

LOG_PREFIX = "rpc_"
"""What the names of fields begin with in a record's ``extra``: "message" and others are logging's own."""

LOG_FIELDS = (
    Field("event", "string", "server_error, client_error, recovered, batch or suppressed"),
    Field("method", "string", '"package.Service/Method"'),
    Field("code", "string", "name of the status code"),
    Field("category", "string", "name of the category"),
    Field("reason", "string", "reason of the error"),
    Field("error_id", "string", "what the caller was given; empty if it was given none"),
    Field("fingerprint", "string", "the same for errors that come from the same place in the same way"),
    Field("message", "string", "message of the error, redacted"),
    Field("seconds", "double", "how long the call took"),
    Field("attempts", "int", "how many attempts were made, if several; client side"),
    Field("items", "int", "how many items a batch had that is a partial success; the line is written if some failed"),
    Field("failed", "int", "how many of them failed"),
    Field("categories", "string", 'of those that failed: "not_found=97 validation=3"'),
    Field("trace_id", "string", "32 hexadecimal digits, if a span of OpenTelemetry is current"),
    Field("span_id", "string", "16 hexadecimal digits, likewise"),
    Field("exception", "string", "type and text of the exceptions behind the error, redacted; at ERROR and above"),
    Field("stack", "string", "file, line and function of each frame; at ERROR and above"),
    Field("suppressed", "int", "how many lines, texts or stacks of this fingerprint were left out since the last one"),
)
"""All fields of the lines that LoggingObserver writes, in their order."""
