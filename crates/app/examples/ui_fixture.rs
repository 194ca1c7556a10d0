//! Serves the API and the dashboard with a made-up engine, to work on the dashboard and to take screenshots of it.
//!
//! ```text
//! cargo run -p forefend --example ui_fixture -- [--port 7979] [--at SECONDS] [--hold] [--token SECRET]
//! ```
//! `--at` begins the story there, `--hold` keeps it there.

use std::{net::Ipv4Addr, time::Duration};

use forefend::api::{ApiOptions, Role, Server, Token};

mod fixture;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let port: u16 = value("--port").map_or(Ok(7979), |p| p.parse())?;
    let from_s: f64 = value("--at").map_or(Ok(0.0), |t| t.parse())?;
    let speed = if args.iter().any(|a| a == "--hold") { 0.0 } else { 1.0 };
    let tokens = value("--token")
        .map(|secret| Token { name: "fixture".into(), secret: secret.clone(), role: Role::Operator })
        .into_iter()
        .collect();
    let telling = fixture::Telling { from_s, speed, tick: Duration::from_millis(500) };
    let fixture = fixture::Fixture::start(telling);
    let options = ApiOptions { listen: (Ipv4Addr::LOCALHOST, port).into(), tokens };
    let server = Server::bind(&options, fixture.handle.clone())?;
    println!(
        "made-up data at http://{}/ (one turn takes {} s)",
        server.local_addr(),
        fixture::story::CYCLE_S
    );
    server
        .run(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
    let commands = fixture.seen.lock().map_or(0, |seen| seen.len());
    let drills = fixture.drills_seen.lock().map_or(0, |seen| seen.len());
    println!("{commands} commands arrived, and {drills} for drills");
    Ok(())
}
