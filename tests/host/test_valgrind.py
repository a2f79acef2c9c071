# SPDX-License-Identifier: GPL-2.0-only
"""valgrind: no invalid or uninitialised memory, no leak, in the command and in a
program that uses the library, with each native tracker."""

import ctypes
import os
import re
import socket
import struct
import subprocess
import threading

import pytest
from hostlib import HERE, NATIVE, OOH, TOP, USE_LIB, compile_c, need

VALGRIND = ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible",
            "--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=99"]


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The environment in which valgrind knows the system calls it lacks: see valgrind_shim.c."""
    d = tmp_path_factory.mktemp("shim")
    lib = compile_c(d / "shim.so", HERE / "valgrind_shim.c", flags=["-shared", "-fPIC", "-ldl"])
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(d / "socket"))
    listener.listen()
    libc = ctypes.CDLL(None, use_errno=True)

    def call(nr, *args):
        fd = libc.syscall(ctypes.c_long(nr), *map(ctypes.c_long, args))
        return fd, ctypes.get_errno()

    def answer(nr, a, b):
        if nr != 438:
            return call(nr, a, 0)
        pidfd, errno = call(434, a, 0)
        if pidfd < 0:
            return pidfd, errno
        try:
            return call(nr, pidfd, b, 0)
        finally:
            os.close(pidfd)

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                fd, errno = answer(*struct.unpack("lll", client.recv(24)))
                if fd < 0:
                    client.send(struct.pack("l", errno))
                else:
                    socket.send_fds(client, [struct.pack("l", 0)], [fd])
                    os.close(fd)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield {**os.environ, "LD_PRELOAD": str(lib), "OOH_SHIM": str(d / "socket")}
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture(scope="module")
def bin_(tmp_path_factory):
    d = tmp_path_factory.mktemp("bin")
    compile_c(d / "changers", HERE / "changers.c")
    for name in ("other", "self", "loop"):
        compile_c(d / name, TOP / f"libooh/examples/{name}.c", flags=USE_LIB)
    return d


def clean(r, status=0):
    found = re.sub(r"^--.*\n", "", r.stderr, flags=re.M)
    assert r.returncode == status and "==" not in found, f"status {r.returncode}\n{found}"
    return r.stdout


def run(env, *args):
    return subprocess.run([*VALGRIND, *map(str, args)], env=env, capture_output=True, text=True,
                          timeout=60)


def test_it_finds_what_is_planted(shim, tmp_path):
    """A leak, an uninitialised value: else a clean run says nothing."""
    for n, code in enumerate(("malloc(77);", "int *p = malloc(4); if (*p) puts(\"\"); free(p);")):
        c = tmp_path / f"{n}.c"
        c.write_text(f"#include <stdio.h>\n#include <stdlib.h>\nint main(void) {{ "
                     f"{code} return 0; }}\n")
        p = tmp_path / f"planted{n}"
        subprocess.run(["cc", "-w", "-O0", "-o", p, c], check=True)
        assert run(shim, p).returncode == 99


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("sub", [["record"], ["record", "--json"], ["verify"], ["verify", "--json"],
                                 ["top", "--batch"], ["top", "--json"]], ids=" ".join)
def test_command(shim, bin_, sub, backend):
    need(backend)
    out = clean(run(shim, OOH, *sub, "-b", backend, "-n", 3, "-i", 30, "--",
                    bin_ / "changers", "map"))
    assert backend in out


def test_command_without_a_tracker(shim):
    assert "pagemap-scan" in clean(run(shim, OOH, "backends"))
    assert "pagemap-scan" in clean(run(shim, OOH, "backends", "--json"))
    clean(run(shim, OOH, "record", "-p", "4000000"), status=3)
    # not this process, which answers the shim: it is stopped for a moment
    work = subprocess.Popen(["sleep", "60"])
    clean(run(shim, OOH, "top", "--batch", "-p", f"{work.pid},4000000"), status=3)
    work.kill()
    work.wait()
    clean(run(shim, OOH, "verify", "--", "/no/such/program"), status=127)


@pytest.mark.parametrize("backend", NATIVE)
def test_exec_and_end(shim, backend):
    need(backend)
    out = clean(run(shim, OOH, "record", "-b", backend, "-n", 100, "-i", 100, "--",
                    "sh", "-c", "sleep 3; exec sleep 3"))
    assert "executed a new program" in out


def test_examples(shim, bin_):
    need("pagemap-scan")
    work = subprocess.Popen(["sleep", "100"])
    clean(run(shim, bin_ / "other", work.pid, 2))
    loop = subprocess.Popen([*VALGRIND, bin_ / "loop", str(work.pid)], env=shim,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # it follows the process by then
    first = loop.stdout.readline()
    work.kill()
    work.wait()
    out, err = loop.communicate(timeout=60)
    assert first and "ended" in clean(subprocess.CompletedProcess([], loop.returncode, out, err))
