"""What sinks post to: a webhook, and an OTLP receiver by OpenTelemetry's own messages.

receiver.py ADDRESS PORT CERTIFICATE KEY FOLDER

Whatever is posted becomes lines of FOLDER/received, one JSON object an event, on the disk before it is
answered. FOLDER/behaviour, read for each request, says what else happens:

  ok             200
  slow SECONDS   200, after so long
  drop           the connection is closed without an answer: nobody knows that it arrived
  status N [RETRY-AFTER]   that status, and nothing is kept
  poison TEXT    400 where an event holds TEXT, and nothing is kept of that request
  partial TEXT   OTLP's partial success: what holds TEXT is rejected, the rest kept
"""

import json
import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

ADDRESS, PORT, CERTIFICATE, KEY, FOLDER = sys.argv[1:]


def opened(name):
    """To append to. What a kill left half written was never answered, so it is not kept."""
    path = os.path.join(FOLDER, name)
    try:
        with open(path, "rb") as file:
            os.truncate(path, file.read().rfind(b"\n") + 1)
    except FileNotFoundError:
        pass
    return open(path, "a", encoding="utf-8")


RECEIVED = opened("received")
ATTEMPTS = opened("attempts")
LOCK = threading.Lock()


def behaviour():
    with open(os.path.join(FOLDER, "behaviour"), encoding="utf-8") as file:
        return file.read().split()


def keep(file, values):
    with LOCK:
        for value in values:
            file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())


def of_otlp(body):
    """The events of an OTLP request; it must be one to the last field."""
    request = json_format.Parse(body, ExportLogsServiceRequest())
    events = []
    for resource in request.resource_logs:
        names = {a.key: a.value.string_value for a in resource.resource.attributes}
        assert names["service.name"] == "chaperone-sidecar", names
        for scope in resource.scope_logs:
            for record in scope.log_records:
                event = json.loads(record.body.string_value)
                told = {a.key: a.value for a in record.attributes}
                assert told["log.record.uid"].string_value == event["metadata"]["uid"]
                assert told["ocsf.sequence"].int_value == event["metadata"]["sequence"]
                assert record.time_unix_nano == event["time"] * 1_000_000
                assert record.severity_number > 0
                events.append(event)
    return events


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"{}", retry_after=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        if status in (301, 302, 307, 308):
            self.send_header("Location", f"https://{ADDRESS}:{PORT}/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        what, *rest = behaviour()
        assert self.headers["Content-Type"] == "application/json"
        otlp = self.path == "/v1/logs"
        try:
            events = of_otlp(body) if otlp else json.loads(body)
        except Exception as error:  # what is not understood must fail the test, not be sent again
            keep(ATTEMPTS, [{"broken": repr(error)}])
            return self.answer(400)
        authorization = self.headers.get("Authorization")
        keep(ATTEMPTS, [{"what": what, "path": self.path, "at": time.time(), "events": len(events)}])
        if what == "status":
            return self.answer(int(rest[0]), retry_after=rest[1] if rest[1:] else None)
        if what == "poison" and any(rest[0] in json.dumps(event) for event in events):
            return self.answer(400)
        answer = b"{}"
        if what == "partial":
            whole = len(events)
            events = [event for event in events if rest[0] not in json.dumps(event)]
            response = ExportLogsServiceResponse()
            response.partial_success.rejected_log_records = whole - len(events)
            answer = json_format.MessageToJson(response).encode()
        keep(RECEIVED, [{"path": self.path, "authorization": authorization, "event": event} for event in events])
        if what == "slow":
            time.sleep(float(rest[0]))
        if what == "drop":
            self.close_connection = True
            return self.connection.close()
        return self.answer(200, answer)


class Server(ThreadingHTTPServer):
    """Handshakes in the thread of the connection: who breaks one off holds up nobody."""

    daemon_threads = True

    def finish_request(self, request, client_address):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, KEY)
        try:
            request = context.wrap_socket(request, server_side=True)
        except (ssl.SSLError, OSError):
            return
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        pass


Server((ADDRESS, int(PORT)), Handler).serve_forever()
