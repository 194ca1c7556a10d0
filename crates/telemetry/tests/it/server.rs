//! A cell on loopback whose answers the test decides.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

#[derive(Clone)]
pub(crate) enum Answer {
    /// Status, content type, body.
    Whole(u16, &'static str, String),
    /// Accepts and reads, never answers.
    Never,
    /// Like `Whole`, with status 200, then closes the connection without having said so.
    ThenClosed(&'static str),
    /// What is no HTTP.
    Raw(&'static str),
    /// What the path asks for.
    Asked(Arc<dyn Fn(&str) -> Answer + Send + Sync>),
}

impl Answer {
    pub(crate) fn text(body: &str) -> Self {
        Self::Whole(200, "text/plain; version=0.0.4", body.into())
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    answer: Mutex<Answer>,
    last_request: Mutex<String>,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Server {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            last_request: Mutex::default(),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        });
        let for_tasks = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            // Its connections end with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                for_tasks.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, Arc::clone(&for_tasks)));
            }
        });
        Self { address, shared, accepting: accepting.abort_handle() }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn last_request(&self) -> String {
        self.shared.last_request.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&chunk[..n]),
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let asked = String::from_utf8_lossy(&std::mem::take(&mut request)).into_owned();
        let path = asked.split(' ').nth(1).unwrap_or_default().to_owned();
        *shared.last_request.lock().unwrap() = asked;
        let mut answer = shared.answer.lock().unwrap().clone();
        if let Answer::Asked(by) = answer {
            answer = by(&path);
        }
        let closes = matches!(answer, Answer::ThenClosed(_));
        let bytes = match answer {
            Answer::Never | Answer::Asked(_) => continue,
            Answer::Raw(bytes) => bytes.to_owned(),
            Answer::ThenClosed(body) => {
                format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
            Answer::Whole(status, content_type, body) => format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        if stream.write_all(bytes.as_bytes()).await.is_err() || closes {
            return;
        }
    }
}
