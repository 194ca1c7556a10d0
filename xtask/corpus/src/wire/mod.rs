//! The three protocols that users and status readers speak, as far as they are needed here.
//!
//! Small on purpose: one request at a time on a connection, no TLS, no pipelining except where said. Every wait is bounded by
//! the caller.

mod http;
mod postgres;
mod redis;

use std::{io, net::SocketAddr};

pub(crate) use http::Http;
pub(crate) use postgres::Postgres;
pub(crate) use redis::{Redis, Reply, command};

/// Which protocol a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Redis,
    Postgres,
}

/// An open connection of a user.
pub(crate) enum Link {
    Http(Http),
    Redis(Redis),
    Postgres(Postgres),
}

impl Link {
    pub(crate) async fn open(protocol: Protocol, address: SocketAddr) -> io::Result<Self> {
        Ok(match protocol {
            Protocol::Http => Self::Http(Http::open(address).await?),
            Protocol::Redis => Self::Redis(Redis::open(address).await?),
            Protocol::Postgres => Self::Postgres(Postgres::open(address, "app").await?),
        })
    }

    /// Sends a request and tells whether it was answered well. An error means that the connection is of no more use.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<bool> {
        match self {
            Self::Http(http) => Ok((200..300).contains(&http.call(request).await?.status)),
            Self::Redis(redis) => {
                redis.send(request).await?;
                Ok(!matches!(redis.reply().await?, Reply::Error(_)))
            }
            Self::Postgres(postgres) => Ok(postgres.query(request).await?.is_ok()),
        }
    }

    /// Whether the server will take another request on it.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Http(http) => http.is_open(),
            Self::Redis(_) | Self::Postgres(_) => true,
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn closed() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
