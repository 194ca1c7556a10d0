//! Load for `bench failover`: an open loop, so that a slow answer never delays the next request, as with many
//! users who know nothing of each other. Reads and writes have connections of their own.

use std::{
    cell::RefCell,
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::{
    backend::NUMBER_HEADER,
    client::{Connection, USER_HEADER},
};

/// What a user waits before giving up.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of a write.
const BODY: &str = "x=0123456789012345678901234567890123456789012345678901234567890";

/// How many users make all these requests: enough that a tenth of them is a tenth of the traffic.
const USERS: u64 = 2_003;

/// Where reads go. Proxies tell reads from writes by path or by method.
pub(super) const READ_PATH: &str = "/read";
/// Where writes go.
pub(super) const WRITE_PATH: &str = "/write";

/// How much, for how long, and where the record goes.
#[derive(Args)]
pub(crate) struct FailoverLoadArguments {
    #[arg(long)]
    target: SocketAddr,
    /// Reads per second.
    #[arg(long)]
    reads: f64,
    /// Writes per second.
    #[arg(long)]
    writes: f64,
    /// Seconds before requests are recorded.
    #[arg(long)]
    warm_up_s: f64,
    /// Recorded seconds.
    #[arg(long)]
    seconds: f64,
    /// File for the record, a request a line.
    #[arg(long)]
    record: PathBuf,
}

/// A request and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) write: bool,
    /// On the machine's monotonic clock.
    pub(super) begun_ns: u64,
    pub(super) latency_ns: u64,
    /// 0 when there was no answer.
    pub(super) status: u16,
}

/// Nanoseconds on the machine's monotonic clock, which all processes share.
///
/// # Errors
/// When there is no such clock.
pub(super) fn monotonic_ns() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}

/// One kind of request and its connections that lie idle.
struct Stream {
    target: SocketAddr,
    write: bool,
    idle: RefCell<Vec<Connection>>,
}

/// Loads, says `begin` when the recorded time begins and `end` when the record is written.
///
/// # Errors
/// When a rate makes no sense or the record can't be written.
pub(super) async fn run(arguments: FailoverLoadArguments) -> Result<()> {
    ensure!(
        arguments.reads > 0.0 && arguments.writes > 0.0,
        "--reads and --writes must be above 0 requests per second"
    );
    let record: Rc<RefCell<Vec<Request>>> = Rc::default();
    let start = Instant::now();
    let recorded_from = monotonic_ns()? + Duration::from_secs_f64(arguments.warm_up_s).as_nanos() as u64;
    let end = start + Duration::from_secs_f64(arguments.warm_up_s + arguments.seconds);
    for (write, rate) in [(false, arguments.reads), (true, arguments.writes)] {
        let stream = Rc::new(Stream { target: arguments.target, write, idle: RefCell::default() });
        tokio::task::spawn_local(emit(stream, rate, start, end, Rc::clone(&record)));
    }
    tokio::time::sleep(Duration::from_secs_f64(arguments.warm_up_s)).await;
    println!("begin");
    // The last request has its answer or is given up by then.
    tokio::time::sleep_until(end + PATIENCE + Duration::from_millis(200)).await;
    let mut text = String::new();
    for request in record.borrow().iter().filter(|r| r.begun_ns >= recorded_from) {
        let Request { number, write, begun_ns, latency_ns, status } = request;
        writeln!(text, "{number} {} {begun_ns} {latency_ns} {status}", u8::from(*write))?;
    }
    std::fs::write(&arguments.record, text)
        .with_context(|| format!("can't write {}", arguments.record.display()))?;
    println!("end");
    Ok(())
}

/// Begins requests at `rate` per second, come what may, until `end`.
async fn emit(
    stream: Rc<Stream>,
    rate: f64,
    start: Instant,
    end: Instant,
    record: Rc<RefCell<Vec<Request>>>,
) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut begun = 0_u64;
    while Instant::now() < end {
        tick.tick().await;
        let due = (start.elapsed().as_secs_f64() * rate) as u64;
        while begun < due {
            // Writes and reads are numbered apart.
            let number = begun * 2 + u64::from(stream.write);
            begun += 1;
            let (stream, record) = (Rc::clone(&stream), Rc::clone(&record));
            tokio::task::spawn_local(async move {
                let Ok(begun_ns) = monotonic_ns() else { return };
                let before = Instant::now();
                let status = timeout(PATIENCE, stream.request(number)).await.ok().flatten().unwrap_or(0);
                let latency_ns = u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX);
                let write = stream.write;
                record.borrow_mut().push(Request { number, write, begun_ns, latency_ns, status });
            });
        }
    }
}

impl Stream {
    /// Makes one request on an idle connection, or on a new one if there is none. A failed one is not repeated.
    async fn request(&self, number: u64) -> Option<u16> {
        let idle = || self.idle.borrow_mut().pop();
        let mut connection = loop {
            match idle() {
                // As any client does: a connection that was closed meanwhile is not used.
                Some(connection) if connection.is_stale() => {}
                Some(connection) => break connection,
                None => break Connection::open(self.target).await.ok()?,
            }
        };
        let user = number % USERS;
        let headers = format!("Host: bench\r\n{NUMBER_HEADER}: {number}\r\n{USER_HEADER}: {user}\r\n");
        let text = if self.write {
            let bytes = BODY.len();
            format!("POST {WRITE_PATH} HTTP/1.1\r\n{headers}Content-Length: {bytes}\r\n\r\n{BODY}")
        } else {
            format!("GET {READ_PATH} HTTP/1.1\r\n{headers}\r\n")
        };
        let response = connection.exchange(text.as_bytes()).await.ok()?;
        if !response.close {
            self.idle.borrow_mut().push(connection);
        }
        Some(response.status)
    }
}

/// Reads a record back.
///
/// # Errors
/// When it is not one.
pub(super) fn read_record(path: &Path) -> Result<Vec<Request>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    text.lines()
        .map(|line| parse(line).with_context(|| format!("not a line of a record: {line:?}")))
        .collect()
}

fn parse(line: &str) -> Option<Request> {
    let mut fields = line.split(' ').map(str::parse::<u64>).map_while(Result::ok);
    let (number, write, begun_ns, latency_ns) =
        (fields.next()?, fields.next()? == 1, fields.next()?, fields.next()?);
    let status = u16::try_from(fields.next()?).ok()?;
    Some(Request { number, write, begun_ns, latency_ns, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_record_is_read_back() {
        let request = Request { number: 7, write: true, begun_ns: 12, latency_ns: 34, status: 200 };
        assert_eq!(parse("7 1 12 34 200"), Some(request));
        assert_eq!(parse("7 1 12 34"), None);
        assert_eq!(parse("seven 1 12 34 200"), None);
    }
}
