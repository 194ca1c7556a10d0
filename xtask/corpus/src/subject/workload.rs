use crate::{
    spec::{Random, Subject},
    subject::{nginx, postgres, redis},
    wire::command,
};

/// What users ask of a server.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    subject: Subject,
    random: Random,
    number: u64,
}

/// Rows that users of PostgreSQL write to: few, so that locks on them are felt.
const HOT_ROWS: u32 = 20;
/// Costs some milliseconds of CPU time, as a script that should not have gone live does.
const SCRIPT: &[u8] = b"local s = 0 for i = 1, 220000 do s = s + i % 7 end return s";

impl Workload {
    pub(crate) fn new(subject: Subject, seed: u64) -> Self {
        Self { subject, random: Random::from_seed(seed), number: 0 }
    }

    /// The simplest request: is it there at all?
    pub(crate) fn probe(&mut self) -> Vec<u8> {
        match self.subject {
            Subject::Nginx => get("/page/0.html", ""),
            Subject::Postgres => b"SELECT 1".to_vec(),
            Subject::Redis => command(&[b"PING"]),
            Subject::Shop => get("/ready", ""),
        }
    }

    /// The next request.
    pub(crate) fn draw(&mut self, heavy: bool, write: bool) -> Vec<u8> {
        self.number += 1;
        match self.subject {
            Subject::Nginx => self.nginx(heavy, write),
            Subject::Postgres => self.postgres(heavy, write),
            Subject::Redis => self.redis(heavy, write),
            Subject::Shop => self.shop(write),
        }
    }

    fn nginx(&mut self, heavy: bool, write: bool) -> Vec<u8> {
        if heavy {
            return get("/text.txt", "accept-encoding: gzip\r\n");
        }
        if write {
            let body = [b'u'; 1_500];
            let (number, size) = (self.number, body.len());
            let head = format!("PUT /up/{number} HTTP/1.1\r\nhost: corpus\r\ncontent-length: {size}\r\n\r\n");
            return [head.as_bytes(), &body].concat();
        }
        if self.random.chance(0.4) {
            return get(&format!("/stock/{}", self.random.pick(0, 2_000)), "");
        }
        get(&format!("/page/{}.html", self.random.pick(0, nginx::PAGES)), "")
    }

    fn postgres(&mut self, heavy: bool, write: bool) -> Vec<u8> {
        if heavy {
            // A pattern that no index serves.
            let part = self.random.pick(0, 4_096);
            return format!("SELECT count(*) FROM item WHERE md5(note) LIKE '%{part:03x}%'").into_bytes();
        }
        if write && self.random.chance(0.5) {
            return format!("UPDATE hot SET n = n + 1 WHERE id = {}", self.random.pick(1, HOT_ROWS + 1))
                .into_bytes();
        }
        if write {
            let item = self.random.pick(0, postgres::ITEMS);
            return format!("INSERT INTO orders (item, note) VALUES ({item}, repeat('o', 240))").into_bytes();
        }
        format!("SELECT 1000 / qty, note FROM item WHERE id = {}", self.random.pick(0, postgres::ITEMS))
            .into_bytes()
    }

    fn redis(&mut self, heavy: bool, write: bool) -> Vec<u8> {
        if heavy {
            return command(&[b"EVAL", SCRIPT, b"0"]);
        }
        let number = self.random.pick(0, redis::ITEMS);
        if write {
            let key = format!("cart:{number}");
            return command(&[b"SET", key.as_bytes(), b"[1,2,3,4,5,6,7,8]"]);
        }
        command(&[b"GET", &redis::item_key(number)])
    }

    fn shop(&mut self, write: bool) -> Vec<u8> {
        let item = self.random.pick(0, 2_000);
        let id = format!("x-request-id: {}-{}\r\n", self.random.pick(0, 1 << 30), self.number);
        if write {
            let body = format!("{{\"user\":\"u{}\",\"item\":{item}}}", self.random.pick(0, 500));
            return format!(
                "POST /cart HTTP/1.1\r\nhost: corpus\r\n{id}content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes();
        }
        get(&format!("/item/{item}"), &id)
    }
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: corpus\r\n{headers}\r\n").into_bytes()
}
