//! A cell for benchmarks: HTTP/1.1 with keep-alive, answers any request with the same body.
//!
//! A request with a number in `x-number` is written to the journal when its execution begins, so a request that
//! was executed twice, by whichever cells, is found afterwards, even if a cell was killed: what was handed to the
//! kernel survives the process.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Name of the header with a request's number.
pub(super) const NUMBER_HEADER: &str = "x-number";

/// Largest request that is read.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Where a cell listens and what it does.
#[derive(Args)]
pub(crate) struct BackendArguments {
    /// Where to listen; the port that it got is the first line of output.
    #[arg(long)]
    listen: SocketAddr,
    /// Bytes of the response's body.
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    /// Milliseconds that a request's execution takes.
    #[arg(long, default_value_t = 0)]
    service_ms: u64,
    /// Where the numbers of executed requests go: eight bytes each, little-endian.
    #[arg(long)]
    journal: Option<PathBuf>,
}

struct Cell {
    keep: Vec<u8>,
    close: Vec<u8>,
    service: Duration,
    journal: Option<File>,
}

/// A request as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// Bytes of head and body.
    bytes: usize,
    number: Option<u64>,
    close: bool,
}

/// Serves until killed.
///
/// # Errors
/// When it can't listen or open its journal.
pub(super) async fn serve(arguments: BackendArguments) -> Result<()> {
    let journal = match &arguments.journal {
        Some(path) => Some(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("can't open the journal {}", path.display()))?,
        ),
        None => None,
    };
    let response = |close: &str| {
        let mut bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{close}\r\n",
            arguments.body_bytes
        )
        .into_bytes();
        bytes.resize(bytes.len() + arguments.body_bytes, b'x');
        bytes
    };
    let cell = Rc::new(Cell {
        keep: response(""),
        close: response("Connection: close\r\n"),
        service: Duration::from_millis(arguments.service_ms),
        journal,
    });
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("can't listen on {}", arguments.listen))?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        let cell = Rc::clone(&cell);
        tokio::task::spawn_local(async move {
            // A connection that breaks is the proxy's business.
            let _ = cell.converse(stream).await;
        });
    }
}

/// The numbers in a journal.
///
/// # Errors
/// When it can't be read.
pub(super) fn read_journal(path: &Path) -> Result<Vec<u64>> {
    let bytes = std::fs::read(path).with_context(|| format!("can't read the journal {}", path.display()))?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
}

impl Cell {
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(4096);
        loop {
            let request = loop {
                if let Some(request) = parse(&buffer)? {
                    break request;
                }
                if buffer.len() > MAX_REQUEST_BYTES {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the request is too long"));
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            buffer.drain(..request.bytes);
            if let (Some(mut journal), Some(number)) = (self.journal.as_ref(), request.number) {
                journal.write_all(&number.to_le_bytes())?;
            }
            if !self.service.is_zero() {
                tokio::time::sleep(self.service).await;
            }
            stream.write_all(if request.close { &self.close } else { &self.keep }).await?;
            if request.close {
                return stream.shutdown().await;
            }
        }
    }
}

/// The request at the start of `bytes`, once it is complete, body included.
fn parse(bytes: &[u8]) -> io::Result<Option<Request>> {
    let invalid = |why: String| io::Error::new(ErrorKind::InvalidData, why);
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let head_bytes = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(error.to_string())),
    };
    let mut request = Request { bytes: head_bytes, number: None, close: parsed.version == Some(0) };
    let mut body_bytes = 0;
    for header in parsed.headers.iter() {
        let number =
            || std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse::<u64>().ok());
        if header.name.eq_ignore_ascii_case("content-length") {
            body_bytes = number().ok_or_else(|| invalid("content-length is no number".to_owned()))? as usize;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(invalid("a request without a length".to_owned()));
        } else if header.name.eq_ignore_ascii_case(NUMBER_HEADER) {
            request.number = number();
        } else if header.name.eq_ignore_ascii_case("connection") {
            request.close |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    if body_bytes > MAX_REQUEST_BYTES {
        return Err(invalid("the request's body is too long".to_owned()));
    }
    request.bytes += body_bytes;
    Ok((bytes.len() >= request.bytes).then_some(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_once_its_body_is_there() {
        let text = b"POST /w HTTP/1.1\r\nX-Number: 42\r\nContent-Length: 4\r\n\r\nbodyGET";
        assert_eq!(parse(&text[..text.len() - 5]).expect("so far so good"), None);
        let request = parse(text).expect("valid").expect("complete");
        assert_eq!(request, Request { bytes: text.len() - 3, number: Some(42), close: false });
    }

    #[test]
    fn http_1_0_and_connection_close_end_the_connection() {
        let close = |text: &[u8]| parse(text).expect("valid").expect("complete").close;
        assert!(close(b"GET / HTTP/1.0\r\n\r\n"));
        assert!(close(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
        assert!(!close(b"GET / HTTP/1.1\r\n\r\n"));
    }

    #[test]
    fn what_has_no_clear_length_is_refused() {
        assert!(parse(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n").is_err());
    }
}
