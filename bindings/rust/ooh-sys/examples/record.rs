// SPDX-License-Identifier: LGPL-2.1-or-later
//! record PID ROUNDS: how many pages the process wrote in each second.
use ooh_sys::*;
use std::ffi::CStr;
use std::{env, process, ptr, thread, time};

fn text(p: *const c_char) -> String {
    unsafe { CStr::from_ptr(p.cast()) }
        .to_string_lossy()
        .into_owned()
}

fn pages(n: isize, ranges: *const ooh_range) -> u64 {
    if n <= 0 {
        return 0;
    }
    let list = unsafe { std::slice::from_raw_parts(ranges, n as usize) };
    list.iter().map(|r| (r.end - r.start) / 4096).sum()
}

fn main() {
    let args: Vec<String> = env::args().collect();
    let numbers: Vec<i32> = args[1..].iter().filter_map(|a| a.parse().ok()).collect();
    if numbers.len() != 2 {
        eprintln!("usage: record PID ROUNDS");
        process::exit(2);
    }
    let mut why = [0 as c_char; OOH_REASON_LEN];
    let mut tracker = ptr::null_mut();
    let rc = unsafe {
        ooh_open(
            numbers[0],
            ptr::null(),
            0,
            &mut tracker,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    println!("{}", text(why.as_ptr()));
    if rc != 0 {
        process::exit(1);
    }
    for round in 1..=numbers[1] {
        thread::sleep(time::Duration::from_secs(1));
        let mut ranges = ptr::null();
        let mut result = 0;
        unsafe {
            if ooh_collect(tracker, 0, &mut ranges, &mut result) < 0 {
                println!("{}", text(ooh_reason(tracker)));
                break;
            }
            let written = pages(ooh_written(tracker, &mut ranges), ranges);
            let unknown = pages(ooh_unknown(tracker, &mut ranges), ranges);
            println!(
                "round {}: {} pages written, not known of {}",
                round, written, unknown
            );
        }
    }
    unsafe { ooh_close(tracker) };
}
