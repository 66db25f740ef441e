"""A proxy before a server that counts what comes through it: how often a client really asks. Standard library alone."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

DROPPED = ("transfer-encoding", "connection", "content-length", "host")


class Counting:
    """asked: (path, status) of each request, in order; url: where clients ask, up to and with /v1."""

    def __init__(self, upstream: str):
        self.upstream, self.asked = urlsplit(upstream), []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                proxy.forward(self)

            do_POST = do_DELETE = do_GET

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # of a client that has gone
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}{self.upstream.path}"

    def forward(self, handler: BaseHTTPRequestHandler) -> None:
        """Pass a request on, and its answer back piece by piece."""
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        connection = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port, timeout=300)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in DROPPED}
        connection.request(handler.command, handler.path, body or None, headers)
        answer = connection.getresponse()
        self.asked.append((handler.path, answer.status))
        try:
            handler.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in DROPPED:
                    handler.send_header(name, value)
            handler.send_header("transfer-encoding", "chunked")
            handler.end_headers()
            while piece := answer.read1(65536):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client has gone
            handler.close_connection = True
        finally:
            connection.close()
