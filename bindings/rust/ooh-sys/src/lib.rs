// SPDX-License-Identifier: LGPL-2.1-or-later
//! The functions of libooh, as `<ooh.h>` declares them; the manual is ooh(7), and a page for each call.
//! Calls return 0 or a count, or a negated errno. A tracker is used by one thread at a time.
#![no_std]
#![allow(non_camel_case_types)]

use core::ffi::c_void;

pub type c_int = i32;
pub type c_uint = u32;
pub type c_char = i8;
pub type pid_t = i32;

pub const OOH_REASON_LEN: usize = 512;

/// In: the calling thread holds all threads of the process in a ptrace stop.
pub const OOH_STOPPED: c_uint = 1 << 0;
/// Out: everything mapped is given out; `ooh_reason` says why.
pub const OOH_ALL_DIRTY: c_uint = 1 << 0;

#[repr(C)]
pub struct ooh_tracker {
    _private: [u8; 0],
    _not_shared: core::marker::PhantomData<*mut c_void>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ooh_backend {
    pub name: *const c_char,
    pub usable: c_int,
    pub reason: [c_char; OOH_REASON_LEN],
}

/// From the first byte to the first one after it
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ooh_range {
    pub start: u64,
    pub end: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ooh_tracker_stats {
    pub rounds: u64,
    pub reported: u64,
    pub all_dirty: u64,
    pub records: u64,
    pub mapped: u64,
    pub tables: u64,
    pub armed: u64,
    pub drain_ns: u64,
    pub map_ns: u64,
    pub arm_ns: u64,
    pub foreign: u64,
    pub overflows: u64,
    pub hypercalls: u64,
    pub log_records: u64,
    pub log_walks: u64,
    pub log_user: u64,
    pub notifications: u64,
    pub unknown: u64,
}

extern "C" {
    pub fn ooh_backends(vec: *mut ooh_backend, len: c_int, size: usize) -> c_int;
    pub fn ooh_open(
        pid: pid_t,
        backend: *const c_char,
        flags: c_uint,
        tracker: *mut *mut ooh_tracker,
        reason: *mut c_char,
        size: usize,
    ) -> c_int;
    pub fn ooh_collect(
        tracker: *mut ooh_tracker,
        flags: c_uint,
        ranges: *mut *const ooh_range,
        result: *mut c_uint,
    ) -> isize;
    pub fn ooh_written(tracker: *const ooh_tracker, ranges: *mut *const ooh_range) -> isize;
    pub fn ooh_unknown(tracker: *const ooh_tracker, ranges: *mut *const ooh_range) -> isize;
    pub fn ooh_fd(tracker: *mut ooh_tracker, records: u64) -> c_int;
    pub fn ooh_close(tracker: *mut ooh_tracker);
    pub fn ooh_backend_name(tracker: *const ooh_tracker) -> *const c_char;
    pub fn ooh_reason(tracker: *const ooh_tracker) -> *const c_char;
    pub fn ooh_stats(
        tracker: *mut ooh_tracker,
        stats: *mut ooh_tracker_stats,
        size: usize,
    ) -> c_int;
    pub fn ooh_version() -> *const c_char;
}
