"""An HTTP proxy on loopback that treats requests badly, and a port behind which nobody answers."""

import contextlib
import http.client
import socket
import ssl
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultyProxy:
    """Forwards requests to `port`; every request suffers `fault` the first time that it is sent, so repeating helps.

    refused: reset without an answer. lost: done, but reset instead of an answer. reset, truncated: the answer stops half-way,
    with a reset or an orderly end. silent: no answer, on a connection that stays open. stalled: the answer stops half-way, and the
    connection stays open. dead: silent every time. slow: it comes late. unavailable: 503 instead of an answer. forbidden: 403 for all, with
    the key in the answer, as servers do. closing: 503 for whatever `closed` says of (method, path), every time.
    """

    def __init__(self, port, fault=None, closed=lambda method, path: False, seen=lambda method, path: None, certificate=None):
        self.upstream, self.fault, self.closed, self.seen = port, fault, closed, seen
        self.known, self.faults, self.lock = set(), 0, threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                try:
                    self.raw_requestline = self.rfile.readline(65537)
                    if not self.raw_requestline or not self.parse_request():
                        self.close_connection = True
                        return
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    proxy.serve(self, body)
                except OSError:
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            # Otherwise one client that says nothing would keep all others waiting.
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def serve(self, handler, body):
        with self.lock:
            request = (handler.command, handler.path, handler.headers.get("Range"))
            is_new = request not in self.known
            self.known.add(request)
        fault = self.fault if is_new or self.fault in ("forbidden", "dead") else None
        if self.closed(handler.command, handler.path):
            fault = "unavailable"
        self.faults += fault is not None
        if fault == "refused":
            return reset(handler)
        if fault in ("silent", "dead"):
            return wait(handler)
        if fault == "unavailable":
            return answer(handler, 503, b"<Error><Code>SlowDown</Code></Error>")
        if fault == "forbidden":
            key = handler.headers.get("Authorization", "Credential=none/").split("Credential=")[1].split("/")[0]
            code = f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{key}</AWSAccessKeyId></Error>"
            return answer(handler, 403, code.encode())
        if fault == "slow":
            time.sleep(0.2)
        self.forward(handler, body, fault)

    def forward(self, handler, body, fault):
        server = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        server.request(handler.command, handler.path, body, dict(handler.headers))
        reply = server.getresponse()
        content = reply.read()
        self.seen(handler.command, handler.path)
        if fault == "lost":
            return reset(handler)
        handler.send_response_only(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                handler.send_header(name, value)
        is_cut = fault in ("reset", "truncated", "stalled") and handler.command != "HEAD" and content
        length = reply.getheader("Content-Length", "0") if handler.command == "HEAD" else str(len(content))
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2] if is_cut else content)
        if is_cut and fault == "reset":
            handler.wfile.flush()
            return reset(handler)
        if is_cut and fault == "stalled":
            handler.wfile.flush()
            return wait(handler)
        handler.close_connection = bool(is_cut)


def answer(handler, status, body):
    handler.send_response_only(status)
    handler.send_header("Content-Type", "application/xml")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def reset(handler):
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def wait(handler):
    """Until the client has had enough."""
    handler.close_connection = True
    handler.connection.recv(1)


@contextlib.contextmanager
def black_hole():
    """A port to which no connection is made: packets to it are dropped, because its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        time.sleep(0.1)
        yield listener.getsockname()[1]
