//! Certificate expiry on a TLS server that we did not write: nginx, which reads its certificate again on SIGHUP.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use forefend_chaos::{DEFAULT_TTL, Fault, Injector, Target};
use forefend_domain::CellId;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    inject,
    victim::{PROGRAM, can_inject, wait_until},
};

const NGINX: &str = "/usr/sbin/nginx";

struct Server {
    address: SocketAddr,
    process: Child,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        fs::write(dir.path().join("certificate.pem"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let configuration = format!(
            "daemon off; user root; worker_processes 1; pid nginx.pid; error_log error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{\n  access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; \
             uwsgi_temp_path t4; scgi_temp_path t5;\n  server {{ listen {address} ssl; return 200 here; \
             ssl_certificate certificate.pem; ssl_certificate_key key.pem; }}\n}}\n"
        );
        fs::write(dir.path().join("nginx.conf"), configuration).unwrap();
        let process = Command::new(NGINX)
            .arg("-p")
            .arg(dir.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { address, process, dir };
        wait_until("nginx shows a valid certificate", || server.is_valid() == Some(true));
        server
    }

    /// Whether the certificate that it shows to a client has not ended; `None` when it shows none.
    fn is_valid(&self) -> Option<bool> {
        let shown = Command::new("openssl")
            .args(["s_client", "-connect", &self.address.to_string()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&shown.stdout);
        text.contains("BEGIN CERTIFICATE").then_some(())?;
        let seen = self.dir.path().join("seen.pem");
        fs::write(&seen, text.as_bytes()).unwrap();
        let arguments = ["x509", "-noout", "-checkend", "0", "-in"];
        Some(Command::new("openssl").args(arguments).arg(&seen).output().unwrap().status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its workers end with it; SIGKILL would leave them.
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

#[test]
fn clients_of_a_tls_server_are_shown_an_expired_certificate_and_then_the_old_one() {
    if !can_inject() {
        return;
    }
    if !Path::new(NGINX).exists() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{NGINX} is missing: install nginx-light");
        println!("SKIPPED: {NGINX} is missing");
        return;
    }
    let server = Server::start();
    let target = Target {
        cell: CellId::new("tls").unwrap(),
        pid: i32::try_from(server.process.id()).unwrap(),
        address: Some(server.address),
        data: None,
        log: None,
        clock: None,
    };
    let fault = Fault::CertificateExpiry {
        certificate: server.dir.path().join("certificate.pem"),
        key: server.dir.path().join("key.pem"),
        reload: true,
    };
    let leases = server.dir.path().join("leases");
    let injector = Injector::start(&leases, Path::new(PROGRAM), DEFAULT_TTL).unwrap();
    let injection = injector.begin(&fault, &target).unwrap();
    assert_eq!(server.is_valid(), Some(true), "at level 0 nothing has happened");
    injection.set(1.0).unwrap();
    wait_until("an expired one is shown", || server.is_valid() == Some(false));
    injection.end().unwrap();
    wait_until("the old one is shown", || server.is_valid() == Some(true));

    let mut killed = inject(&leases, &fault, &target);
    wait_until("an expired one is shown again", || server.is_valid() == Some(false));
    killed.kill().unwrap();
    killed.wait().unwrap();
    wait_until("the old one is shown again", || server.is_valid() == Some(true));
}
