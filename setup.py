"""Builds the C core and its Cython binding.  Everything else is in pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-std=gnu11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]
SOURCES, HEADERS = sorted(glob("csrc/*.c")), sorted(glob("csrc/*.h"))

core = {
    "sources": SOURCES,
    "include_dirs": ["csrc"],
    "obj_deps": {"": HEADERS},
    "cflags": FLAGS,
}


def module(name: str) -> Extension:
    """Return one module of the binding, with a copy of the core in it: the core has no globals."""
    return Extension(
        f"ntxengine._core.{name}",
        [f"src/ntxengine/_core/{name}.pyx"],
        include_dirs=["csrc"],
        libraries=["ntxcore", "uring", "xxhash", "zstd", "ssl", "crypto"],
        depends=[*SOURCES, *HEADERS, *glob("src/ntxengine/_core/*.pxd")],  # a changed core is linked anew
        extra_compile_args=FLAGS,
        extra_link_args=["-pthread"],
    )


setup(
    libraries=[("ntxcore", core)],
    ext_modules=cythonize(
        [module("kernels"), module("limiter"), module("tls"), module("device"), module("engine")],
        compiler_directives={"language_level": 3, "autotestdict": False, "embedsignature": False, "auto_pickle": False},
    ),
)
