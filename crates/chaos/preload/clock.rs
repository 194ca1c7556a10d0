//! Stands before the C library's clock functions and adds an offset to the time of day. Compiled on its own into a shared
//! library by the build script: it goes into other people's programs, so it has no runtime, allocates nothing and never panics.
//!
//! The offset is a native 64-bit number of milliseconds at the start of the file that `FOREFEND_CLOCK` names.
#![no_std]

use core::{
    ffi::{c_char, c_int, c_long, c_void},
    ptr,
    sync::atomic::{AtomicI64, AtomicPtr, Ordering},
};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[repr(C)]
pub struct Timespec {
    sec: i64,
    nsec: i64,
}

#[repr(C)]
pub struct Timeval {
    sec: i64,
    usec: i64,
}

#[link(name = "c")]
unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
}

#[cfg(target_arch = "x86_64")]
const SYS_CLOCK_GETTIME: c_long = 228;
#[cfg(target_arch = "aarch64")]
const SYS_CLOCK_GETTIME: c_long = 113;

const REALTIME: c_int = 0;
const REALTIME_COARSE: c_int = 5;

static NOTHING: AtomicI64 = AtomicI64::new(0);
static OFFSET: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());

fn offset_ms() -> i64 {
    let mut at = OFFSET.load(Ordering::Acquire);
    if at.is_null() {
        at = map().unwrap_or(ptr::from_ref(&NOTHING).cast_mut());
        OFFSET.store(at, Ordering::Release);
    }
    // SAFETY: either our static or a page that stays mapped for good and is at least eight bytes long.
    unsafe { (*at).load(Ordering::Relaxed) }
}

fn map() -> Option<*mut AtomicI64> {
    // SAFETY: plain calls of the C library with valid strings; each result is checked.
    unsafe {
        let path = getenv(c"FOREFEND_CLOCK".as_ptr());
        if path.is_null() {
            return None;
        }
        let fd = open(path, 0);
        if fd < 0 {
            return None;
        }
        let page = mmap(ptr::null_mut(), 8, 1, 1, fd, 0);
        close(fd);
        if page as isize == -1 { None } else { Some(page.cast()) }
    }
}

fn now(clock: c_int, into: *mut Timespec) -> c_int {
    // SAFETY: the caller gave the place for the answer, as it does to the C library.
    let result = unsafe { syscall(SYS_CLOCK_GETTIME, clock, into) };
    if result != 0 || !(clock == REALTIME || clock == REALTIME_COARSE) || into.is_null() {
        return result as c_int;
    }
    let ms = offset_ms();
    // SAFETY: not null, and the kernel has just written it.
    let time = unsafe { &mut *into };
    time.sec += ms / 1000;
    time.nsec += (ms % 1000) * 1_000_000;
    if time.nsec >= 1_000_000_000 {
        time.sec += 1;
        time.nsec -= 1_000_000_000;
    } else if time.nsec < 0 {
        time.sec -= 1;
        time.nsec += 1_000_000_000;
    }
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn clock_gettime(clock: c_int, into: *mut Timespec) -> c_int {
    now(clock, into)
}

#[unsafe(no_mangle)]
pub extern "C" fn gettimeofday(into: *mut Timeval, _zone: *mut c_void) -> c_int {
    if into.is_null() {
        return 0;
    }
    let mut time = Timespec { sec: 0, nsec: 0 };
    let result = now(REALTIME, &mut time);
    // SAFETY: not null; the caller gave the place for the answer.
    unsafe { *into = Timeval { sec: time.sec, usec: time.nsec / 1000 } };
    result
}

#[unsafe(no_mangle)]
pub extern "C" fn time(into: *mut i64) -> i64 {
    let mut time = Timespec { sec: 0, nsec: 0 };
    now(REALTIME, &mut time);
    if !into.is_null() {
        // SAFETY: not null; the caller gave the place for the answer.
        unsafe { *into = time.sec };
    }
    time.sec
}
