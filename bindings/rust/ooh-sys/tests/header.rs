// SPDX-License-Identifier: LGPL-2.1-or-later
//! Sizes and places are those that the library has.
use ooh_sys::*;
use std::mem::size_of;
use std::ptr;

#[test]
fn the_library_takes_structs_of_these_sizes() {
    assert_eq!(size_of::<ooh_backend>(), 528);
    assert_eq!(size_of::<ooh_range>(), 16);
    assert_eq!(size_of::<ooh_tracker_stats>(), 18 * 8);
    let n = unsafe { ooh_backends(ptr::null_mut(), 0, size_of::<ooh_backend>()) };
    assert!(n > 0);
}

#[test]
fn a_page_of_its_own_is_reported() {
    let mut tracker = ptr::null_mut();
    let mut why = [0 as c_char; OOH_REASON_LEN];
    let backend = b"pagemap-scan\0".as_ptr().cast();
    if unsafe { ooh_open(0, backend, 0, &mut tracker, why.as_mut_ptr(), why.len()) } != 0 {
        return; /* tests/host/test_rust.py has looked whether it is usable */
    }
    let mut area = vec![1u8; 16 * 4096];
    let mut ranges = ptr::null();
    let mut result = 0;
    unsafe {
        assert!(ooh_collect(tracker, 0, &mut ranges, &mut result) >= 0);
        ptr::write_volatile(area.as_mut_ptr().add(8 * 4096), 2);
        assert!(ooh_collect(tracker, 0, &mut ranges, &mut result) > 0);
        let n = ooh_written(tracker, &mut ranges);
        let at = area.as_ptr().add(8 * 4096) as u64;
        let list = std::slice::from_raw_parts(ranges, n as usize);
        assert!(list.iter().any(|r| r.start <= at && at < r.end));
        let mut stats = ooh_tracker_stats::default();
        assert_eq!(
            ooh_stats(tracker, &mut stats, size_of::<ooh_tracker_stats>()),
            0
        );
        assert_eq!(stats.rounds, 2);
        ooh_close(tracker);
    }
}
