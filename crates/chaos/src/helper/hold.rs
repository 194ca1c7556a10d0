use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Level;

const STEP: Duration = Duration::from_millis(20);

/// So many are opened between two looks at the level, so that a fall of the level is noticed.
const AT_ONCE: usize = 100;

/// A full backlog must not hold the others up.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

pub(super) fn main(address: SocketAddr, connections: u32, level: &Level) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let mut held: Vec<TcpStream> = Vec::new();
    loop {
        let wanted = (f64::from(connections) * level.get()).round() as usize;
        held.retain(is_open);
        held.truncate(wanted);
        for _ in held.len()..wanted.min(held.len() + AT_ONCE) {
            // Refused or timed out: it is full, which is what was wanted; tried again at the next step.
            let Ok(stream) = TcpStream::connect_timeout(&address, CONNECT_WITHIN) else { break };
            stream.set_nonblocking(true)?;
            held.push(stream);
        }
        thread::sleep(STEP);
    }
}

fn is_open(stream: &TcpStream) -> bool {
    // Whatever it is sent (a greeting, an error page) is left unread, but the end of it counts.
    match stream.peek(&mut [0]) {
        Ok(read) => read > 0,
        Err(e) => e.kind() == ErrorKind::WouldBlock,
    }
}
