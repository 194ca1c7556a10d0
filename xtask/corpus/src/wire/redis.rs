use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
};

use super::{closed, malformed};

/// A connection that speaks RESP2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
pub(crate) struct Redis {
    stream: BufStream<TcpStream>,
}

/// A reply; of arrays only how many parts they have is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Number(i64),
    Bulk(Option<Vec<u8>>),
    Array(usize),
}

const MAX_BULK_BYTES: usize = 4 << 20;

/// A command as it goes over the wire.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        wire.extend_from_slice(word);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

impl Redis {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufStream::with_capacity(4_096, 4_096, stream) })
    }

    /// Sends commands as they go over the wire.
    pub(crate) async fn send(&mut self, commands: &[u8]) -> io::Result<()> {
        self.stream.write_all(commands).await?;
        self.stream.flush().await
    }

    /// One command, one reply.
    pub(crate) async fn ask(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        self.send(&command(words)).await?;
        self.reply().await
    }

    /// The next reply.
    pub(crate) async fn reply(&mut self) -> io::Result<Reply> {
        let reply = self.single().await?;
        if let Reply::Array(parts) = reply {
            // Nested arrays are flattened: as many parts more are to come.
            let mut left = parts;
            while left > 0 {
                left -= 1;
                if let Reply::Array(more) = self.single().await? {
                    left += more;
                }
            }
        }
        Ok(reply)
    }

    async fn single(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(closed());
        }
        let line = line.trim_end();
        let rest = line.get(1..).unwrap_or_default();
        let number = || rest.parse::<i64>().map_err(|_| malformed("a bad number"));
        Ok(match line.as_bytes().first() {
            Some(b'+') => Reply::Simple(rest.to_owned()),
            Some(b'-') => Reply::Error(rest.to_owned()),
            Some(b':') => Reply::Number(number()?),
            Some(b'*') => Reply::Array(usize::try_from(number()?).unwrap_or(0)),
            Some(b'$') => match usize::try_from(number()?) {
                Err(_) => Reply::Bulk(None),
                Ok(size) if size > MAX_BULK_BYTES => return Err(malformed("a reply that is too large")),
                Ok(size) => {
                    let mut bytes = vec![0; size + 2];
                    self.stream.read_exact(&mut bytes).await?;
                    bytes.truncate(size);
                    Reply::Bulk(Some(bytes))
                }
            },
            _ => return Err(malformed("no reply of Redis")),
        })
    }
}
