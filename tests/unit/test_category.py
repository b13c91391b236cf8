"""What codes and categories mean."""

import grpc
import pytest

from faultwire.v1 import options_pb2
from grpc_faultwire.category import Category, Fault, RetryScope, Sensitivity, Severity, meaning


@pytest.mark.parametrize(
    ("code", "category", "scope", "fault", "severity"),
    [
        pytest.param(code, category, scope, fault, severity, id=code)
        for code, category, scope, fault, severity in [
            ("CANCELLED", Category.CANCELLED, RetryScope.NEVER, Fault.NONE, Severity.DEBUG),
            ("UNKNOWN", Category.INTERNAL, RetryScope.NEVER, Fault.SERVER, Severity.ERROR),
            ("INVALID_ARGUMENT", Category.VALIDATION, RetryScope.NEVER, Fault.CLIENT, Severity.INFO),
            ("DEADLINE_EXCEEDED", Category.TIMEOUT, RetryScope.REQUEST, Fault.SERVER, Severity.WARNING),
            ("NOT_FOUND", Category.NOT_FOUND, RetryScope.NEVER, Fault.CLIENT, Severity.INFO),
            ("ALREADY_EXISTS", Category.CONFLICT, RetryScope.NEVER, Fault.CLIENT, Severity.INFO),
            ("PERMISSION_DENIED", Category.AUTHORIZATION, RetryScope.NEVER, Fault.CLIENT, Severity.WARNING),
            ("RESOURCE_EXHAUSTED", Category.QUOTA, RetryScope.REQUEST, Fault.CLIENT, Severity.WARNING),
            ("FAILED_PRECONDITION", Category.PRECONDITION, RetryScope.NEVER, Fault.CLIENT, Severity.INFO),
            ("ABORTED", Category.CONFLICT, RetryScope.OPERATION, Fault.CLIENT, Severity.INFO),
            ("OUT_OF_RANGE", Category.VALIDATION, RetryScope.NEVER, Fault.CLIENT, Severity.INFO),
            ("UNIMPLEMENTED", Category.UNIMPLEMENTED, RetryScope.NEVER, Fault.CLIENT, Severity.WARNING),
            ("INTERNAL", Category.INTERNAL, RetryScope.NEVER, Fault.SERVER, Severity.ERROR),
            ("UNAVAILABLE", Category.OVERLOAD, RetryScope.REQUEST, Fault.SERVER, Severity.WARNING),
            ("DATA_LOSS", Category.DATA_LOSS, RetryScope.NEVER, Fault.SERVER, Severity.CRITICAL),
            ("UNAUTHENTICATED", Category.AUTHENTICATION, RetryScope.AFTER_REFRESH, Fault.CLIENT, Severity.INFO),
        ]
    ],
)
def test_meaning_of_a_code(code, category, scope, fault, severity):
    """Each status code means a category, and so a fault, a severity and a retry scope."""
    meant = meaning(grpc.StatusCode[code].value[0])
    assert meant == (category, scope)
    assert (meant.category.fault, meant.category.severity) == (fault, severity)


@pytest.mark.parametrize("number", [-1, 0, 17, 99])
def test_an_unknown_number_means_what_unknown_means(number):
    """A number that is no error's code means what UNKNOWN means."""
    assert meaning(number) == meaning(2)


@pytest.mark.parametrize("category", Category)
def test_every_category_has_a_fault_and_a_severity(category):
    """No category is left out of the tables."""
    assert isinstance(category.fault, Fault)
    assert isinstance(category.severity, Severity)


@pytest.mark.parametrize("kind", [Category, Severity, RetryScope, Sensitivity], ids=lambda kind: kind.__name__)
def test_enums_are_the_protos(kind):
    """The enums of the API have the names and numbers of the proto's, but for its zero."""
    wrapper = getattr(options_pb2, kind.__name__)
    prefix = {"RetryScope": "RETRY_SCOPE"}.get(kind.__name__, kind.__name__.upper())
    assert {f"{prefix}_{member.name}": member.value for member in kind} | {f"{prefix}_UNSPECIFIED": 0} == dict(
        wrapper.items()
    )


def test_severities_are_ordered():
    """The worst of several severities is their max()."""
    assert max(Severity.INFO, Severity.CRITICAL, Severity.DEBUG) is Severity.CRITICAL
