use std::{
    hint::black_box,
    io, thread,
    time::{Duration, Instant},
};

use super::Level;

/// Of this, the level's share is worked and the rest slept: short, so that the load looks even to who samples it.
const PERIOD: Duration = Duration::from_millis(10);

/// Also walked over by each worker, so that caches and memory bandwidth are shared too.
const WALKED_BYTES: usize = 4 << 20;

pub(super) fn main(workers: u32, level: &Level) -> io::Result<()> {
    for _ in 1..workers {
        let level = level.clone();
        thread::Builder::new().spawn(move || work(&level))?;
    }
    work(level)
}

fn work(level: &Level) -> ! {
    let mut walked = vec![1u8; WALKED_BYTES];
    loop {
        let begun = Instant::now();
        let busy = PERIOD.mul_f64(level.get());
        while begun.elapsed() < busy {
            for byte in walked.iter_mut().step_by(64).take(4_096) {
                *byte = black_box(byte.wrapping_mul(31));
            }
        }
        thread::sleep(PERIOD.saturating_sub(begun.elapsed()));
    }
}
