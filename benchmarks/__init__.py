"""What Faultwire costs. `python -m benchmarks` (or `make bench`) runs them all and prints Markdown tables."""
