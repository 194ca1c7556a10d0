use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
};

use super::malformed;

/// A connection that speaks version 3 of PostgreSQL's protocol, simple queries only, with trust for authentication
/// (<https://www.postgresql.org/docs/15/protocol-flow.html>).
pub(crate) struct Postgres {
    stream: BufStream<TcpStream>,
}

/// The rows of all statements of a query; NULL is `None`.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

const MAX_MESSAGE_BYTES: usize = 4 << 20;
const PROTOCOL_3_0: i32 = 196_608;

impl Postgres {
    /// Connects as the superuser, under an application name that tells users, status readers and causes apart.
    pub(crate) async fn open(address: SocketAddr, application: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream: BufStream::with_capacity(4_096, 4_096, stream) };
        let user = if application == "app" || application == "hoard" { "app" } else { "postgres" };
        let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
        for word in ["user", user, "database", "postgres", "application_name", application, ""] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
        connection.stream.write_all(&(body.len() as i32 + 4).to_be_bytes()).await?;
        connection.stream.write_all(&body).await?;
        connection.stream.flush().await?;
        match connection.until_ready().await? {
            Ok(_) => Ok(connection),
            Err(why) => Err(io::Error::other(why)),
        }
    }

    /// Runs a query. The inner error is the server's: the connection stays good.
    pub(crate) async fn query(&mut self, sql: &[u8]) -> io::Result<Result<Rows, String>> {
        self.stream.write_all(b"Q").await?;
        self.stream.write_all(&(sql.len() as i32 + 5).to_be_bytes()).await?;
        self.stream.write_all(sql).await?;
        self.stream.write_all(&[0]).await?;
        self.stream.flush().await?;
        self.until_ready().await
    }

    /// As [`Postgres::query`], for callers to whom either error means the same.
    pub(crate) async fn run(&mut self, sql: &str) -> io::Result<Rows> {
        self.query(sql.as_bytes()).await?.map_err(io::Error::other)
    }

    async fn until_ready(&mut self) -> io::Result<Result<Rows, String>> {
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            let kind = self.stream.read_u8().await?;
            let length = usize::try_from(self.stream.read_i32().await?).unwrap_or(0);
            if !(4..=MAX_MESSAGE_BYTES).contains(&length) {
                return Err(malformed("a message of impossible length"));
            }
            let mut body = vec![0; length - 4];
            self.stream.read_exact(&mut body).await?;
            match kind {
                b'Z' => return Ok(error.map_or(Ok(rows), Err)),
                b'D' => rows.push(row(&body).ok_or_else(|| malformed("a bad row"))?),
                b'E' => {
                    let (message, fatal) = problem(&body);
                    if fatal {
                        return Err(io::Error::other(message));
                    }
                    error = Some(message);
                }
                b'R' if body != [0; 4] => return Err(malformed("the server wants a password")),
                // Parameters, keys, notices, descriptions and ends of statements are of no interest.
                _ => {}
            }
        }
    }
}

fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_at_checked(2)?;
    let mut fields = Vec::new();
    for _ in 0..u16::from_be_bytes(count.try_into().ok()?) {
        let (length, after) = rest.split_at_checked(4)?;
        match usize::try_from(i32::from_be_bytes(length.try_into().ok()?)) {
            Err(_) => {
                fields.push(None);
                rest = after;
            }
            Ok(length) => {
                let (value, after) = after.split_at_checked(length)?;
                fields.push(Some(String::from_utf8_lossy(value).into_owned()));
                rest = after;
            }
        }
    }
    Some(fields)
}

/// The message of an error, and whether the server ends the connection with it.
fn problem(body: &[u8]) -> (String, bool) {
    let mut message = String::new();
    let mut fatal = false;
    for field in body.split(|byte| *byte == 0) {
        match field.first() {
            Some(b'V') => fatal = matches!(&field[1..], b"FATAL" | b"PANIC"),
            Some(b'M') => message = String::from_utf8_lossy(&field[1..]).into_owned(),
            _ => {}
        }
    }
    (message, fatal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_a_null_is_read() {
        let mut body = vec![0, 2];
        body.extend_from_slice(&3i32.to_be_bytes());
        body.extend_from_slice(b"abc");
        body.extend_from_slice(&(-1i32).to_be_bytes());
        assert_eq!(row(&body), Some(vec![Some("abc".to_owned()), None]));
        assert_eq!(row(&body[..6]), None, "cut off");
    }

    #[test]
    fn an_error_tells_whether_the_connection_ends() {
        assert_eq!(problem(b"SERROR\0VERROR\0Mdivision by zero\0\0"), ("division by zero".to_owned(), false));
        assert_eq!(problem(b"VFATAL\0Mtoo many\0\0"), ("too many".to_owned(), true));
    }
}
