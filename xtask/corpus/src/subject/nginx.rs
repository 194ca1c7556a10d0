//! nginx: static pages, uploads (WebDAV), a text to compress, and a reverse proxy to four upstreams.

use std::{fs, path::PathBuf};

use anyhow::Result;

use super::Server;
use crate::place::{Place, USER};

/// Pages that users ask for.
pub(crate) const PAGES: u32 = 200;
const PAGE_BYTES: usize = 3 << 10;
/// Compressed anew for every costly request: some milliseconds of CPU time.
const TEXT_BYTES: usize = 96 << 10;

/// Where a page lies.
pub(crate) fn page_path(place: &Place, number: u32) -> PathBuf {
    place.data.join(format!("html/page/{number}.html"))
}

/// Where an uploaded file lies.
pub(crate) fn upload_path(number: u32) -> String {
    format!("/up/filler/{number}")
}

/// What a page says.
pub(crate) fn page(number: u32) -> String {
    prose(u64::from(number), PAGE_BYTES)
}

pub(super) fn prepare(server: &Server) -> Result<()> {
    let place = &server.place;
    let data = &place.data;
    for folder in ["html/page", "html/up", "html/up/filler", "temp"] {
        fs::create_dir_all(data.join(folder))?;
    }
    for number in 0..PAGES {
        fs::write(page_path(place, number), page(number))?;
    }
    fs::write(data.join("html/text.txt"), prose(7, TEXT_BYTES))?;
    for folder in ["html/up", "html/up/filler", "temp"] {
        nix::unistd::chown(&data.join(folder), Some(USER.into()), Some(USER.into()))?;
    }
    fs::write(data.join("nginx.conf"), text(server))?;
    Ok(())
}

pub(super) fn command(server: &Server) -> Vec<String> {
    let data = server.place.data.display();
    let program = crate::programs::find("nginx");
    [program.as_str(), "-e", "stderr", "-p", &format!("{data}"), "-c", &format!("{data}/nginx.conf")]
        .map(str::to_owned)
        .to_vec()
}

/// The newest child of the master.
pub(super) fn worker(master: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).ok()?;
    children.split_ascii_whitespace().last()?.parse().ok()
}

fn text(server: &Server) -> String {
    let data = server.place.data.display();
    let connections = server.limits.connections;
    let upstreams: String = (0..server.dependency_count())
        // Every failure is tried and told anew; by default an upstream that failed once is left out in silence for 10 s.
        .map(|number| format!("server {} max_fails=0;\n", server.dependency(number)))
        .collect();
    format!(
        "daemon off;\nworker_processes 1;\nerror_log stderr warn;\npid {data}/temp/pid;\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\naccess_log off;\ndefault_type text/html;\n\
         client_body_temp_path {data}/temp/body;\nproxy_temp_path {data}/temp/proxy;\n\
         fastcgi_temp_path {data}/temp/f;\nuwsgi_temp_path {data}/temp/u;\nscgi_temp_path {data}/temp/s;\n\
         client_header_timeout 300s;\nkeepalive_timeout 300s;\nkeepalive_requests 1000000;\n\
         client_max_body_size 4m;\nclient_body_buffer_size 16k;\n\
         upstream inventory {{\n{upstreams}keepalive 8;\n}}\n\
         server {{\nlisten {} backlog=256;\nroot {data}/html;\n\
         location /up/ {{ dav_methods PUT DELETE; create_full_put_path on; }}\n\
         location /text.txt {{ gzip on; gzip_comp_level 9; gzip_types *; gzip_proxied any; }}\n\
         location /stock/ {{\nproxy_pass http://inventory;\nproxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\nproxy_connect_timeout 300ms;\nproxy_read_timeout 2s;\n\
         proxy_next_upstream error timeout;\n}}\n\
         location = /status {{ stub_status; }}\n}}\n}}\n",
        server.address()
    )
}

/// Words that compress neither too well nor too badly.
fn prose(seed: u64, bytes: usize) -> String {
    const WORDS: [&str; 12] = [
        "harbour", "lantern", "copper", "meadow", "winter", "orchard", "signal", "thread", "marble",
        "willow", "anchor", "velvet",
    ];
    let mut text = String::with_capacity(bytes + 16);
    let mut n = seed.wrapping_add(1);
    while text.len() < bytes {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(n >> 33) as usize % WORDS.len()]);
        text.push_str(&format!(" {} ", n >> 54));
    }
    text
}
