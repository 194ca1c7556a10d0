"""A cell that pushes by the OpenTelemetry SDK: a queue that fills, requests, and a log that turns bad.

Arguments: `http` or `grpc`, host:port, the cell's name, the token. A line on its standard input turns the log bad; it ends
with its standard input.
"""

import logging
import sys
import threading
import time

from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

protocol, address, cell, token = sys.argv[1:]
bearer = {"authorization": f"Bearer {token}"}
if protocol == "http":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    gzip = {"headers": bearer, "compression": Compression.Gzip}
    metrics = OTLPMetricExporter(endpoint=f"http://{address}/v1/metrics", **gzip)
    logs = OTLPLogExporter(endpoint=f"http://{address}/v1/logs", **gzip)
else:
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    gzip = {"headers": bearer, "compression": Compression.Gzip, "insecure": True}
    metrics = OTLPMetricExporter(endpoint=f"http://{address}", **gzip)
    logs = OTLPLogExporter(endpoint=f"http://{address}", **gzip)

resource = Resource.create({"service.name": "web", "service.instance.id": cell})
reader = PeriodicExportingMetricReader(metrics, export_interval_millis=250)
meter = MeterProvider(metric_readers=[reader], resource=resource).get_meter("test")
log_provider = LoggerProvider(resource=resource)
log_provider.add_log_record_processor(BatchLogRecordProcessor(logs, schedule_delay_millis=250))
log = logging.getLogger("cell")
log.propagate = False
log.setLevel(logging.INFO)
log.addHandler(LoggingHandler(logger_provider=log_provider))

began = time.monotonic()
bad = threading.Event()
meter.create_observable_gauge(
    "app.queue.depth",
    callbacks=[lambda _: [Observation(100 + 10 * (time.monotonic() - began), {"queue": "orders"})]],
)
meter.create_observable_gauge(
    "app.tokens.left", callbacks=[lambda _: [Observation(900 - 10 * (time.monotonic() - began))]]
)
requests = meter.create_counter("app.requests")
took = meter.create_histogram("app.request.duration", unit="ms")


def work():
    while True:
        age = time.monotonic() - began
        requests.add(1)
        # Ever slower: towards the limit in about a minute.
        took.record(20 + 15 * age)
        log.info("a request was answered")
        if bad.is_set():
            log.error("the queue of %s is nearly full", "orders")
        time.sleep(0.05)


threading.Thread(target=work, daemon=True).start()
for _ in sys.stdin:
    bad.set()
