//! The engine's end of the control socket.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use forefend_domain::{
    ServiceId,
    ports::{DataPlane, DataPlaneReport, PortError, Routing},
};

use crate::wire::{ControlRequest, ControlResponse, DirectorConfig, MAX_CONTROL_BYTES, ServiceSettings};

/// The director's socket within its state directory.
pub const SOCKET: &str = "director.sock";
const PORT: &str = "director";

/// Talks to a director. Connects when needed, and anew after a failure, so the director may come and go.
#[derive(Debug)]
pub struct DirectorClient {
    socket: PathBuf,
    timeout: Duration,
    settings: BTreeMap<ServiceId, ServiceSettings>,
    connection: Option<BufReader<UnixStream>>,
}

impl DirectorClient {
    /// A client of the director with that state directory. Nothing is connected yet. `timeout` bounds each read and
    /// each write.
    #[must_use]
    pub fn new(state_dir: &Path, timeout: Duration, settings: BTreeMap<ServiceId, ServiceSettings>) -> Self {
        Self { socket: state_dir.join(SOCKET), timeout, settings, connection: None }
    }

    /// Changes the settings that the next [`DataPlane::apply`] sends along.
    pub fn set_settings(&mut self, settings: BTreeMap<ServiceId, ServiceSettings>) {
        self.settings = settings;
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// When the director can't be reached, does not answer in time, or refuses.
    pub fn request(&mut self, request: &ControlRequest) -> Result<ControlResponse, PortError> {
        let mut line = serde_json::to_vec(request).map_err(|error| refused(error.to_string()))?;
        line.push(b'\n');
        if line.len() > MAX_CONTROL_BYTES {
            return Err(refused(format!(
                "the request has {} bytes, at most {MAX_CONTROL_BYTES}",
                line.len()
            )));
        }
        match self.exchange(&line) {
            Ok(ControlResponse::Refused { why }) => Err(refused(why)),
            Ok(response) => Ok(response),
            Err(error) => {
                self.connection = None;
                let why = format!("{}: {error}", self.socket.display());
                Err(PortError::Unreachable { port: PORT, why })
            }
        }
    }

    /// Tells the director to watch this engine, and to start it again should it die.
    ///
    /// # Errors
    /// When the director can't be reached or can't watch the process.
    pub fn hello(&mut self, engine_pid: u32) -> Result<(), PortError> {
        self.request(&ControlRequest::Hello { engine_pid }).map(drop)
    }

    /// Tells the director that this engine ends on purpose.
    ///
    /// # Errors
    /// When the director can't be reached.
    pub fn goodbye(&mut self) -> Result<(), PortError> {
        self.request(&ControlRequest::Goodbye).map(drop)
    }

    /// Tells the director to end, after requests in flight if `drain`.
    ///
    /// # Errors
    /// When the director can't be reached.
    pub fn shutdown(&mut self, drain: bool) -> Result<(), PortError> {
        self.request(&ControlRequest::Shutdown { drain }).map(drop)
    }

    fn exchange(&mut self, line: &[u8]) -> io::Result<ControlResponse> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let stream = UnixStream::connect(&self.socket)?;
                stream.set_read_timeout(Some(self.timeout))?;
                stream.set_write_timeout(Some(self.timeout))?;
                none.insert(BufReader::new(stream))
            }
        };
        connection.get_mut().write_all(line)?;
        let mut answer = Vec::new();
        connection.take(MAX_CONTROL_BYTES as u64).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_slice(&answer).map_err(io::Error::other)
    }
}

fn refused(why: String) -> PortError {
    PortError::Refused { port: PORT, why }
}

impl DataPlane for DirectorClient {
    fn report(&mut self) -> Result<DataPlaneReport, PortError> {
        match self.request(&ControlRequest::Report)? {
            ControlResponse::Report { report } => Ok(*report),
            other => Err(refused(format!("asked for a report, it answered {other:?}"))),
        }
    }

    fn apply(&mut self, routing: &Routing) -> Result<(), PortError> {
        let config = DirectorConfig { routing: routing.clone(), services: self.settings.clone() };
        self.request(&ControlRequest::Apply { config: Box::new(config) }).map(drop)
    }
}
