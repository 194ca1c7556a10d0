//! Who pushes telemetry: a real Prometheus, and the real Python SDK of OpenTelemetry.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::FOREFEND;

/// Whether a program is there. In CI it must be; elsewhere the test says that it is skipped.
pub fn is_there(program: &Path, remedy: &str) -> bool {
    if program.exists() {
        return true;
    }
    let program = program.display();
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{program} is missing: {remedy}");
    eprintln!("SKIPPED: {program} is missing: {remedy}");
    false
}

pub fn prometheus() -> PathBuf {
    PathBuf::from("/usr/bin/prometheus")
}

/// The Python of the environment that `cargo xtask test` makes.
pub fn python() -> PathBuf {
    let target = Path::new(FOREFEND).ancestors().nth(2).unwrap();
    target.join("test-venv/bin/python")
}

/// A process that ends with the test.
pub struct Sender(Child);

impl Sender {
    /// Turns the log of a cell bad.
    pub fn turn_bad(&mut self) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(b"bad\n").unwrap();
        input.flush().unwrap();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a Prometheus that scrapes `scraped` and writes what it scrapes to `receiver`.
pub fn start_prometheus(dir: &Path, scraped: SocketAddr, receiver: SocketAddr, token: &str) -> Sender {
    let more = format!(
        r#"remote_write:
  - url: http://{receiver}/api/v1/write
    authorization: {{ credentials: {token} }}
    queue_config: {{ batch_send_deadline: 100ms }}
"#
    );
    spawn_prometheus(dir, &[scraped], super::free_address(), &more)
}

/// Starts a Prometheus that scrapes `scraped` and can be asked at `listen`; again with what it stored, if it was there before.
pub fn start_prometheus_at(dir: &Path, scraped: &[SocketAddr], listen: SocketAddr) -> Sender {
    spawn_prometheus(dir, scraped, listen, "")
}

/// The user of [`start_prometheus_behind_tls`], and the password.
pub const USER: (&str, &str) = ("forefend", "open sesame");

/// The same over TLS, for [`USER`] alone; the certificate that vouches for it is in `dir/ca.pem`.
pub fn start_prometheus_behind_tls(dir: &Path, scraped: &[SocketAddr], listen: SocketAddr) -> Sender {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.join("ca.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    // Of the password by bcrypt, with as little work as it allows.
    let hash = "$2b$04$UufFh1irIfGdFx.H.Kk7y.YnPniVbGeKba2t0issM/dlw/TuFi4h.";
    let web = format!(
        "tls_server_config: {{ cert_file: ca.pem, key_file: key.pem }}\nbasic_auth_users: {{ {}: '{hash}' }}\n",
        USER.0
    );
    std::fs::write(dir.join("web.yml"), web).unwrap();
    spawn_prometheus_with(
        dir,
        scraped,
        listen,
        "",
        &[format!("--web.config.file={}", dir.join("web.yml").display())],
    )
}

fn spawn_prometheus(dir: &Path, scraped: &[SocketAddr], listen: SocketAddr, more: &str) -> Sender {
    spawn_prometheus_with(dir, scraped, listen, more, &[])
}

fn spawn_prometheus_with(
    dir: &Path,
    scraped: &[SocketAddr],
    listen: SocketAddr,
    more: &str,
    flags: &[String],
) -> Sender {
    let config = dir.join("prometheus.yml");
    let targets: Vec<String> = scraped.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        r#"global: {{ scrape_interval: 250ms, scrape_timeout: 200ms, external_labels: {{ prometheus: test }} }}
scrape_configs:
  - job_name: web
    static_configs: [{{ targets: [{}] }}]
{more}"#,
        targets.join(", ")
    );
    std::fs::write(&config, text).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(dir.join("prometheus.log")).unwrap();
    let mut command = Command::new(prometheus());
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
        .arg(format!("--web.listen-address={listen}"))
        .args(flags);
    Sender(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// Starts a cell that pushes by the SDK, over `http` or `grpc`.
pub fn start_sdk(dir: &Path, protocol: &str, receiver: SocketAddr, cell: &str, token: &str) -> Sender {
    let script = dir.join("push.py");
    std::fs::write(&script, include_str!("push.py")).unwrap();
    let log = std::fs::File::create(dir.join(format!("push-{protocol}.log"))).unwrap();
    let mut command = Command::new(python());
    command.arg(script).args([protocol, &receiver.to_string(), cell, token]);
    Sender(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// A small service that answers everything with its metrics: a pool that fills in about a minute, and jobs done.
pub struct App {
    pub address: SocketAddr,
    ends: Arc<AtomicBool>,
}

impl App {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let (told, began) = (Arc::clone(&ends), Instant::now());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::spawn(move || answer(stream, began));
            }
        });
        Self { address, ends }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn answer(mut stream: TcpStream, began: Instant) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut asked = [0; 4_096];
    let _ = stream.read(&mut asked);
    let seconds = began.elapsed().as_secs_f64();
    let metrics = format!(
        "# TYPE pool_used gauge\npool_used {}\n# TYPE pool_max gauge\npool_max 1000\n# TYPE jobs_total counter\n\
         jobs_total {}\n# TYPE odd gauge\nodd NaN\n",
        100.0 + 10.0 * seconds,
        (seconds * 20.0) as u64
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";
    let _ = write!(stream, "{head}content-length: {}\r\n\r\n{metrics}", metrics.len());
}

/// Posts to the receiver; status line, headers and body as they came.
pub fn post(to: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is refused before it was read may be cut off.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
