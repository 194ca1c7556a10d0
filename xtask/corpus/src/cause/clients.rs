//! Clients that behave badly, or do much: connections not given back, locks held, jobs, backups.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use anyhow::Result;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    process::Child,
    task::{AbortHandle, spawn_local},
    time::{Instant, sleep},
};

use super::{Driver, Step, share_of};
use crate::{
    launch,
    spec::Subject,
    subject::{Server, Workload},
    wire::{Link, Postgres, Redis},
};

/// Connections that are opened and not given back.
pub(super) struct Connections {
    server: Rc<Server>,
    count: u32,
    held: Vec<Held>,
}

/// What is held open.
#[expect(dead_code, reason = "held so that it stays open")]
enum Held {
    Stream(TcpStream),
    Redis(Redis),
    Postgres(Postgres),
}

impl Connections {
    pub(super) fn new(server: Rc<Server>, count: u32) -> Self {
        Self { server, count, held: Vec::new() }
    }

    async fn open(&self) -> Result<Held> {
        let address = self.server.address();
        Ok(match self.server.subject {
            Subject::Nginx | Subject::Shop => {
                let mut stream = TcpStream::connect(address).await?;
                // Idle connections nginx would close when it needs them; one in the middle of a request it keeps.
                stream.write_all(b"GET /page/1.html HTTP/1.1\r\nhost: corpus\r\n").await?;
                Held::Stream(stream)
            }
            Subject::Redis => {
                let mut redis = Redis::open(address).await?;
                redis.ask(&[b"PING"]).await?;
                Held::Redis(redis)
            }
            Subject::Postgres => {
                let mut postgres = Postgres::open(address, "hoard").await?;
                postgres.run("BEGIN").await?;
                postgres.run("SELECT 1").await?;
                Held::Postgres(postgres)
            }
        })
    }

    async fn reach(&mut self, level: f64) -> Result<()> {
        let wanted = share_of(u64::from(self.count), level) as usize;
        self.held.truncate(wanted);
        while self.held.len() < wanted {
            let held = self.open().await?;
            self.held.push(held);
        }
        Ok(())
    }
}

impl Driver for Connections {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(self.reach(level))
    }
}

/// Processes of jobs that hang, in the server's control group.
pub(super) struct HungJobs {
    server: Rc<Server>,
    count: u32,
    jobs: Vec<Child>,
}

impl HungJobs {
    pub(super) fn new(server: Rc<Server>, count: u32) -> Self {
        Self { server, count, jobs: Vec::new() }
    }

    fn reach(&mut self, level: f64) -> Result<()> {
        let wanted = share_of(u64::from(self.count), level) as usize;
        self.jobs.truncate(wanted);
        while self.jobs.len() < wanted {
            let job = ["sleep".to_owned(), "600".to_owned()];
            self.jobs.push(launch::start(&self.server.place, 64, true, &job)?);
        }
        Ok(())
    }
}

impl Driver for HungJobs {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(async move { self.reach(level) })
    }
}

/// A task that goes on beside the levels and ends with its driver.
struct Beside(AbortHandle);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// PostgreSQL: somebody locks the rows that users want, ever longer at a time.
pub(super) struct LockHold {
    ms: f64,
    now_ms: Rc<Cell<f64>>,
    _task: Beside,
}

impl LockHold {
    pub(super) fn new(server: &Server, ms: f64) -> Self {
        let now_ms = Rc::new(Cell::new(0.0));
        let task = spawn_local(hold_locks(server.address(), now_ms.clone()));
        Self { ms, now_ms, _task: Beside(task.abort_handle()) }
    }
}

impl Driver for LockHold {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        self.now_ms.set(self.ms * level);
        Box::pin(async { Ok(()) })
    }
}

async fn hold_locks(address: SocketAddr, ms: Rc<Cell<f64>>) {
    let mut postgres = None;
    loop {
        let hold = Duration::from_secs_f64(ms.get() / 1e3);
        if hold < Duration::from_millis(1) {
            sleep(Duration::from_millis(50)).await;
            continue;
        }
        let tried = async {
            let open = match &mut postgres {
                Some(open) => open,
                none => none.insert(Postgres::open(address, "locker").await?),
            };
            open.run("BEGIN").await?;
            open.run("SELECT n FROM hot ORDER BY id FOR UPDATE").await?;
            sleep(hold).await;
            open.run("COMMIT").await
        };
        if tried.await.is_err() {
            postgres = None;
        }
        // Users get their turn, but ever less of the time is theirs.
        sleep(hold.mul_f64(0.4) + Duration::from_millis(40)).await;
    }
}

/// One client at a time that asks for costly things.
pub(super) struct Job {
    server: Rc<Server>,
    busy: f64,
    task: Option<Beside>,
}

impl Job {
    pub(super) fn new(server: Rc<Server>, busy: f64) -> Self {
        Self { server, busy, task: None }
    }
}

impl Driver for Job {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        if level == 0.0 {
            self.task = None;
        } else if self.task.is_none() {
            let job = work(self.server.clone(), self.busy, |workload| workload.draw(true, false));
            self.task = Some(Beside(spawn_local(job).abort_handle()));
        }
        Box::pin(async { Ok(()) })
    }
}

/// Asks again and again, and rests in between so that it is busy for `busy` of the time.
async fn work(server: Rc<Server>, busy: f64, mut draw: impl FnMut(&mut Workload) -> Vec<u8>) {
    let mut workload = Workload::new(server.subject, 3);
    loop {
        let Ok(mut link) = Link::open(server.protocol(), server.address()).await else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        loop {
            let begun = Instant::now();
            let request = draw(&mut workload);
            if link.call(&request).await.is_err() || !link.is_open() {
                break;
            }
            sleep(begun.elapsed().mul_f64((1.0 - busy) / busy)).await;
        }
    }
}

/// PostgreSQL: everything is read out, over and over; Redis: a snapshot at each start.
pub(super) struct Backup {
    server: Rc<Server>,
    task: Option<Beside>,
}

impl Backup {
    pub(super) fn new(server: Rc<Server>) -> Self {
        Self { server, task: None }
    }
}

impl Driver for Backup {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        if level == 0.0 {
            self.task = None;
        } else if self.task.is_none() {
            let handle = match self.server.subject {
                Subject::Postgres => {
                    let dump = |_: &mut Workload| b"COPY (SELECT * FROM item LIMIT 2000) TO STDOUT".to_vec();
                    spawn_local(work(self.server.clone(), 0.3, dump)).abort_handle()
                }
                Subject::Nginx | Subject::Redis | Subject::Shop => {
                    spawn_local(snapshot(self.server.address())).abort_handle()
                }
            };
            self.task = Some(Beside(handle));
        }
        Box::pin(async { Ok(()) })
    }
}

async fn snapshot(address: SocketAddr) {
    if let Ok(mut redis) = Redis::open(address).await {
        // It may be busy with the one before, and says so.
        let _ = redis.ask(&[b"BGSAVE"]).await;
    }
}
