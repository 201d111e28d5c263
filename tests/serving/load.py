"""Measure a running server under load: requests/s, latencies, failures and memory.

python tests/serving/load.py URL PICTURE [--clients 1 8 64] [--requests 2000]

Each client sends a picture, waits for the answer, and sends the next, over one connection.
"""

import argparse
import http.client
import re
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit


def metric(url: str, name: str) -> float:
    """Return a number of the server's /metrics."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def send(url: str, body: bytes, count: int, seconds: list[float], failures: list[object]) -> None:
    """Send `count` requests, one after the other; add their latencies and what failed."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    headers = {"Content-Type": "multipart/form-data; boundary=border"}
    for _ in range(count):
        start = time.perf_counter()
        try:
            connection.request("POST", "/predict", body, headers)
            answer = connection.getresponse()
            answer.read()
        except OSError as error:
            failures.append(error)
            connection.close()
            continue
        seconds.append(time.perf_counter() - start)
        if answer.status != 200:
            failures.append(answer.status)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a running server under load.")
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=2000)
    settings = parser.parse_args()
    head = b'--border\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = head + settings.picture.read_bytes() + b"\r\n--border--\r\n"
    send(settings.url, body, 50, [], [])  # first calls are slower
    print(f"memory at the start: {metric(settings.url, 'process_resident_memory_bytes') / 2**20:.0f} MB")
    print("clients  requests/s  p50 ms  p99 ms  failures  images per batch  memory MB")
    for clients in settings.clients:
        seconds: list[float] = []
        failures: list[object] = []
        arguments = (settings.url, body, settings.requests // clients, seconds, failures)
        before = [metric(settings.url, f"pytorch_intro_batch_size_{kind}") for kind in ("sum", "count")]
        start = time.perf_counter()
        threads = [threading.Thread(target=send, args=arguments) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = len(seconds) / (time.perf_counter() - start)
        images, batches = (
            metric(settings.url, f"pytorch_intro_batch_size_{kind}") - value
            for kind, value in zip(("sum", "count"), before, strict=True)
        )
        memory = metric(settings.url, "process_resident_memory_bytes") / 2**20
        p50, p99 = (1000 * sorted(seconds)[int(share * len(seconds))] for share in (0.5, 0.99))
        latencies = f"{p50:6.1f}  {p99:6.1f}"
        print(f"{clients:7}  {rate:10.0f}  {latencies}  {len(failures):8}  {images / batches:16.1f}  {memory:9.0f}")


if __name__ == "__main__":
    main()
