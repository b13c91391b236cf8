"""Run the benchmarks: `python -m benchmarks [--quick] [wire|rpc|batches ...]`."""

from __future__ import annotations

import argparse
import platform

import grpc

from benchmarks import batches, rpc, wire

SUITES = {"wire": wire.run, "rpc": rpc.run, "batches": batches.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="which; all if none is named")
    parser.add_argument("--quick", action="store_true", help="a few rounds")
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, grpcio {grpc.__version__}\n")
    for name in arguments.suites or SUITES:
        print(SUITES[name](7 if arguments.quick else 31), flush=True)


if __name__ == "__main__":
    main()
