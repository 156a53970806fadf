"""Builds the C core and its Cython door.  Everything else is in pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-std=gnu11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]
HEADERS = sorted(glob("csrc/*.h") + glob("src/ntxengine/_core/*.px[di]"))

engine = Extension(
    "ntxengine._core.engine",
    ["src/ntxengine/_core/engine.pyx", *sorted(glob("csrc/*.c"))],
    include_dirs=["csrc"],
    libraries=["uring", "xxhash"],
    depends=HEADERS,
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
)

setup(
    ext_modules=cythonize(
        [engine],
        compiler_directives={"language_level": 3, "autotestdict": False, "embedsignature": False, "auto_pickle": False},
    )
)
