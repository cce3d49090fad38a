"""A web server in a thread of the tests."""

import contextlib
import socket
import threading
import time


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
