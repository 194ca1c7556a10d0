//! A small HTTP/1.1 client: one request at a time on a connection, as cheap as it gets, because load and backends
//! share a core.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Largest head that we read. Nothing here has large ones.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A connection that is kept alive.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    /// The other side will close.
    pub(super) close: bool,
}

/// Head of a response as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    bytes: usize,
    body_bytes: usize,
    response: Response,
}

/// Name of the header that tells users apart, for proxies that keep a user where they are.
pub(super) const USER_HEADER: &str = "x-user";

/// A GET of `path` by a user, ready to send.
pub(super) fn get(path: &str, host: SocketAddr, user: usize) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{USER_HEADER}: {user}\r\n\r\n").into_bytes()
}

impl Connection {
    /// Opens one.
    ///
    /// # Errors
    /// When it is refused.
    pub(super) async fn open(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Whether the other side has closed it, or sent what nobody asked for, while it lay idle.
    pub(super) fn is_stale(&self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends `request` and reads the whole response.
    ///
    /// # Errors
    /// When the connection breaks or the response is not HTTP/1.1 with a length.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Response> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.read_some().await?;
            if let Some(head) = parse(&self.buffer)? {
                break head;
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(invalid("the response's head is too long"));
            }
        };
        while self.buffer.len() < head.bytes + head.body_bytes {
            self.read_some().await?;
        }
        Ok(head.response)
    }

    async fn read_some(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "closed before the response was complete")),
            _ => Ok(()),
        }
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// The head at the start of `bytes`, once it is complete.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let head_bytes = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&format!("not an HTTP response: {error}"))),
    };
    let status = parsed.code.unwrap_or_default();
    let mut body_bytes = None;
    let mut close = parsed.version == Some(0);
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            body_bytes = std::str::from_utf8(header.value).ok().and_then(|v| v.trim().parse().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            close |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    match (body_bytes, status) {
        (Some(body_bytes), _) => {
            Ok(Some(Head { bytes: head_bytes, body_bytes, response: Response { status, close } }))
        }
        (None, 204 | 304) => {
            Ok(Some(Head { bytes: head_bytes, body_bytes: 0, response: Response { status, close } }))
        }
        (None, _) => Err(invalid("the response has no content-length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let text = b"HTTP/1.1 503 Sorry\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!";
        assert_eq!(parse(&text[..30]).expect("so far so good"), None);
        let head = parse(text).expect("valid").expect("complete");
        assert_eq!(head.bytes + head.body_bytes, text.len());
        assert_eq!(head.response, Response { status: 503, close: true });
    }

    #[test]
    fn a_body_without_length_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").expect("valid").is_some());
    }
}
