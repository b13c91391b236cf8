"""Several processes on one port, whose metrics add up: python -m examples.reuseport_server [PORT [METRICS [WORKERS]]].

Linux hands each new connection to one of the processes that listen on a port with SO_REUSEPORT. Each of them counts
into files of its own, in a folder that prometheus_client's multiprocess mode reads; the parent shows their sum, starts
a worker anew that has died, and serves no RPC itself.
"""

import multiprocessing
import os
import socket
import sys
import tempfile
from concurrent import futures
from contextlib import suppress
from multiprocessing.connection import wait


def work(port: int) -> None:
    """Serve, in a process of its own."""
    # Imported here: prometheus_client looks for PROMETHEUS_MULTIPROC_DIR when it is imported.
    import grpc  # noqa: PLC0415

    from bookshop.v1 import bookshop_faultwire as errors  # noqa: PLC0415
    from bookshop.v1 import bookshop_pb2, bookshop_pb2_grpc  # noqa: PLC0415
    from examples.quickstart_server import Bookshop  # noqa: PLC0415
    from grpc_faultwire import Translator  # noqa: PLC0415
    from grpc_faultwire.observers import PrometheusObserver  # noqa: PLC0415
    from grpc_faultwire.sync import ServerInterceptor  # noqa: PLC0415

    metrics = PrometheusObserver(services=[bookshop_pb2.DESCRIPTOR.services_by_name["Bookshop"]])
    interceptor = ServerInterceptor(Translator(catalogues=[errors.BOOKSHOP_ERROR]), observers=[metrics])
    server = grpc.server(futures.ThreadPoolExecutor(), [], [interceptor], options=[("grpc.so_reuseport", 1)])
    bookshop_pb2_grpc.add_BookshopServicer_to_server(Bookshop(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(f"worker {os.getpid()} serves on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def supervise(port: int, workers: int) -> None:
    """Keep so many workers at work."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  # as above

    # Spawned, not forked: a fork of a process with threads may take a lock along that nobody will release.
    spawn = multiprocessing.get_context("spawn")
    alive = {}
    while True:
        while len(alive) < workers:
            process = spawn.Process(target=work, args=(port,), daemon=True)
            process.start()
            alive[process.sentinel] = process
        for sentinel in wait(list(alive)):
            # Its counts stay, its gauges (what was in flight) go.
            mark_process_dead(alive.pop(sentinel).pid)


def main(port: int = 50051, metrics_port: int = 9464, workers: int = 2) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket() as reserved, suppress(KeyboardInterrupt):
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # empty at the start: counts of another run would be added
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415  # as above
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415  # as above

        # Held, but not listened on: nobody else gets the port while workers come and go.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", port))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        httpd, _ = start_http_server(metrics_port, "127.0.0.1", registry)
        print(f"metrics on http://127.0.0.1:{httpd.server_port}/metrics", flush=True)
        supervise(reserved.getsockname()[1], workers)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
