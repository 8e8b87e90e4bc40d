"""A TCP proxy on loopback that treats every second connection badly."""

import socket
import struct
import threading
import time


class FaultyProxy:
    """Forwards connections to `port`; those of odd number suffer `fault`.

    refused: reset before a byte is read. reset, truncated: the answer stops half-way, with a reset or an orderly end. slow: it
    comes late. unavailable: 503 instead of an answer. no_manifest: 503 for every request that writes a manifest, on any
    connection. forbidden: 403 for all, with the key in the answer, as servers do.
    """

    def __init__(self, port, fault):
        self.upstream, self.fault, self.connections, self.faults = port, fault, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            is_bad = self.connections % 2 == 1 or self.fault in ("no_manifest", "forbidden")
            threading.Thread(target=self._serve, args=(client, self.fault if is_bad else None), daemon=True).start()

    def _serve(self, client, fault):
        try:
            if fault == "refused":
                self._reset(client)
                return
            head = client.recv(65536)
            if not head:
                return
            if fault == "unavailable" or (fault == "no_manifest" and head.startswith(b"PUT") and b"manifest.parquet" in head):
                self._answer(client, "503 Slow Down", "<Error><Code>SlowDown</Code></Error>")
                return
            if fault == "forbidden":
                key = head.split(b"Credential=")[1].split(b"/")[0].decode()
                self._answer(client, "403 Forbidden", f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{key}</AWSAccessKeyId></Error>")
                return
            if fault == "slow":
                self.faults += 1
                time.sleep(0.3)
            self._forward(client, head, fault)
        except OSError:
            pass
        finally:
            client.close()

    def _answer(self, client, status, body):
        self.faults += 1
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.sendall((head + body).encode())

    def _reset(self, client):
        self.faults += 1
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    def _forward(self, client, head, fault):
        server = socket.create_connection(("127.0.0.1", self.upstream))
        server.sendall(head)

        def upwards():
            try:
                while data := client.recv(65536):
                    if self.fault == "no_manifest" and data.startswith(b"PUT") and b"manifest.parquet" in data:
                        self._answer(client, "503 Slow Down", "<Error><Code>SlowDown</Code></Error>")
                        server.close()
                        return
                    server.sendall(data)
            except OSError:
                server.close()

        threading.Thread(target=upwards, daemon=True).start()
        passed = 0
        while data := server.recv(4096):
            passed += len(data)
            if passed > 20_000 and fault in ("reset", "truncated"):
                client.sendall(data[: len(data) // 2])
                if fault == "reset":
                    self._reset(client)
                else:
                    self.faults += 1
                    client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(data)
