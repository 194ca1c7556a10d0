use std::{
    fs::File,
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

use super::Level;

const STEP: Duration = Duration::from_millis(20);

pub(super) fn main(mut file: File, lines_per_s: u32, line: &str, level: &Level) -> io::Result<()> {
    let line = format!("{}\n", line.replace('\n', " "));
    let mut owed = 0.0;
    let mut last = Instant::now();
    loop {
        thread::sleep(STEP);
        let now = Instant::now();
        owed += now.duration_since(last).as_secs_f64() * f64::from(lines_per_s) * level.get();
        last = now;
        if owed >= 1.0 {
            // In one write, so that lines of the cell's own stay whole.
            file.write_all(line.repeat(owed as usize).as_bytes())?;
            owed = owed.fract();
        }
    }
}
