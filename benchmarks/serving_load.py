"""A load generator in a process of its own: N clients that each send a request as soon as the last is answered.

    python benchmarks/serving_load.py HOST PORT CLIENTS SECONDS PATH BODY_FILE [PATH BODY_FILE ...]

Every client sends the requests in turn: a POST of JSON, or a GET where "-" stands for the body's file. Prints one line
of JSON. It imports nothing but the standard library, to leave the processors to the server.
"""

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path


async def client(host: str, port: int, requests, end: float, latencies: list[float], errors: list[str]) -> None:
    reader = writer = None
    for request in itertools.cycle(requests):
        if time.perf_counter() >= end:
            break
        start = time.perf_counter()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            errors.append(repr(error))
            writer = None
            await asyncio.sleep(0.05)
            continue
        if b" 200 " not in head[:16]:
            errors.append(f"{head[:40]!r} {body[:200]!r}")
        latencies.append(time.perf_counter() - start)
    if writer is not None:
        writer.close()


def request(host: str, port: int, path: str, body_file: str) -> bytes:
    host = f"Host: {host}:{port}\r\n"
    if body_file == "-":
        return f"GET {path} HTTP/1.1\r\n{host}\r\n".encode()
    body = Path(body_file).read_bytes()
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{host}{kind}\r\n".encode() + body


async def load(host: str, port: int, requests: list[bytes], clients: int, seconds: float) -> dict:
    latencies: list[float] = []
    errors: list[str] = []
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(*(client(host, port, requests, end, latencies, errors) for _ in range(clients)))
    elapsed = time.perf_counter() - start
    ordered = sorted(latencies) or [float("nan")]
    return {
        "clients": clients,
        "requests": len(latencies),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "requests_per_second": len(latencies) / elapsed,
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
    }


if __name__ == "__main__":
    host, port, clients, seconds, *pairs = sys.argv[1:]
    requests = [request(host, int(port), *pair) for pair in zip(pairs[::2], pairs[1::2], strict=True)]
    print(json.dumps(asyncio.run(load(host, int(port), requests, int(clients), float(seconds)))))
