use std::{io, thread, time::Duration};

use super::Level;

const CHUNK_BYTES: usize = 256 << 10;

/// Between looks at the level.
const STEP: Duration = Duration::from_millis(20);

pub(super) fn main(bytes: u64, level: &Level) -> io::Result<()> {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        let wanted = (bytes as f64 * level.get()) as usize / CHUNK_BYTES;
        while held.len() < wanted {
            // Written, not only reserved: the kernel counts pages that were touched.
            held.push(vec![1; CHUNK_BYTES]);
        }
        if held.len() > wanted {
            held.truncate(wanted);
        }
        thread::sleep(STEP);
    }
}
