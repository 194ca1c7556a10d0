//! A small client of this API, for the command line.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Uri,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use super::problem::Problem;

/// A request is answered within this time or given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A snapshot of ten thousand cells is some 30 MB.
const ANSWER_BYTES_AT_MOST: usize = 128 << 20;

/// Asks one API. Each request uses its own connection: the command line sends one or two.
#[derive(Clone)]
pub struct Client {
    authority: String,
    token: Option<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base address can't be used.
    #[error("`{base}` is not the address of an API: write it like http://127.0.0.1:7878 ({why})")]
    BadBase {
        /// As given.
        base: String,
        /// Why.
        why: &'static str,
    },
    /// Nobody answers there.
    #[error(
        "no engine answers at http://{authority}: {why}; is `forefend serve` or `forefend demo` running there?"
    )]
    Unreachable {
        /// Host and port.
        authority: String,
        /// Why.
        why: String,
    },
    /// The API refused.
    #[error("{}: {} ({})", .0.title, .0.detail, .0.remedy)]
    Refused(Problem),
    /// The answer makes no sense: it is another program, or another version.
    #[error("http://{authority}{path} gave an answer that can't be read: {why}")]
    Unreadable {
        /// Host and port.
        authority: String,
        /// The path asked for.
        path: String,
        /// Why.
        why: String,
    },
}

impl Client {
    /// A client of the API at `base`, for example `http://127.0.0.1:7878`.
    ///
    /// # Errors
    /// [`ClientError::BadBase`] when that is not `http://HOST[:PORT]`, or the token can't stand in a header.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, ClientError> {
        let bad = |why| ClientError::BadBase { base: base.to_owned(), why };
        let uri: Uri = base.parse().map_err(|_| bad("it is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("only http is spoken; put a TLS proxy in between for other machines"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("it has a path or a query"));
        }
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it holds a user name; give a token instead"));
        }
        if token.as_ref().is_some_and(|t| !t.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(bad("the token holds blanks or other characters that can't be sent"));
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: format!("{}:{port}", authority.host()), token })
    }

    /// GETs `path` (with its query).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// POSTs `body` as JSON to `path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| self.unreadable(path, &e))?;
        self.ask(Method::POST, path, body.into()).await
    }

    /// [`Client::get`] for callers without a runtime.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get_blocking<T: DeserializeOwned + Send>(&self, path: &str) -> Result<T, ClientError> {
        self.block_on(self.get(path))
    }

    /// [`Client::post`] for callers without a runtime.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post_blocking<T: DeserializeOwned + Send>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.block_on(self.post(path, body))
    }

    /// On a thread of its own, so that it also works where a runtime runs already.
    fn block_on<T: Send>(
        &self,
        asked: impl Future<Output = Result<T, ClientError>> + Send,
    ) -> Result<T, ClientError> {
        let failed = |why: &dyn fmt::Display| self.unreachable(why);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(|e| failed(&e))?.block_on(asked)
            });
            thread.join().unwrap_or_else(|_| Err(failed(&"the request's thread panicked")))
        })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.exchange(method, path, body)).await;
        let (status, answer) = asked.unwrap_or_else(|_| {
            Err(self.unreachable(&format!("no answer within {} s", ANSWER_WITHIN.as_secs())))
        })?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|e| self.unreadable(path, &e));
        }
        Err(match serde_json::from_slice(&answer) {
            Ok(problem) => ClientError::Refused(problem),
            Err(_) => self.unreadable(path, &format!("status {status} without a problem document")),
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(hyper::StatusCode, Bytes), ClientError> {
        let unreachable = |e: &dyn fmt::Display| self.unreachable(e);
        let stream = TcpStream::connect(&self.authority).await.map_err(|e| unreachable(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json");
        if method != Method::GET {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(|e| self.unreadable(path, &e))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_AT_MOST).collect().await;
            Ok((status, body.map_err(|e| self.unreadable(path, &e))?.to_bytes()))
        };
        // The connection is driven beside the exchange and ends with it: no task stays behind.
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        let mut open = true;
        loop {
            tokio::select! {
                done = &mut exchange => return done,
                _ = &mut connection, if open => open = false,
            }
        }
    }

    fn unreachable(&self, why: &(impl fmt::Display + ?Sized)) -> ClientError {
        ClientError::Unreachable { authority: self.authority.clone(), why: why.to_string() }
    }

    fn unreadable(&self, path: &str, why: &(impl fmt::Display + ?Sized)) -> ClientError {
        ClientError::Unreadable { authority: self.authority.clone(), path: path.into(), why: why.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_that_is_not_plain_http_is_refused() {
        for bad in ["", "127.0.0.1:1", "https://x", "http://x/y", "http://u:p@x", "http://x?y"] {
            assert!(Client::new(bad, None).is_err(), "{bad}");
        }
        assert!(Client::new("http://x", Some("a b".into())).is_err());
        assert_eq!(Client::new("http://[::1]:9/", None).unwrap().authority, "[::1]:9");
        assert_eq!(Client::new("http://x", None).unwrap().authority, "x:80");
    }
}
