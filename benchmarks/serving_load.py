"""A load generator in a process of its own: N clients that each send a request as soon as the last is answered.

    python benchmarks/serving_load.py HOST PORT PATH BODY_FILE CLIENTS SECONDS

Prints one line of JSON. It imports nothing but the standard library, to leave the processors to the server.
"""

import asyncio
import json
import sys
import time
from pathlib import Path


async def client(host: str, port: int, request: bytes, end: float, latencies: list[float], errors: list[str]) -> None:
    reader = writer = None
    while time.perf_counter() < end:
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


async def load(host: str, port: int, path: str, body: bytes, clients: int, seconds: float) -> dict:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    latencies: list[float] = []
    errors: list[str] = []
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(*(client(host, port, request, end, latencies, errors) for _ in range(clients)))
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
    host, port, path, body_file, clients, seconds = sys.argv[1:]
    result = load(host, int(port), path, Path(body_file).read_bytes(), int(clients), float(seconds))
    print(json.dumps(asyncio.run(result)))
