//! The control socket: one line of JSON in, one line out.

use std::{cell::RefCell, fs, io, os::unix::fs::PermissionsExt as _, path::Path, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot, watch},
    task::spawn_local,
};

use crate::{
    client::SOCKET,
    director::DirectorError,
    state::{ApplyError, Director},
    supervise::{Engine, watch_process},
    wire::{ControlRequest, ControlResponse, MAX_CONTROL_BYTES},
};

/// A line that was begun must be complete after this time.
const LINE_PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once: the engine and a few tools.
const MAX_PEERS: usize = 16;

/// Why serving ended.
pub(crate) enum End {
    /// It was asked to.
    Asked { drain: bool },
    /// A worker is stuck: the process must be replaced.
    Stuck(String),
}

type Question = (ControlRequest, oneshot::Sender<ControlResponse>);

/// Makes the socket, for this user only.
pub(crate) fn listen(state_dir: &Path) -> Result<UnixListener, DirectorError> {
    let path = state_dir.join(SOCKET);
    let bind = || {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // The directory may be open to others; the socket is not.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|source| DirectorError::State { path: path.clone(), source })
}

/// Answers requests until one asks for the end.
pub(crate) async fn serve(
    socket: UnixListener,
    director: &mut Director,
    engine: watch::Sender<Engine>,
) -> End {
    let (questions, mut asked) = mpsc::channel::<Question>(MAX_PEERS);
    let peers = Rc::new(RefCell::new(0usize));
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => {
                    if *peers.borrow() >= MAX_PEERS {
                        tracing::warn!("too many control connections: one was turned away");
                        continue;
                    }
                    *peers.borrow_mut() += 1;
                    let (questions, peers) = (questions.clone(), Rc::clone(&peers));
                    spawn_local(async move {
                        if let Err(error) = converse(stream, questions).await {
                            tracing::debug!(%error, "a control connection ended");
                        }
                        *peers.borrow_mut() -= 1;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some((request, reply)) = asked.recv() => {
                let (response, end) = answer(request, director, &engine).await;
                // Whoever asked may be gone; it is done all the same.
                let _ = reply.send(response);
                if let Some(end) = end {
                    // Let the answer leave before the runtime goes.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return end;
                }
            }
        }
    }
}

async fn answer(
    request: ControlRequest,
    director: &mut Director,
    engine: &watch::Sender<Engine>,
) -> (ControlResponse, Option<End>) {
    let refused = |why: String| ControlResponse::Refused { why };
    match request {
        ControlRequest::Apply { config } => {
            let generation = config.routing.generation;
            match director.apply(*config).await {
                Ok(()) => {
                    tracing::info!(generation, "applied");
                    (ControlResponse::Done, None)
                }
                Err(error) => {
                    tracing::warn!(generation, %error, "refused; the last good state stays in force");
                    let why = error.to_string();
                    let end = matches!(error, ApplyError::Worker(_)).then(|| End::Stuck(why.clone()));
                    (refused(why), end)
                }
            }
        }
        ControlRequest::Report => (ControlResponse::Report { report: Box::new(director.report()) }, None),
        ControlRequest::Hello { engine_pid } => match watch_process(engine_pid) {
            Ok(running) => {
                engine.send_replace(running);
                (ControlResponse::Done, None)
            }
            Err(error) => (refused(format!("can't watch process {engine_pid}: {error}")), None),
        },
        ControlRequest::Goodbye => {
            engine.send_replace(Engine::Away);
            (ControlResponse::Done, None)
        }
        ControlRequest::Shutdown { drain } => (ControlResponse::Done, Some(End::Asked { drain })),
    }
}

async fn converse(mut stream: UnixStream, questions: mpsc::Sender<Question>) -> io::Result<()> {
    let ours = nix::unistd::geteuid().as_raw();
    let theirs = stream.peer_cred()?.uid();
    if theirs != ours && theirs != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {theirs} may not control us"),
        ));
    }
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        // Silence between lines is fine; a line that was begun must end.
        if read.fill_buf().await?.is_empty() {
            return Ok(());
        }
        line.clear();
        let mut bounded = (&mut read).take(MAX_CONTROL_BYTES as u64);
        tokio::time::timeout(LINE_PATIENCE, bounded.read_until(b'\n', &mut line)).await??;
        let whole = line.last() == Some(&b'\n');
        let response = match serde_json::from_slice::<ControlRequest>(&line) {
            _ if !whole => {
                refused_line(format!("a request is one line of at most {MAX_CONTROL_BYTES} bytes"))
            }
            Err(error) => refused_line(format!("this is no request: {error}")),
            Ok(request) => {
                let (reply, answered) = oneshot::channel();
                if questions.send((request, reply)).await.is_err() {
                    return Ok(());
                }
                match answered.await {
                    Ok(response) => response,
                    Err(_) => return Ok(()),
                }
            }
        };
        let mut text = serde_json::to_vec(&response).map_err(io::Error::other)?;
        text.push(b'\n');
        tokio::time::timeout(LINE_PATIENCE, write.write_all(&text)).await??;
        if !whole {
            return Ok(());
        }
    }
}

fn refused_line(why: String) -> ControlResponse {
    ControlResponse::Refused { why }
}
