"""Compiles the C++ files beside this module at first use, keeps the library for the next process, and loads it.

``RLSCAPE_KERNELS`` decides: ``compiled``, ``torch``, or ``auto`` (the default), which is compiled where there is a
compiler. Both compute the same up to the order of sums, so a run records which one it used.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Literal

from rlscape.errors import KernelError
from rlscape.files import atomic

log = logging.getLogger(__name__)

Kernels = Literal["compiled", "torch"]
SWITCH = "RLSCAPE_KERNELS"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = (
    *("-std=c++17", "-O3", "-fopenmp-simd", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC"),
    "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native",
)
SIGNATURES = {
    "rms_norm": "nnppfpp",
    "rms_norm_gradient": "nnpppppp",
    "perceptron": "nnnppppp",
    "perceptron_gradient": "nnnpppppppp",
    "norm_rotate": "nnnpnpppfpp",
    "norm_rotate_gradient": "nnnpnppppppp",
    "attention": "npnnnnpnppnppp",
    "attention_gradient": "npnnnnpnpnpppppppnpnpn",
    "decode": "pnpppp",
    "copy_slots": "pnppn",
    "panel": "",
    "lanes": "",
    "floats_of_page": "n",
}
"""Arguments of every function: numbers n (64 bits), fractions f (32 bits) and pointers p. What returns is an n."""
TYPES = {"n": ctypes.c_int64, "f": ctypes.c_float, "p": ctypes.c_void_p}


def kernels_in_use(device: str = "cpu") -> Kernels:
    """Which of both this process computes with on a device."""
    return "torch" if device != "cpu" or library() is None else "compiled"


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where torch is used instead.

    Raises:
        KernelError: ``RLSCAPE_KERNELS`` has no such value, or asks for what cannot be compiled.
    """
    wanted = os.environ.get(SWITCH, "auto")
    match wanted:
        case "torch":
            return None
        case "auto" | "compiled":
            try:
                return _load(compiled_file())
            except (KernelError, OSError, RuntimeError) as error:
                if wanted == "compiled":
                    raise KernelError(f"{SWITCH}=compiled: {error}") from None
                log.warning("the engine's kernels are not compiled, torch is used instead: %s", error)
                return None
        case _:
            raise KernelError(f"{SWITCH}={wanted}: use auto, compiled or torch")


def _load(file: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(file))
    for name, letters in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes = [TYPES[letter] for letter in letters]
        function.restype = ctypes.c_int64
    return loaded


def compiled_file() -> Path:
    """The shared library for this machine, made if there is none yet.

    Raises:
        KernelError: there is no compiler, or it fails.
    """
    sources = sorted(Path(__file__).parent.glob("*.cpp"))
    headers = sorted(Path(__file__).parent.glob("*.h"))
    digest = hashlib.sha256(" ".join((os.environ.get("CXX", ""), *FLAGS, _processor())).encode())
    for source in (*headers, *sources):
        digest.update(source.read_bytes())
    file = _cache_directory() / f"kernels-{digest.hexdigest()[:16]}.so"
    if not file.exists():
        compiler = _compiler()
        with atomic(file) as temporary:
            command = [*compiler, *FLAGS, "-o", str(temporary), *map(str, sources)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise KernelError(f"{shlex.join(command)} failed:\n{done.stderr.strip()}")
    return file


def _compiler() -> list[str]:
    if given := os.environ.get("CXX"):
        return shlex.split(given)
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise KernelError(f"no C++ compiler ({', '.join(COMPILERS)}): install one, or name it in CXX")


def _cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlscape"


def _processor() -> str:
    """What ``-march=native`` depends on: a cache may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    print(f"kernels: {kernels_in_use()}")
