"""Running commands as people do: in new interpreters, or in children that are ready to run."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
TIMEOUT = 300.0


def environment(**variables: str) -> dict[str, str]:
    """This process's, with the checkout's package, without GPUs and launchers."""
    variables = {"PYTHONPATH": str(SOURCE), "CUDA_VISIBLE_DEVICES": "", **variables}
    left_out = ("HYDRA_FULL_ERROR", "NODE_RANK", "SLURM_NTASKS", "WANDB_MODE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, **variables}


def fresh_python(
    *arguments: str, cwd: Path, timeout: float = TIMEOUT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a new interpreter with ``arguments``: for tests of imports and of starting itself.

    Its imports take seconds. Everything else is for :func:`python`.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def python(
    *arguments: str, cwd: Path, timeout: float = TIMEOUT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``-m module …``, ``-c code …`` or ``script.py …`` in a child that has our modules loaded.

    Raises:
        subprocess.TimeoutExpired: after ``timeout`` seconds; the child is killed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        process = ReadyProcess(*arguments, cwd=cwd, stdout=output, stderr=error, **variables)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        output.seek(0)
        error.seek(0)
        texts = output.read().decode(), error.read().decode()
    return subprocess.CompletedProcess(arguments, code, *texts)


def spawn(function: Callable[..., object], *arguments: Any, count: int) -> None:
    """Call ``function(rank, *arguments)`` in ``count`` children, as torch.multiprocessing does.

    ``torch.multiprocessing.spawn`` starts interpreters, which import everything anew.

    Args:
        function: of a module of ``tests``.
        arguments: what can be pickled.
    """
    code = (
        "import pickle, sys; f, a = pickle.load(open(sys.argv[1], 'rb')); f(int(sys.argv[2]), *a)"
    )
    with tempfile.TemporaryDirectory() as folder:
        call, log = Path(folder) / "call", Path(folder) / "log"
        call.write_bytes(pickle.dumps((function, arguments)))
        processes = [
            ReadyProcess("-c", code, str(call), str(rank), cwd=ROOT, stdout=log)
            for rank in range(count)
        ]
        try:
            codes = [process.wait(TIMEOUT) for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert not any(codes), log.read_text()


class ReadyProcess:
    """A running :func:`python`, with the methods of ``subprocess.Popen``.

    Args:
        arguments: of the interpreter.
        cwd: its working folder.
        stdout: a file, or the path of one that is appended to; without it nothing is kept.
        stderr: as ``stdout``, to which it goes by default.
        variables: of its environment.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        stdout: Path | IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
        **variables: str,
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        variables = environment(**variables)
        request = {"arguments": arguments, "cwd": str(cwd.resolve()), "environment": variables}
        with contextlib.ExitStack() as stack:
            if stdout is None or isinstance(stdout, Path):
                stdout = stack.enter_context(open(stdout or os.devnull, "ab"))
            self._answers, theirs = socket.socketpair()
            stack.enter_context(theirs)
            descriptors = [file.fileno() for file in (theirs, stdout, stderr or stdout)]
            socket.send_fds(_zygote(variables["PYTHONPATH"]), [b"."], descriptors)
        self._answers.sendall(json.dumps(request).encode() + b"\n")
        self._lines = self._answers.makefile("rb", buffering=0)
        self.pid = int(self._lines.readline())

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code as soon as there is one.

        Raises:
            subprocess.TimeoutExpired: after ``timeout`` seconds.
        """
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answers.recv(16))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._lines.close()
            self._answers.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, or ``None`` while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """End the process by SIGKILL, and wait for the end."""
        self.send_signal(signal.SIGKILL)
        self.wait()


@functools.cache
def _zygote(search_path: str) -> Any:
    """Start the process that forks; it ends when its socket closes with this process.

    Args:
        search_path: its ``PYTHONPATH``: another one may have other versions of our modules.
    """
    ours, theirs = socket.socketpair()
    # One thread alone: pyarrow would start one of its memory allocator.
    one = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.zygote", str(theirs.fileno())],
            cwd=ROOT,
            env=environment(PYTHONPATH=search_path, **one),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return ours
