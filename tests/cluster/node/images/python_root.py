"""Copies the Python that runs this script, without tests and packages, into a folder that becomes an image."""

import compileall
import pathlib
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig

LEFT_OUT = ("test", "tests", "site-packages", "dist-packages", "idlelib", "tkinter", "turtledemo", "ensurepip",
            "lib2to3", "pydoc_data", "__pycache__", "config-*", "_test*", "*_test*", "_tkinter*")

root = pathlib.Path(sys.argv[1])
version = f"python{sys.version_info.major}.{sys.version_info.minor}"
target = root / "usr/local/lib" / version
standard, dynamic = (pathlib.Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
shutil.copytree(standard, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
if dynamic != standard:
    shutil.copytree(dynamic, target, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
(root / "usr/local/bin").mkdir(parents=True)
# A virtual environment has a link to the real program.
program = pathlib.Path(sys.executable).resolve()
shutil.copy(program, root / "usr/local/bin/python3")

# The shared libraries, with the loader, at the paths that the machine has.
for file in (program, *target.glob("lib-dynload/*.so")):
    for library in re.findall(r"(/\S+)", subprocess.run(["ldd", file], capture_output=True, text=True).stdout):
        copy = root / library.lstrip("/")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(pathlib.Path(library).resolve(), copy)

# The times of files in an image are all the same, so the compiled files must not depend on them.
compileall.compile_dir(target, quiet=2, stripdir=root, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
