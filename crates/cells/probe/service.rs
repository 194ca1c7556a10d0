//! A service that answers what it is asked about its own confinement, and misbehaves on request. Plain threads and
//! sockets, so that nothing but the sandbox stands between it and the kernel.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
};

static ANSWERED: AtomicU32 = AtomicU32::new(0);

/// `service ADDRESS [never-ready|exit STATUS]`
pub(super) fn run(args: &[String]) {
    if args.get(1).map(String::as_str) == Some("exit") {
        println!("about to exit");
        std::process::exit(args.get(2).and_then(|s| s.parse().ok()).unwrap_or(3));
    }
    let never_ready = args.get(1).map(String::as_str) == Some("never-ready");
    let Some(address) = args.first() else { std::process::exit(2) };
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(e) => {
            eprintln!("{address}: {e}");
            std::process::exit(4);
        }
    };
    println!("listening on {address}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(&stream, never_ready));
    }
}

fn serve(stream: &TcpStream, never_ready: bool) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).unwrap_or(0) > 2 {
            header.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        let (status, body) = if never_ready { (503, "not ready".into()) } else { answer(&path) };
        let head = if request.starts_with("HEAD") { "" } else { body.as_str() };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{head}", body.len());
        if (&*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(path: &str) -> (u16, String) {
    let (action, argument) = path.split_once('?').unwrap_or((path, ""));
    let told = |result: std::io::Result<String>| match result {
        Ok(text) => (200, text),
        Err(e) => (403, format!("{:?}: {e}", e.kind())),
    };
    match action {
        "/" => {
            ANSWERED.fetch_add(1, Ordering::Relaxed);
            (200, "ok".into())
        }
        "/answered" => (200, ANSWERED.load(Ordering::Relaxed).to_string()),
        "/bad" => (500, "as asked".into()),
        "/read" => told(std::fs::read_to_string(argument)),
        "/list" => told(std::fs::read_dir(argument).map(|entries| {
            let names: Vec<String> =
                entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.join(" ")
        })),
        "/write" => told(std::fs::write(argument, "written").map(|()| "written".into())),
        "/connect" => told(TcpStream::connect(argument).map(|_| "connected".into())),
        "/bind" => told(TcpListener::bind(argument).map(|_| "bound".into())),
        "/env" => (200, std::env::vars().map(|(k, v)| format!("{k}={v}\n")).collect()),
        "/unshare" => told(
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)
                .map(|()| "unshared".into())
                .map_err(Into::into),
        ),
        "/threads" => {
            let count: usize = argument.parse().unwrap_or(0);
            let spawned = (0..count)
                .take_while(|_| std::thread::Builder::new().spawn(std::thread::park).is_ok())
                .count();
            (200, spawned.to_string())
        }
        "/print" => {
            println!("{}", "x".repeat(argument.parse().unwrap_or(0)));
            (200, "printed".into())
        }
        "/leak" => {
            std::thread::spawn(leak);
            (200, "leaking".into())
        }
        "/exit" => std::process::exit(argument.parse().unwrap_or(0)),
        _ => (404, "no such path".into()),
    }
}

fn leak() {
    loop {
        let mut chunk = vec![0u8; 1 << 20];
        for byte in chunk.iter_mut().step_by(4096) {
            *byte = 1;
        }
        std::mem::forget(std::hint::black_box(chunk));
    }
}
