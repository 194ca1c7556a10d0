//! A real nginx with a configuration of its own.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{PATIENCE, free_address, load, wait_for};

const NGINX: &str = "/usr/sbin/nginx";

/// Whether nginx is there. In CI it must be; elsewhere the test says that it is skipped.
pub fn is_there() -> bool {
    if Path::new(NGINX).exists() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{NGINX} is missing: install nginx-light");
    eprintln!("SKIPPED: {NGINX} is missing");
    false
}

/// One running nginx; dropped, it is gone.
pub struct Nginx {
    pub address: SocketAddr,
    process: Child,
}

impl Nginx {
    /// Serves a file under `dir`, with the header `x-cell: NAME` in each answer.
    pub fn start(dir: &Path, name: &str) -> Self {
        let address = free_address();
        let prefix = dir.join(name);
        std::fs::create_dir_all(prefix.join("html")).unwrap();
        std::fs::write(prefix.join("html/index.html"), format!("this is {name}\n")).unwrap();
        // One process: what kills it kills all of it.
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n  access_log off; default_type text/html;\n  client_body_temp_path t1; proxy_temp_path t2; \
             fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n  \
             server {{ listen {address}; root html; add_header x-cell {name}; }}\n}}\n"
        );
        std::fs::write(prefix.join("nginx.conf"), configuration).unwrap();
        let process = Command::new(NGINX)
            .arg("-p")
            .arg(&prefix)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { address, process };
        wait_for("nginx answers", PATIENCE, || {
            load::answers(address, "/", Duration::from_secs(1)).then_some(())
        });
        nginx
    }

    /// Lets it open its log files anew, as after a rotation.
    pub fn reopen_logs(&self) {
        super::processes::signal(
            i32::try_from(self.process.id()).unwrap(),
            nix::sys::signal::Signal::SIGUSR1,
        );
    }

    /// SIGKILL: connections are reset, nothing is said.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
