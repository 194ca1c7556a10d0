use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{closed, malformed};

/// An HTTP/1.1 connection.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
    open: bool,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// What is read at a time.
const READ_BYTES: usize = 16 * 1024;
/// No answer of these servers is larger.
const MAX_BODY_BYTES: usize = 4 << 20;

impl Http {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new(), open: true })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Gets a path, with further header lines (each with its CRLF).
    pub(crate) async fn get(&mut self, path: &str, headers: &str) -> io::Result<Answer> {
        self.call(format!("GET {path} HTTP/1.1\r\nhost: corpus\r\n{headers}\r\n").as_bytes()).await
    }

    /// Sends a whole request, reads the whole answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Response::new(&mut headers);
            let parsed = head.parse(&self.buffer).map_err(|e| malformed(&e.to_string()))?;
            if let httparse::Status::Complete(length) = parsed {
                let status = head.code.unwrap_or(0);
                let header = |name: &str| {
                    let found = head.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name))?;
                    std::str::from_utf8(found.value).ok()
                };
                let chunked = header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
                let size: Option<usize> = header("content-length").and_then(|v| v.parse().ok());
                self.open = !header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
                self.buffer.drain(..length);
                let bodiless = status == 204 || status == 304;
                let body = match size {
                    _ if bodiless => Vec::new(),
                    _ if chunked => self.chunks().await?,
                    Some(size) if size <= MAX_BODY_BYTES => self.exactly(size).await?,
                    _ => return Err(malformed("an answer without a length, or a huge one")),
                };
                return Ok(Answer { status, body });
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        let had = self.buffer.len();
        if had > MAX_BODY_BYTES {
            return Err(malformed("an answer that is too large"));
        }
        self.buffer.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            self.open = false;
            return Err(closed());
        }
        Ok(())
    }

    async fn exactly(&mut self, size: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < size {
            self.more().await?;
        }
        Ok(self.buffer.drain(..size).collect())
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let (head, size) = loop {
                match httparse::parse_chunk_size(&self.buffer).map_err(|_| malformed("a bad chunk"))? {
                    httparse::Status::Complete((head, size)) => break (head, size as usize),
                    httparse::Status::Partial => self.more().await?,
                }
            };
            if size + body.len() > MAX_BODY_BYTES {
                return Err(malformed("an answer that is too large"));
            }
            let chunk = self.exactly(head + size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[head..head + size]);
        }
    }
}
