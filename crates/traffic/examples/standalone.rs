//! A director with no engine, for a first look and for measurements:
//! `standalone --listen 127.0.0.1:8080 --cell 127.0.0.1:9001=9000 --cell 127.0.0.1:9002=1000 --state DIR [--workers N]`.

use std::{net::SocketAddr, path::PathBuf};

use forefend_domain::Weight;
use forefend_traffic::{Protocol, ServiceSettings, standalone};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut listen: Option<SocketAddr> = None;
    let mut cells: Vec<(SocketAddr, Weight)> = Vec::new();
    let mut state: Option<PathBuf> = None;
    let mut workers = 1;
    let mut settings = ServiceSettings::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => listen = Some(value.parse()?),
            "--state" => state = Some(value.into()),
            "--workers" => workers = value.parse()?,
            "--protocol" if value == "http2" => settings.protocol = Protocol::Http2,
            "--cell" => {
                let (address, weight) = value.split_once('=').ok_or("--cell takes ADDRESS=BASIS_POINTS")?;
                cells.push((address.parse()?, Weight::from_bp(weight.parse()?)?));
            }
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let listen = listen.ok_or("--listen is missing")?;
    let state = state.ok_or("--state is missing")?;
    Ok(standalone(listen, &cells, settings, &state, workers)?)
}
