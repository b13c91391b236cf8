"""``python -m grpc_faultwire`` is the command ``faultwire``."""

from grpc_faultwire.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
