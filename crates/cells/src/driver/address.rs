use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use forefend_domain::CellId;

/// How many addresses are tried; with few cells in 127.0.0.0/8 the first is free nearly always.
const TRIES: u32 = 64;

/// A loopback address of the cell's own: the same for the same `instance` and cell, unless somebody has it already.
///
/// # Errors
/// In words, when none is free.
pub(super) fn allot(
    instance: &str,
    cell: &CellId,
    port: u16,
    taken: &BTreeSet<SocketAddr>,
) -> Result<SocketAddr, String> {
    let mut last = String::from("all are taken");
    for attempt in 0..TRIES {
        let address = candidate(instance, cell, port, attempt);
        if taken.contains(&address) {
            continue;
        }
        // Somebody else's process, maybe a cell of another engine, would be found here.
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(e) => last = format!("{address}: {e}"),
        }
    }
    Err(format!("no loopback address is free for {cell}: {last}"))
}

/// 127.16.0.1 to 127.250.255.254: away from 127.0.0.1, which people use themselves.
fn candidate(instance: &str, cell: &CellId, port: u16, attempt: u32) -> SocketAddr {
    let hash = blake3::hash(format!("{instance}/{cell}/{attempt}").as_bytes());
    let [a, b, c, ..] = *hash.as_bytes();
    let ip = Ipv4Addr::new(127, 16 + a % 235, b, 1 + c % 254);
    SocketAddr::new(IpAddr::V4(ip), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_keeps_its_address_and_gets_another_only_when_that_is_taken() {
        let cell = CellId::new("shop-north-1").unwrap();
        let free = BTreeSet::new();
        let first = allot("i", &cell, 8080, &free).unwrap();
        assert_eq!(allot("i", &cell, 8080, &free).unwrap(), first);
        assert_ne!(allot("i", &cell, 8080, &BTreeSet::from([first])).unwrap(), first);
        let occupied = TcpListener::bind(first).unwrap();
        assert_ne!(allot("i", &cell, 8080, &free).unwrap(), first);
        drop(occupied);
    }
}
