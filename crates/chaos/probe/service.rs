use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde::Deserialize;

/// How the service is run.
#[derive(Deserialize)]
pub(crate) struct Options {
    /// Where it listens.
    listen: SocketAddr,
    /// Where it writes.
    data: PathBuf,
    /// What it depends on.
    dependency: Option<SocketAddr>,
    /// Files to write itself into first: its control groups.
    join: Vec<PathBuf>,
    /// So many connections are served at once; more wait.
    workers: usize,
    /// The certificate that it has read last.
    certificate: Option<PathBuf>,
}

pub(crate) fn serve(options: &Options) {
    for file in &options.join {
        fs::write(file, "0").unwrap();
    }
    let listener = TcpListener::bind(options.listen).unwrap();
    println!("serving");
    // Whoever started it is gone: so is it.
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    thread::scope(|scope| {
        for _ in 0..options.workers {
            scope.spawn(|| {
                loop {
                    if let Ok((stream, _)) = listener.accept() {
                        // A client that goes away is no matter of ours.
                        let _ = talk(&stream, options);
                    }
                }
            });
        }
    });
}

fn talk(stream: &TcpStream, options: &Options) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while lines.read_line(&mut header)? > 0 && header.trim() != "" {
            header.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or("/");
        let (status, body) = match answer(path, options) {
            Ok(body) => ("200 OK", body),
            Err(e) => ("500 Internal Server Error", e.to_string()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        (&*stream).write_all(format!("{head}{body}").as_bytes())?;
    }
}

fn answer(path: &str, options: &Options) -> std::io::Result<String> {
    let (what, argument) = path.split_once('?').unwrap_or((path, ""));
    let begun = Instant::now();
    let took_us = |begun: Instant| begun.elapsed().as_micros().to_string();
    match what {
        "/" => Ok("well".to_owned()),
        // So much work that a quota is felt; told in microseconds that it took.
        "/work" => {
            let mut x = 1u64;
            for i in 0..4_000_000u64 {
                x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i));
            }
            Ok(took_us(begun))
        }
        "/bytes" => Ok("x".repeat(argument.parse().unwrap_or(1))),
        "/write" => {
            let file = options.data.join("written");
            fs::write(&file, vec![7; 64 << 10])?;
            fs::remove_file(&file)?;
            Ok(took_us(begun))
        }
        // Past the page cache, so that the disk is felt.
        "/write-through" => {
            let path = options.data.join("written-through");
            let mut file =
                File::options().create(true).write(true).truncate(true).custom_flags(SYNC).open(&path)?;
            file.write_all(&vec![7; 256 << 10])?;
            fs::remove_file(&path)?;
            Ok(took_us(begun))
        }
        "/memory" => {
            let bytes: usize = argument.parse().unwrap_or(0);
            Ok(vec![1u8; bytes].iter().map(|b| u64::from(*b)).sum::<u64>().to_string())
        }
        "/files" => {
            let files: Vec<File> = (0..argument.parse().unwrap_or(1))
                .map(|_| File::open("/dev/null"))
                .collect::<Result<_, _>>()?;
            Ok(files.len().to_string())
        }
        "/threads" => {
            let count: usize = argument.parse().unwrap_or(1);
            let started: Vec<_> = (0..count)
                .map(|_| thread::Builder::new().spawn(|| thread::sleep(Duration::from_millis(50))))
                .collect::<Result<_, _>>()?;
            started.into_iter().for_each(|t| t.join().unwrap());
            Ok(count.to_string())
        }
        "/dependency" => {
            let to = options.dependency.ok_or(std::io::ErrorKind::NotFound)?;
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n")?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            if &head[9..] == b"200" {
                Ok(took_us(begun))
            } else {
                Err(std::io::Error::other("the dependency failed"))
            }
        }
        // A question for a name to this server; told is the code of the answer (RFC 1035 §4.1.1).
        "/resolve" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.send_to(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04name\x04test\0\0\x01\0\x01", argument)?;
            let mut answer = [0; 512];
            socket.recv_from(&mut answer)?;
            Ok((answer[3] & 0x0f).to_string())
        }
        "/time" => {
            let now =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(std::io::Error::other)?;
            Ok(now.as_millis().to_string())
        }
        "/certificate" => {
            let path = options.certificate.as_deref().unwrap_or(Path::new("/nonexistent"));
            fs::read_to_string(path)
        }
        _ => Err(std::io::ErrorKind::NotFound.into()),
    }
}

/// O_SYNC: written when it is on the disk (open(2)).
const SYNC: i32 = libc::O_SYNC;
