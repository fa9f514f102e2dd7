"""Compiles the C++ files beside this module at first use, keeps the library for the next process, and loads it.

``RLSCAPE_KERNELS`` decides: ``compiled``, ``torch``, or ``auto`` (the default), which is compiled where there is a
compiler (the one that ``CXX`` names, or the first of :data:`COMPILERS`). All compute the same up to the order of sums,
so a run records what it used. Libraries are kept in ``$XDG_CACHE_HOME/rlscape``, by default ``~/.cache/rlscape``.
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
from tempfile import TemporaryDirectory

from rlscape.errors import KernelError, fail_clearly

log = logging.getLogger(__name__)

SWITCH = "RLSCAPE_KERNELS"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = (
    *("-std=c++17", "-O3", "-fopenmp-simd", "-fno-fast-math", "-fno-math-errno", "-ffp-contract=fast"),
    *("-shared", "-fPIC"),
)
PROCESSOR_FLAG = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
GCC_FLAG = "--param=avoid-fma-max-bits=0"
"""Tuned for some x86 processors, GCC multiplies and adds in two steps where a sum is alone and in one where there are
several, so that a row's result would depend on its batch."""
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


def kernels_in_use(device: str) -> str:
    """What this process computes with on a device: ``torch``, or ``compiled-`` and a digest of the library."""
    if device != "cpu" or library() is None:
        return "torch"
    return f"compiled-{hashlib.sha256(compiled_file().read_bytes()).hexdigest()[:12]}"


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
            except (KernelError, OSError) as error:
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
    digest = hashlib.sha256(
        " ".join((os.environ.get("CXX", ""), *FLAGS, PROCESSOR_FLAG, GCC_FLAG, _processor())).encode()
    )
    for source in (*headers, *sources):
        digest.update(source.read_bytes())
    directory = _cache_directory()
    file = directory / f"kernels-{digest.hexdigest()[:16]}.so"
    if not file.exists():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # A directory of its own: processes of several machines may share the cache.
            with TemporaryDirectory(dir=directory) as scratch:
                os.replace(_compile(sources, Path(scratch) / file.name), file)
        except OSError as error:
            raise KernelError(f"{directory}: {error}; set XDG_CACHE_HOME to a directory that can be written") from None
    return file


def _compile(sources: list[Path], output: Path) -> Path:
    compiler = _compiler()
    command = [*compiler, *FLAGS, PROCESSOR_FLAG, "-o", str(output), *map(str, sources)]
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout
    if "Free Software Foundation" in version and platform.machine() == "x86_64":
        command.append(GCC_FLAG)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise KernelError(f"{shlex.join(command)} failed:\n{done.stderr.strip()}")
    return output


def _compiler() -> list[str]:
    if given := os.environ.get("CXX", "").strip():
        try:
            words = shlex.split(given)
        except ValueError as error:
            raise KernelError(f"CXX={given}: {error}") from None
        if not shutil.which(words[0]):
            raise KernelError(f"CXX={given}: there is no {words[0]}")
        return words
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise KernelError(f"no C++ compiler ({', '.join(COMPILERS)}): install one, or name it in CXX")


def _cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "rlscape"


def _processor() -> str:
    """What ``-march=native`` depends on: a cache may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    fail_clearly(lambda: print(f"kernels: {kernels_in_use('cpu')}"))
