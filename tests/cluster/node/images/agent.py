"""An agent's runtime: runs commands and keeps files, over HTTP on port 8888, as the SDKs of the Sandbox API use it."""

import email.parser
import email.policy
import http.server
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import urllib.parse

BASE = pathlib.Path(os.environ.get("SANDBOX_BASE_DIR", "/app")).resolve()
LIMIT = float(os.environ.get("SANDBOX_EXEC_TIMEOUT_SECONDS", "300"))


class Denied(Exception):
    """A path outside the folder of the files."""


def inside(name):
    path = (BASE / name.lstrip("/")).resolve()
    if path != BASE and BASE not in path.parents:
        raise Denied
    return path


def execute(request):
    limit = request.get("timeout_seconds") or LIMIT
    try:
        # No shell, as in the runtime that the SDKs are tested with.
        done = subprocess.run(shlex.split(request["command"]), cwd=BASE, capture_output=True, timeout=limit)
        out, err, code, late = done.stdout, done.stderr, done.returncode, False
    except subprocess.TimeoutExpired as e:
        out, err, code, late = e.stdout or b"", e.stderr or b"", -9, True
    except (OSError, ValueError) as e:
        out, err, code, late = b"", f"Failed to execute command: {e}".encode(), 1, False
    return {"stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace"), "exit_code": code,
            "timed_out": late}


def uploaded(kind, data):
    """The name and the content of the part `file` of a form. A parser of mails is slow with large files."""
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode())
    boundary = form.get_boundary()
    parts = data.split(b"\r\n--" + boundary.encode()) if boundary else []
    for part in parts:
        head, _, content = part.partition(b"\r\n\r\n")
        # The first part begins with the boundary, and the others with the rest of its line.
        head = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head.partition(b"\r\n")[2] + b"\r\n\r\n")
        if head.get_param("name", header="Content-Disposition") == "file":
            return head.get_filename() or "", content
    return None


def entry(path):
    info = path.stat()
    kind = "directory" if path.is_dir() else "file"
    return {"name": path.name, "size": info.st_size, "type": kind, "mod_time": info.st_mtime}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def answer(self, status, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.guarded(self.get)

    def do_POST(self):
        self.guarded(self.post)

    def guarded(self, handle):
        try:
            handle()
        except Denied:
            self.answer(403, {"message": "Access denied"})
        except OSError as e:
            self.answer(500, {"message": str(e)})

    def get(self):
        what, _, name = self.path.split("?")[0].lstrip("/").partition("/")
        if what == "":
            return self.answer(200, {"status": "ok", "message": "Sandbox Runtime is active."})
        if what not in ("download", "list", "exists"):
            return self.answer(404, {"detail": "Not Found"})
        name = urllib.parse.unquote(name)
        path = inside(name)
        if what == "exists":
            return self.answer(200, {"path": name, "exists": path.exists()})
        if what == "list" and path.is_dir():
            return self.answer(200, [entry(found) for found in sorted(path.iterdir())])
        if what == "download" and path.is_file():
            return self.answer(200, path.read_bytes())
        return self.answer(404, {"message": "Not found"})

    def post(self):
        data = self.body()
        if self.path == "/execute":
            try:
                request = json.loads(data)
                request["command"]
            except (ValueError, KeyError, TypeError):
                return self.answer(422, {"detail": [{"loc": ["body", "command"], "msg": "Field required"}]})
            return self.answer(200, execute(request))
        if self.path == "/upload":
            if file := uploaded(self.headers.get("Content-Type", ""), data):
                path = inside(file[0])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file[1])
                return self.answer(200, {"message": f"File '{file[0]}' uploaded successfully."})
            return self.answer(422, {"detail": [{"loc": ["body", "file"], "msg": "Field required"}]})
        return self.answer(404, {"detail": "Not Found"})

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    # The first process of a container ends on SIGTERM only if it says so.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    BASE.mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("", 8888), Handler)
    server.daemon_threads = True
    server.serve_forever()
