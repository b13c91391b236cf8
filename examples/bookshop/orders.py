"""The rules of ordering, the same for both worlds."""

from __future__ import annotations

import collections
import itertools
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, Help, LocalizedMessage, PreconditionFailure

from bookshop.v1 import bookshop_pb2 as pb
from examples.bookshop.errors import shop
from examples.bookshop.stock import Stock

MAX_QUANTITY = 999


def place(lines: Sequence[pb.OrderLine], stock: Stock, quota: Quota) -> pb.Order:
    """Take an order, all of it or nothing."""
    check(lines)
    quota.take(lines[0].email)
    check_delivery(lines, stock)
    return pb.Order(id=uuid.uuid4().hex, total_cents=stock.total((line.isbn, line.quantity) for line in lines))


def check(lines: Sequence[pb.OrderLine]) -> None:
    """Refuse an order that has invalid fields, naming every one."""
    wrong = [BadRequest.FieldViolation(field=field, description=text) for field, text in _violations(lines)]
    if wrong:
        request = BadRequest(field_violations=wrong)
        raise shop.OrderInvalid(count=len(wrong), error_details=[request])


def _violations(lines: Sequence[pb.OrderLine]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines):
        if not is_isbn(line.isbn):
            yield f"lines[{number}].isbn", "is no ISBN-13: its check digit is wrong"
        if not 1 <= line.quantity <= MAX_QUANTITY:
            yield f"lines[{number}].quantity", f"must be 1 to {MAX_QUANTITY}"
        if "@" not in line.email:
            yield f"lines[{number}].email", "is no e-mail address"


def is_isbn(text: str) -> bool:
    if len(text) != 13 or not (text.isascii() and text.isdigit()):
        return False
    return sum(int(digit) * weight for digit, weight in zip(text, itertools.cycle((1, 3)), strict=False)) % 10 == 0


def check_delivery(lines: Sequence[pb.OrderLine], stock: Stock) -> None:
    """Refuse an order of more copies than are there, saying so of each line."""
    short = [line for line in lines if line.quantity > stock.left(line.isbn)]
    if short:
        details = _shortage(short, stock)
        raise shop.DeliveryAwaited(count=len(short), error_details=details)


def _shortage(short: Iterable[pb.OrderLine], stock: Stock) -> list[Message]:
    failure, pages = PreconditionFailure(), Help()
    for line in short:
        wanted = f"{line.quantity} copies are wanted, {stock.left(line.isbn)} are on the shelf"
        failure.violations.add(type="STOCK", subject=f"isbn/{line.isbn}", description=wanted)
        pages.links.add(description="When it is delivered", url=f"https://bookshop.example.com/deliveries/{line.isbn}")
    german = LocalizedMessage(locale="de", message="Ein Teil der Bestellung wartet auf die nächste Lieferung.")
    return [failure, german, pages]


class Quota:
    """So many orders a minute for each customer."""

    LIMIT = 3
    WINDOW = 60.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)

    def take(self, customer: str) -> None:
        with self._lock:
            now, times = time.monotonic(), self._orders[customer]
            while times and times[0] <= now - self.WINDOW:
                times.popleft()
            if len(times) >= self.LIMIT:
                wait = times[0] + self.WINDOW - now
                raise shop.OrderQuotaExceeded(limit=self.LIMIT, customer=customer, retry_delay=wait)
            times.append(now)
