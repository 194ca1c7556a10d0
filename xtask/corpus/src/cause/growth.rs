//! What grows: memory and disks, by the writes of clients.

use std::{fs, io::Write, net::SocketAddr, rc::Rc};

use anyhow::{Context, Result, bail};

use super::{Driver, Step, share_of};
use crate::{
    place::Place,
    subject::{Server, upload_path},
    wire::{Http, Postgres, Redis, Reply, command},
};

/// Redis: ever new keys without expiry.
pub(super) struct Keys {
    address: SocketAddr,
    bytes: u64,
    written: u64,
    redis: Option<Redis>,
}

const KEY_VALUE_BYTES: u64 = 4_000;
/// What a key costs beside its value.
const KEY_OVERHEAD_BYTES: u64 = 220;
/// Commands that are sent before their replies are read.
const BATCH: u64 = 64;

impl Keys {
    pub(super) fn new(server: &Server, bytes: u64) -> Self {
        Self { address: server.address(), bytes, written: 0, redis: None }
    }

    async fn reach(&mut self, level: f64) -> Result<()> {
        let wanted = share_of(self.bytes, level) / (KEY_VALUE_BYTES + KEY_OVERHEAD_BYTES);
        let value = vec![b'k'; KEY_VALUE_BYTES as usize];
        let redis = connected(&mut self.redis, self.address).await?;
        while self.written != wanted {
            let more = self.written < wanted;
            let batch = self.written.abs_diff(wanted).min(BATCH);
            let mut wire = Vec::new();
            for n in 0..batch {
                let number = if more { self.written + n } else { self.written - 1 - n };
                let key = format!("filler:{number}");
                wire.extend(if more {
                    command(&[b"SET", key.as_bytes(), &value])
                } else {
                    command(&[b"UNLINK", key.as_bytes()])
                });
            }
            redis.send(&wire).await?;
            let mut refused = None;
            for _ in 0..batch {
                match redis.reply().await? {
                    Reply::Error(why) => refused = Some(why),
                    _ if more => self.written += 1,
                    _ => self.written -= 1,
                }
            }
            if let Some(why) = refused {
                bail!("{why}");
            }
        }
        Ok(())
    }
}

async fn connected(redis: &mut Option<Redis>, address: SocketAddr) -> Result<&mut Redis> {
    Ok(match redis {
        Some(redis) => redis,
        none => none.insert(Redis::open(address).await?),
    })
}

impl Driver for Keys {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(async move {
            let reached = self.reach(level).await;
            if reached.is_err() {
                // Replies may be outstanding.
                self.redis = None;
            }
            reached
        })
    }
}

/// Redis: the same key written over and over, so that only the append-only file grows.
pub(super) struct AppendLog {
    address: SocketAddr,
    bytes: u64,
    written: u64,
    redis: Option<Redis>,
}

const APPENDED_BYTES: u64 = 16 << 10;

impl AppendLog {
    pub(super) fn new(server: &Server, bytes: u64) -> Self {
        Self { address: server.address(), bytes, written: 0, redis: None }
    }

    async fn reach(&mut self, level: f64) -> Result<()> {
        let wanted = share_of(self.bytes, level);
        let redis = connected(&mut self.redis, self.address).await?;
        if wanted < self.written {
            redis.ask(&[b"BGREWRITEAOF"]).await?;
            self.written = 0;
        }
        let value = vec![b'a'; APPENDED_BYTES as usize];
        while self.written + APPENDED_BYTES <= wanted {
            if let Reply::Error(why) = redis.ask(&[b"SET", b"journal", &value]).await? {
                bail!("{why}");
            }
            self.written += APPENDED_BYTES;
        }
        Ok(())
    }
}

impl Driver for AppendLog {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(async move {
            let reached = self.reach(level).await;
            if reached.is_err() {
                self.redis = None;
            }
            reached
        })
    }
}

/// PostgreSQL: rows in a table that nobody tidies up.
pub(super) struct Rows {
    address: SocketAddr,
    bytes: u64,
    written: u64,
    postgres: Option<Postgres>,
}

/// Two of these fill a page of 8 KiB.
const ROW_BYTES: u64 = 4_096;
/// Rows of one statement.
const ROWS_AT_ONCE: u64 = 100;

impl Rows {
    pub(super) fn new(server: &Server, bytes: u64) -> Self {
        Self { address: server.address(), bytes, written: 0, postgres: None }
    }

    async fn reach(&mut self, level: f64) -> Result<()> {
        let wanted = share_of(self.bytes, level);
        let postgres = session(&mut self.postgres, self.address).await?;
        if wanted < self.written {
            postgres.run("TRUNCATE filler").await?;
            self.written = 0;
        }
        while self.written + ROW_BYTES <= wanted {
            let rows = ((wanted - self.written) / ROW_BYTES).min(ROWS_AT_ONCE);
            postgres
                .run(&format!(
                    "INSERT INTO filler (body) SELECT repeat('r', 3900) FROM generate_series(1, {rows})"
                ))
                .await?;
            self.written += rows * ROW_BYTES;
        }
        Ok(())
    }
}

async fn session(postgres: &mut Option<Postgres>, address: SocketAddr) -> Result<&mut Postgres> {
    Ok(match postgres {
        Some(postgres) => postgres,
        none => none.insert(Postgres::open(address, "cause").await?),
    })
}

impl Driver for Rows {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(async move {
            let reached = self.reach(level).await;
            if reached.is_err() {
                self.postgres = None;
            }
            reached
        })
    }
}

/// PostgreSQL: a session that gathers settings of its own, as one of a connection pool does that is never renewed.
pub(super) struct SessionState {
    address: SocketAddr,
    bytes: u64,
    held: u64,
    postgres: Option<Postgres>,
}

const SETTING_BYTES: u64 = 500_000;

impl SessionState {
    pub(super) fn new(server: &Server, bytes: u64) -> Self {
        Self { address: server.address(), bytes, held: 0, postgres: None }
    }

    async fn reach(&mut self, level: f64) -> Result<()> {
        let wanted = share_of(self.bytes, level) / SETTING_BYTES;
        let postgres = session(&mut self.postgres, self.address).await?;
        while self.held != wanted {
            let more = self.held < wanted;
            let (number, size) = if more { (self.held, SETTING_BYTES) } else { (self.held - 1, 0) };
            postgres
                .run(&format!("SELECT length(set_config('state.v{number}', repeat('s', {size}), false))"))
                .await?;
            self.held = if more { self.held + 1 } else { self.held - 1 };
        }
        Ok(())
    }
}

impl Driver for SessionState {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(async move {
            let reached = self.reach(level).await;
            if reached.is_err() {
                // With the session goes what it held; the next one gathers anew.
                (self.postgres, self.held) = (None, 0);
            }
            reached
        })
    }
}

/// nginx: files that clients put there.
pub(super) struct Uploads {
    address: SocketAddr,
    bytes: u64,
    files: u64,
}

const UPLOAD_BYTES: u64 = 64 << 10;

impl Uploads {
    pub(super) fn new(server: &Server, bytes: u64) -> Self {
        Self { address: server.address(), bytes, files: 0 }
    }

    async fn reach(&mut self, level: f64) -> Result<()> {
        let wanted = share_of(self.bytes, level) / UPLOAD_BYTES;
        if self.files == wanted {
            return Ok(());
        }
        let mut http = Http::open(self.address).await?;
        while self.files != wanted {
            let more = self.files < wanted;
            let number = if more { self.files } else { self.files - 1 };
            send(&mut http, number, more.then_some(UPLOAD_BYTES)).await?;
            self.files = if more { self.files + 1 } else { self.files - 1 };
        }
        Ok(())
    }
}

/// Puts a file of this size there, or deletes it.
async fn send(http: &mut Http, number: u64, size: Option<u64>) -> Result<()> {
    let path = upload_path(u32::try_from(number)?);
    let request = match size {
        Some(size) => {
            let head = format!("PUT {path} HTTP/1.1\r\nhost: corpus\r\ncontent-length: {size}\r\n\r\n");
            [head.as_bytes(), &vec![b'u'; size as usize]].concat()
        }
        None => format!("DELETE {path} HTTP/1.1\r\nhost: corpus\r\n\r\n").into_bytes(),
    };
    let status = http.call(&request).await?.status;
    if !(200..300).contains(&status) {
        bail!("nginx answered {status} to {path}");
    }
    Ok(())
}

impl Driver for Uploads {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(self.reach(level))
    }
}

/// A block of the file system.
const BLOCK_BYTES: usize = 4 << 10;

/// Another program's log on the same disk.
pub(super) struct ForeignLog {
    place: Rc<Place>,
    bytes: u64,
}

impl ForeignLog {
    pub(super) fn new(place: Rc<Place>, bytes: u64) -> Self {
        Self { place, bytes }
    }

    fn reach(&self, level: f64) -> Result<()> {
        let wanted = share_of(self.bytes, level);
        let path = self.place.data.join("other.log");
        let mut file = fs::File::options().create(true).append(true).open(&path)?;
        let there = file.metadata()?.len();
        if wanted < there {
            file.set_len(wanted)?;
        } else {
            let lines = vec![b'l'; usize::try_from(wanted - there)?];
            if let Err(why) = file.write_all(&lines) {
                // Whole pages do not fit any more; single blocks may.
                while file.write_all(&lines[..lines.len().min(BLOCK_BYTES)]).is_ok() {}
                return Err(why).context("the other program's log");
            }
        }
        Ok(())
    }
}

impl Driver for ForeignLog {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(async move { self.reach(level) })
    }
}
