use std::{cell::RefCell, io, rc::Rc};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self as client, SendRequest},
    header::{CONNECTION, HeaderValue},
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{LOOK_EVERY, Shared, draw};

type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// HTTP/1.1 only: what is spoken between a proxy and its cells.
pub(super) async fn carry(shared: &Rc<Shared>, stream: TcpStream, share: f64, status: u16) -> io::Result<()> {
    let upstream = Rc::new(RefCell::new(None));
    let service = service_fn(|request| {
        let (shared, upstream) = (shared.clone(), upstream.clone());
        async move {
            if draw() < share * shared.level() {
                return Ok::<Answer, io::Error>(error(status));
            }
            let mut answer = pass_on(&shared, &upstream, request).await.unwrap_or_else(|_| error(502));
            if shared.letting_go.get() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        }
    });
    let connection = server::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let let_go = async {
        while !shared.letting_go.get() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        result = connection.as_mut() => return result.map_err(io::Error::other),
        () = let_go => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(io::Error::other)
}

async fn pass_on(
    shared: &Shared,
    upstream: &RefCell<Option<SendRequest<Incoming>>>,
    request: Request<Incoming>,
) -> Result<Answer, Box<dyn std::error::Error>> {
    let mut kept = upstream.borrow_mut().take();
    if let Some(sender) = &mut kept
        && sender.ready().await.is_err()
    {
        kept = None;
    }
    let mut sender = match kept {
        Some(sender) => sender,
        None => {
            let (sender, connection) = client::handshake(TokioIo::new(shared.connect().await?)).await?;
            tokio::task::spawn_local(connection);
            sender
        }
    };
    let answer = sender.send_request(request).await?;
    *upstream.borrow_mut() = Some(sender);
    Ok(answer.map(Either::Right))
}

fn error(status: u16) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from("injected by a fault of Forefend\n")));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}
