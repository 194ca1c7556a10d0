//! Redis: a shop's items and carts.

use std::{fs, net::SocketAddr};

use anyhow::{Result, bail};

use super::Server;
use crate::{
    place::USER,
    spec::{EpisodeSpec, Kind},
    wire::{Redis, Reply, command as wire},
};

/// Items that users ask for.
pub(crate) const ITEMS: u32 = 2_000;

pub(crate) fn item_key(number: u32) -> Vec<u8> {
    format!("item:{number}").into_bytes()
}

pub(crate) fn item_value(number: u32) -> Vec<u8> {
    format!("{{\"item\":{number},\"text\":\"{:0>160}\"}}", number.wrapping_mul(2_654_435_761)).into_bytes()
}

pub(super) fn prepare(server: &Server, spec: &EpisodeSpec) -> Result<()> {
    let data = &server.place.data;
    let address = server.address();
    let appended = matches!(spec.kind, Kind::DiskFill | Kind::DiskRotation);
    // Snapshots only where they are what it is about: they fork, and forks cost memory and CPU time.
    let save = if spec.kind == Kind::ThreadExhaustion { "2 1" } else { "" };
    let text = format!(
        "bind {}\nport {}\nprotected-mode no\ntcp-backlog 128\ntimeout 0\ndatabases 1\nhz 10\n\
         loglevel notice\nlogfile \"\"\ndir {}\nsave \"{save}\"\n\
         appendonly {}\nappendfsync everysec\nauto-aof-rewrite-percentage 0\n\
         maxmemory {}\nmaxmemory-policy noeviction\nmaxclients {}\n",
        address.ip(),
        address.port(),
        data.display(),
        if appended { "yes" } else { "no" },
        spec.limits.max_memory_bytes,
        spec.limits.connections,
    );
    let path = data.join("redis.conf");
    fs::write(&path, text)?;
    nix::unistd::chown(&path, Some(USER.into()), Some(USER.into()))?;
    Ok(())
}

pub(super) fn command(server: &Server) -> Vec<String> {
    vec![crate::programs::find("redis-server"), server.place.data.join("redis.conf").display().to_string()]
}

/// Writes the items.
pub(super) async fn fill(address: SocketAddr) -> Result<()> {
    let mut redis = Redis::open(address).await?;
    let batch: Vec<u8> =
        (0..ITEMS).flat_map(|number| wire(&[b"SET", &item_key(number), &item_value(number)])).collect();
    redis.send(&batch).await?;
    for _ in 0..ITEMS {
        if let Reply::Error(why) = redis.reply().await? {
            bail!("Redis refuses an item: {why}");
        }
    }
    Ok(())
}
