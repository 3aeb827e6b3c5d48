"""What a process that is killed outright has started ends too: the host of run.py, and the training of a host."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from comfyui_spacetime.models.training.run import stopping
from comfyui_spacetime.tools import host

ROOT = Path(__file__).resolve().parents[2]
# a ComfyUI that answers, and starts a process of its own as a node that trains does
SERVER = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(child.pid).encode())
port = int(sys.argv[sys.argv.index("--port") + 1])
assert __name__ == "__main__" and sys.argv[0] == __file__ and sys.stdin.read() == ""
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
START = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tools.pack import load
load()
from comfyui_spacetime.tools.comfyui import Installation
from comfyui_spacetime.tools.host import Host
host = Host.start(Installation(Path(sys.argv[2]), Path(sys.executable), (), managed=False))
print(host.process.pid, host.client.get("/").decode(), flush=True)
import time; time.sleep(100)
"""
TRAIN = """
import os, subprocess, sys
process = subprocess.Popen([sys.executable, *sys.argv[1:], "--with-parent", str(os.getpid()), "vae", "--out", "run",
    "--clips", "2", "--size", "32x32x5", "--steps", "100000", "--crop", "32", "--frames", "5"])
print(process.pid)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def ends(pid: int, seconds: float) -> bool:
    """Whether a process ends in time; one that does not is killed."""
    end = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.05)
    return True


def test_a_host_and_what_it_started_end_with_a_killed_run(tmp_path):
    (tmp_path / "main.py").write_text(SERVER)
    command = [sys.executable, "-c", START, str(ROOT), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        run.kill()
    assert [ends(pid, 30) for pid in pids] == [True, True]


def test_training_whose_host_died_while_it_imported_torch_ends(tmp_path):
    command = [sys.executable, "-c", TRAIN, str(ROOT / "tools" / "pack.py"), "models.training"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path) as parent:
        pid = int(parent.stdout.readline())
        assert parent.wait() == 0, "the parent is gone long before torch is there"
        assert ends(pid, 120)
        said = parent.stdout.read()
    assert "stopped" in said, said


def test_the_parent_is_the_one_that_was_named():
    assert not stopping.is_gone(os.getppid())
    assert stopping.is_gone(os.getpid())


def test_old_logs_go(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "LOGS_KEPT", 3)
    for number in range(6):
        path = tmp_path / f"host-{number}.log"
        path.touch()
        os.utime(path, (number, number))
    host.remove_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host-4.log", "host-5.log"]
