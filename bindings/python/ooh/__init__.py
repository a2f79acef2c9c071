# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which pages of a process were written, round by round: libooh for Python. See ooh(7)."""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Iterable, List, NamedTuple, Optional, Type

__all__ = ["Backend", "Error", "PAGE", "Range", "Round", "Stats", "Tracker", "backends", "pages",
           "version"]

PAGE = 4096

_STOPPED = 1 << 0
_ALL_DIRTY = 1 << 0
_REASON_LEN = 512

_lib = ctypes.CDLL(os.environ.get("OOH_LIBRARY", "libooh.so.0"))


class _Backend(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("usable", ctypes.c_int),
                ("reason", ctypes.c_char * _REASON_LEN)]


class _Range(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint64), ("end", ctypes.c_uint64)]


_ranges_p = ctypes.POINTER(ctypes.POINTER(_Range))

_lib.ooh_backends.argtypes = [ctypes.POINTER(_Backend), ctypes.c_int, ctypes.c_size_t]
_lib.ooh_open.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
                          ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_size_t]
_lib.ooh_collect.argtypes = [ctypes.c_void_p, ctypes.c_uint, _ranges_p,
                             ctypes.POINTER(ctypes.c_uint)]
_lib.ooh_collect.restype = ctypes.c_ssize_t
_lib.ooh_written.argtypes = _lib.ooh_unknown.argtypes = [ctypes.c_void_p, _ranges_p]
_lib.ooh_written.restype = _lib.ooh_unknown.restype = ctypes.c_ssize_t
_lib.ooh_fd.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
_lib.ooh_close.argtypes = [ctypes.c_void_p]
_lib.ooh_backend_name.argtypes = _lib.ooh_reason.argtypes = [ctypes.c_void_p]
_lib.ooh_close.restype = None
_lib.ooh_backend_name.restype = _lib.ooh_reason.restype = _lib.ooh_version.restype = ctypes.c_char_p
_lib.ooh_stats.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class Error(OSError):
    """errno is libooh's, strerror its reason in words."""


class Range(NamedTuple):
    """From the first byte to the first one after it."""

    start: int
    end: int


@dataclass(frozen=True)
class Backend:
    name: str
    usable: bool
    reason: str  # why not; if usable, how it works


@dataclass(frozen=True)
class Round:
    """Who copies the process needs the pages of both lists."""

    written: List[Range]
    unknown: List[Range]  # the tracker cannot tell whether these changed
    all_dirty: bool  # it cannot tell of any page: unknown is everything mapped
    reason: str  # why


@dataclass(frozen=True)
class Stats:
    """struct ooh_tracker_stats of <ooh.h>."""

    rounds: int
    reported: int
    all_dirty: int
    records: int
    mapped: int
    tables: int
    armed: int
    drain_ns: int
    map_ns: int
    arm_ns: int
    foreign: int
    overflows: int
    hypercalls: int
    log_records: int
    log_walks: int
    log_user: int
    notifications: int
    unknown: int


def version() -> str:
    """Of the library."""
    return bytes(_lib.ooh_version()).decode()


def pages(ranges: Iterable[Range]) -> int:
    return sum(end - start for start, end in ranges) // PAGE


def backends() -> List[Backend]:
    """In order of preference."""
    n = _lib.ooh_backends(None, 0, ctypes.sizeof(_Backend))
    vec = (_Backend * n)()
    _lib.ooh_backends(vec, n, ctypes.sizeof(_Backend))
    return [Backend(b.name.decode(), bool(b.usable), b.reason.decode()) for b in vec]


def _list(call: ctypes._NamedFuncPointer, tracker: ctypes.c_void_p) -> List[Range]:
    """A copy: libooh's own is valid until the next collect."""
    ranges = ctypes.POINTER(_Range)()
    n = call(tracker, ctypes.byref(ranges))
    return [Range(r.start, r.end) for r in ranges[:n]] if n > 0 else []


class Tracker:
    """
    Follows the memory of a process from now on; pid 0 is the calling one, backend None the best
    there is. stopped: the calling thread holds all of its threads in a ptrace stop.
    """

    def __init__(self, pid: int = 0, backend: Optional[str] = None, *,
                 stopped: bool = False) -> None:
        self._tracker = ctypes.c_void_p()
        self.pid = pid or os.getpid()
        why = ctypes.create_string_buffer(_REASON_LEN)
        rc = _lib.ooh_open(pid, None if backend is None else backend.encode(),
                           _STOPPED if stopped else 0, ctypes.byref(self._tracker), why, len(why))
        if rc:
            raise Error(-rc, why.value.decode() or os.strerror(-rc))
        self.reason = why.value.decode()
        self.backend: str = bytes(_lib.ooh_backend_name(self._tracker)).decode()

    def _open(self) -> ctypes.c_void_p:
        if not self._tracker:
            raise ValueError("the tracker is closed")
        return self._tracker

    def _fail(self, rc: int) -> Error:
        return Error(-rc, bytes(_lib.ooh_reason(self._tracker)).decode() or os.strerror(-rc))

    def collect(self, *, stopped: bool = False) -> Round:
        """Ends a round, and begins the next."""
        tracker, result = self._open(), ctypes.c_uint()
        ranges = ctypes.POINTER(_Range)()
        while True:
            rc = _lib.ooh_collect(tracker, _STOPPED if stopped else 0, ctypes.byref(ranges),
                                  ctypes.byref(result))
            if rc != -errno.EINTR:  # a signal: its handler has run, and the round goes on
                break
        if rc < 0:
            raise self._fail(rc)
        return Round(_list(_lib.ooh_written, tracker), _list(_lib.ooh_unknown, tracker),
                     bool(result.value & _ALL_DIRTY), bytes(_lib.ooh_reason(tracker)).decode())

    def fileno(self, records: int = 0) -> int:
        """A descriptor that is readable when the log holds so many records; libooh's, not to be
        closed."""
        fd: int = _lib.ooh_fd(self._open(), records)
        if fd < 0:
            raise self._fail(fd)
        return fd

    def stats(self) -> Stats:
        names = list(Stats.__dataclass_fields__)
        values = (ctypes.c_uint64 * len(names))()
        rc = _lib.ooh_stats(self._open(), values, ctypes.sizeof(values))
        if rc:
            raise self._fail(rc)
        return Stats(*values)

    def close(self) -> None:
        if self._tracker:
            _lib.ooh_close(self._tracker)
            self._tracker = ctypes.c_void_p()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_tracker", None):
            self.close()
