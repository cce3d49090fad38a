"""Web servers in threads of the tests, and ports for servers in other processes."""

import contextlib
import functools
import http.server
import socket
import threading
import time


def free_port():
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def run_server(server):
    """Runs a server of uvicorn at a free port; yields its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def run_handler(handler):
    """Runs a simple web server, whose requests a handler answers; yields the server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Sends files, and does not print so."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve_folder(folder, handler=QuietHandler):
    """Serves the files of a folder; yields its address."""
    with run_handler(functools.partial(handler, directory=folder)) as server:
        yield f"http://127.0.0.1:{server.server_port}"
