"""What type checkers must find: a missing, a misspelt and a mistyped argument."""

from ledger.v1.ledger_faultwire import AccountClosed, Overdrawn

AccountClosed()
AccountClosed(acount="1")
Overdrawn(account="1", cents=[])
Overdrawn(account="1", cents=1, retry_delay="soon")
