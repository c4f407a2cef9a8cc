"""A process with everything imported that forks a child for each command; see tests/processes.py.

Importing torch, Lightning and Hydra takes an interpreter some eight seconds of CPU time, and the
tests start more than a hundred. A child that is forked from here differs from a new interpreter
only in that it finds these modules imported: it runs a module, a script or code as ``__main__``
and ends as an interpreter does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import threading
import types
from pathlib import Path
from typing import Any

OTHERS = (
    *("hydra", "hydra._internal.core_plugins.basic_launcher", "lightning", "matplotlib.figure"),
    *("numpy", "omegaconf", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin"),
    *("PIL.WebPImagePlugin", "pyarrow", "safetensors.torch", "scipy.io", "scipy.linalg"),
    *("sklearn.datasets", "sklearn.linear_model", "sklearn.manifold", "sklearn.neural_network"),
    *("sklearn.svm", "torch.utils.serialization"),
    *("hydra_plugins.hydra_joblib_launcher", "hydra_plugins.hydra_optuna_sweeper.config"),
)
"""What the package imports when it is needed.

W&B is not among them: it creates a temporary folder when it is imported, which the first child to
end would remove for all of them.
"""


def preload() -> None:
    """Import the package, except for the commands themselves and the web app, and its libraries."""
    import bigr

    for name in OTHERS:
        try:
            importlib.import_module(name)
        except ImportError:  # an extra that is not installed
            continue
    for module in pkgutil.walk_packages(bigr.__path__, "bigr."):
        is_command = not module.ispkg and module.name.count(".") == 1 and has_main(module.name)
        if not is_command and not module.name.startswith("bigr.app"):
            importlib.import_module(module.name)
    compose()
    # The hub's client reads the environment variables of its process when it is imported, and other
    # libraries may have imported it here.
    for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
        del sys.modules[name]
    if threading.active_count() > 1 or len(list(Path("/proc/self/task").iterdir())) > 1:
        sys.exit("an import has started a thread: a process with threads must not be forked")
    gc.collect()
    gc.freeze()


def compose() -> None:
    """Compose a configuration, so that Hydra has its parsers and plugins ready."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from bigr.cli.configuration import config_dir, register_resolvers

    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        hydra.compose("train", ["experiment=digits_generator", "trainer.max_steps=[1,2.5,null,a]"])
    GlobalHydra.instance().clear()


def has_main(name: str) -> bool:
    """Whether a module ends in ``if __name__ == "__main__"``."""
    spec = importlib.util.find_spec(name)
    return spec is not None and "__main__" in Path(str(spec.origin)).read_text()


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork for every request; return the request in the child that has to run it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    while True:
        _, descriptors, *_ = socket.recv_fds(control, 1, 3)
        if not descriptors:
            sys.exit()  # pytest has ended
        if not os.fork():
            break
        for descriptor in descriptors:
            os.close(descriptor)
    control.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run with nohup
    connection, output, error = descriptors
    with socket.socket(fileno=connection) as answer:
        with answer.makefile("r") as lines:
            request = json.loads(lines.readline())
        # This process waits for the one that runs the command, and tells pytest how it ended.
        child = os.fork()
        if child:
            answer.sendall(f"{child}\n".encode())
            os.close(output)
            os.close(error)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            answer.sendall(f"{status}\n".encode())
            os._exit(0)
    for source, target in ((output, 1), (error, 2)):
        os.dup2(source, target)
        os.close(source)
    return dict(request)


def become(request: dict[str, Any], own_path: list[str]) -> None:
    """Be the interpreter that the request asks for."""
    import numpy as np

    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [request["cwd"], *given, *own_path]
    importlib.invalidate_caches()
    # The hub's library reads its variables when it is imported, and another one may import it.
    for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
        del sys.modules[name]
    np.random.seed()
    kind, *rest = request["arguments"]
    if kind == "-m":
        sys.argv = ["-m", *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = [kind, *rest]
        sys.path[0] = str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


class Ending:
    """Ends the process as the last function of atexit.

    An interpreter would tear down all modules, which copies hundreds of megabytes of memory.
    """

    def __init__(self) -> None:
        self.code = 0

    def __call__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        if self.code == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(self.code)


def main() -> None:
    """Import everything, fork for each request, and run it in the child."""
    ending = Ending()
    atexit.register(ending)  # before those of the imported modules, which run before it
    given = os.environ["PYTHONPATH"].split(os.pathsep)
    own_path = [entry for entry in sys.path[1:] if entry not in given]
    control = socket.socket(fileno=int(sys.argv[1]))
    preload()
    request = serve(control)
    try:
        become(request, own_path)
    except SystemExit as stop:
        ending.code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise
    except KeyboardInterrupt:
        ending.code = -signal.SIGINT
        raise
    except BaseException:
        ending.code = 1
        raise


if __name__ == "__main__":
    main()
