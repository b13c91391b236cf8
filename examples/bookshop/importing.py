"""Act three: a batch of 5,000 books, of which 2 % cannot be taken in, and a shop that turns a fifth of calls away."""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import grpc
from rich.table import Table
from rich.text import Text

from bookshop.v1 import stockroom_pb2 as pb
from bookshop.v1 import stockroom_pb2_grpc
from examples.bookshop.delivery import delivery
from examples.bookshop.moods import FLAKY, WELL
from examples.bookshop.processes import Server
from examples.bookshop.screen import Screen
from grpc_faultwire import StatusError
from grpc_faultwire.batch import BatchPolicy, BatchResult, ProgressBar
from grpc_faultwire.batch.sync import BatchCaller
from grpc_faultwire.policies import BudgetPolicy, RetryBudget, RetryPolicy
from grpc_faultwire.sync import wrap_channel

IMPORTER = "importer"
"""What the caller calls itself."""
POLICY = BatchPolicy(
    max_items=250,
    idempotent=True,  # a book that is there already is as good as taken in
    retry=RetryPolicy(max_attempts=6, initial_backoff=0.02),
    timeout=30,
)
SAVED = BudgetPolicy(initial=100)
"""A night's import may spend what the day's calls have saved: a fifth of its calls will be lost."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came of it.

    Attributes:
        result: for the caller.
        bad: what is wrong with the bad records, by index.
        turned_away: how many calls the shop turned away.
        counted: how many books the stockroom has.
    """

    result: BatchResult
    bad: Mapping[int, type[StatusError]]
    turned_away: int
    counted: int

    def faults(self) -> list[str]:
        """Return, in sentences, what was not as it must be."""
        result, good = self.result, self.result.total - len(self.bad)
        failed = {index: type(end.error) for index, end in result.failures.items()}
        rules = (
            (result.succeeded == good == self.counted, "not every good book was taken in once"),
            (failed == self.bad, "the failures are not the bad records"),
            (not result.unknown, "of some books nobody knows what became of them"),
            (self.turned_away > 0, "the shop turned no call away"),
            (result.retried > 0, "nothing was sent again"),
            (result.retried < result.total, "more was sent again than was lost"),
        )
        return [sentence for holds, sentence in rules if not holds]

    def numbers(self) -> Iterator[tuple[str, str]]:
        """Say what it took."""
        result = self.result
        least = -(-result.total // POLICY.max_items)
        yield f"calls (a shop without a fault: {least}; one book a call: {result.total:,})", f"{result.requests}"
        yield "calls that the shop turned away", f"{self.turned_away}"
        yield "books sent again: those of lost calls, and of busy shelves", f"{result.retried:,}"
        yield "books taken in, as the stockroom counts them", f"{self.counted:,}"
        yield "failed for good, each with an error of its own", f"{len(result.failures)}"
        yield "sent, and nobody knows what became of them", f"{len(result.unknown)}"

    def kinds(self) -> Iterator[tuple[str, str, str, str]]:
        """Group the failures by their class: what, how many, where, and what the first one says."""
        found = collections.defaultdict(list)
        for index, end in self.result.failures.items():
            found[type(end.error)].append((index, end.error))
        for kind, ends in sorted(found.items(), key=lambda one: -len(one[1])):
            places = ", ".join(str(index) for index, _ in ends[:3]) + (", …" if len(ends) > 3 else "")
            yield kind.__name__, str(len(ends)), places, ends[0][1].message


def import_books(screen: Screen, shop: Server) -> Imported:
    """Send the delivery while the shop is flaky."""
    books, bad = delivery()
    plain = grpc.insecure_channel(shop.address, [("grpc.primary_user_agent", IMPORTER)])
    with wrap_channel(plain) as channel:
        stub = stockroom_pb2_grpc.StockroomStub(channel)
        shop.tell(FLAKY)
        with ProgressBar("   importing", console=screen.console, stream=sys.stdout) as bar:
            importer = BatchCaller(
                stub.ImportBooks,
                lambda chunk: pb.ImportBooksRequest(books=chunk),
                POLICY,
                budget=RetryBudget(SAVED),
                on_progress=bar,
            )
            result = importer.send(books)
        seen = shop.tell(WELL)[IMPORTER]
        counted = stub.CountBooks(pb.CountBooksRequest(), timeout=10).books
    return Imported(result=result, bad=bad, turned_away=seen["attempts"] - seen["served"], counted=counted)


def show_imported(screen: Screen, imported: Imported) -> None:
    """Show what came of it."""
    if screen.piped:
        print()
        for what, number in imported.numbers():
            print(f"   {what:<65}{number:>8}")
        for kind, number, places, message in imported.kinds():
            print(f"   except* {kind:<14} {number:>3}  at {places:<20}  {message}", flush=True)
        return
    numbers = Table(box=None, padding=(0, 1), show_header=False)
    numbers.add_column()
    numbers.add_column(justify="right", style="bold")
    for row in imported.numbers():
        numbers.add_row(*row)
    kinds = Table("except*", "items", "at", "the first one says", box=None, padding=(0, 1), header_style="cyan")
    for kind, number, places, message in imported.kinds():
        kinds.add_row(Text(kind, "bold red"), number, places, message)
    screen.console.print(numbers, kinds)
