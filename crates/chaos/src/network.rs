//! Tables of the kernel's packet filter (nftables). Each fault has a table of its own, and what the table does hangs on a set
//! whose element times out in the kernel: with everybody killed at once, the packets pass again all the same.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::helper::once::{self, Once};

/// Marks the connections of our own hops, which no rule of ours touches. An arbitrary number that others are unlikely to use.
pub(crate) const MARK: u32 = 0x0f0f_efe0;

/// What a table does to packets to an address.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// Connections go to a hop instead.
    Hop(SocketAddr),
    /// This share of packets is lost; 1: all.
    Loss(f64),
}

/// Whose name lookups a table catches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of processes in a v2 control group.
    Group {
        /// Where the hierarchy is mounted.
        hierarchy: PathBuf,
        /// The group, relative to it.
        path: String,
    },
    /// Of a user.
    User(u32),
}

impl Whose {
    fn matching(&self) -> String {
        match self {
            Self::Group { path, .. } => {
                let level = path.split('/').filter(|p| !p.is_empty()).count();
                format!("socket cgroupv2 level {level} \"{path}\" ")
            }
            Self::User(uid) => format!("meta skuid {uid} "),
        }
    }
}

/// The name of a lease's table.
pub(crate) fn table_name(lease: &str) -> String {
    format!("forefend_{}", lease.replace('-', "_"))
}

/// The table, as `nft -f` reads it; it replaces one of the same name.
///
/// With `whose`, only connections that these processes make are touched.
pub(crate) fn traffic_table(
    name: &str,
    to: SocketAddr,
    whose: Option<&Whose>,
    rule: Rule,
    lasts: Duration,
) -> String {
    let (family, kind) = if to.is_ipv4() { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
    let chains = match rule {
        Rule::Hop(hop) => {
            let (host, port) = (bracketed(hop), hop.port());
            let who = whose.map(Whose::matching).unwrap_or_default();
            let mut chains = String::new();
            // What comes from other machines passes prerouting and input; processes of ours make their connections here.
            let hooks: &[(&str, &str, &str)] = match whose {
                Some(_) => &[("output", "output", "")],
                None => &[("output", "output", ""), ("prerouting", "input", "iif != lo ")],
            };
            for (redirect, cut, others) in hooks {
                chains += &format!(
                    "chain nat_{redirect} {{\n type nat hook {redirect} priority -105\n {who}meta mark != {MARK} \
                     {family} daddr . tcp dport @to dnat to {host}:{port}\n }}\n"
                );
                // Connections from before never saw the rule above: they are reset, so that nothing bypasses the hop.
                chains += &format!(
                    "chain cut_{cut} {{\n type filter hook {cut} priority 0\n {others}{who}meta mark != {MARK} \
                     {family} daddr . tcp dport @to reject with tcp reset\n }}\n"
                );
            }
            chains
        }
        Rule::Loss(share) => {
            let all = share >= 1.0;
            let of_10_000 = (share * 10_000.0).round().clamp(0.0, 10_000.0) as u32;
            let drawn = if all { String::new() } else { format!("numgen random mod 10000 < {of_10_000} ") };
            let mut chains = String::new();
            // Before connection tracking, so that a lost packet leaves no trace. Packets over loopback pass both hooks.
            for (hook, others) in [("output", ""), ("input", "iif != lo ")] {
                chains += &format!(
                    "chain {hook} {{\n type filter hook {hook} priority -300\n \
                     {others}{family} daddr . tcp dport @to {drawn}drop\n \
                     {others}{family} saddr . tcp sport @to {drawn}drop\n }}\n"
                );
            }
            chains
        }
    };
    let set = format!("set to {{\n type {kind} . inet_service\n flags timeout\n }}\n");
    format!(
        "add table {family} {name}\ndelete table {family} {name}\ntable {family} {name} {{\n{set}{chains}}}\n{}",
        element(family, name, &format!("{} . {}", to.ip(), to.port()), lasts)
    )
}

/// Makes the table's effect last for another while.
pub(crate) fn traffic_table_lasts(name: &str, to: SocketAddr, lasts: Duration) -> String {
    let family = if to.is_ipv4() { "ip" } else { "ip6" };
    let key = format!("{} . {}", to.ip(), to.port());
    format!("flush set {family} {name} to\n{}", element(family, name, &key, lasts))
}

/// Ends a redirection for connections that are yet to come. Those that go through the hop go on: as long as the table is
/// there, the kernel translates their addresses.
pub(crate) fn empty_table(name: &str, to: SocketAddr) -> io::Result<()> {
    let (family, kind) = if to.is_ipv4() { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
    // Made if it is not there, so that this can be done at any time; the table is removed afterwards.
    load(&format!(
        "add table {family} {name}\nadd set {family} {name} to {{\n type {kind} . inet_service\n flags timeout\n }}\n\
         flush set {family} {name} to\n"
    ))
}

/// A table that catches somebody's name lookups: over UDP they go to `hop` or, without one, get lost; over TCP they are
/// refused or lost.
pub(crate) fn lookup_table(name: &str, whose: &Whose, hop: Option<SocketAddr>, lasts: Duration) -> String {
    let who = whose.matching();
    let chains = match hop {
        Some(hop) => format!(
            "chain answered {{\n type nat hook output priority -105\n {who}udp dport @to dnat ip to {}:{}\n }}\n\
             chain refused {{\n type filter hook output priority 0\n {who}tcp dport @to reject with tcp reset\n }}\n",
            bracketed(hop),
            hop.port()
        ),
        None => format!(
            "chain lost {{\n type filter hook output priority -300\n {who}udp dport @to drop\n \
             {who}tcp dport @to drop\n }}\n"
        ),
    };
    let set = "set to {\n type inet_service\n flags timeout\n }\n";
    format!(
        "add table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{set}{chains}}}\n{}",
        element("inet", name, "53", lasts)
    )
}

/// Makes a lookup table's effect last for another while.
pub(crate) fn lookup_table_lasts(name: &str, lasts: Duration) -> String {
    format!("flush set inet {name} to\n{}", element("inet", name, "53", lasts))
}

fn element(family: &str, name: &str, key: &str, lasts: Duration) -> String {
    format!("add element {family} {name} to {{ {key} timeout {}ms }}\n", lasts.as_millis().max(1))
}

fn bracketed(address: SocketAddr) -> String {
    if address.is_ipv4() { address.ip().to_string() } else { format!("[{}]", address.ip()) }
}

/// Loads a text into the packet filter, all of it or nothing.
pub(crate) fn load(text: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("the program `nft` can't be run ({e}): install the package nftables"),
            )
        })?;
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let written = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("nft refused: {}", said.lines().next().unwrap_or("no reason given"))))
}

/// Loads a text that names control groups: `nft` looks for them where a host with v2 alone has them.
pub(crate) fn load_for(text: &str, whose: Option<&Whose>, program: &Path) -> io::Result<()> {
    match whose {
        Some(Whose::Group { hierarchy, .. }) if hierarchy != Path::new("/sys/fs/cgroup") => {
            once::run(program, &Once::Filter { text: text.to_owned(), hierarchy: hierarchy.clone() })
        }
        _ => load(text),
    }
}

/// Removes a table of ours; one that is not there is fine.
pub(crate) fn drop_table(name: &str) -> io::Result<()> {
    // Only the family that it has is there; adding first makes deleting the others harmless.
    let text: String = ["ip", "ip6", "inet"]
        .iter()
        .map(|family| format!("add table {family} {name}\ndelete table {family} {name}\n"))
        .collect();
    load(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_what_they_catch_and_for_how_long() {
        let to: SocketAddr = "127.0.1.5:8080".parse().unwrap();
        let hop: SocketAddr = "127.0.1.5:40001".parse().unwrap();
        let text = traffic_table("forefend_a", to, None, Rule::Hop(hop), Duration::from_secs(3));
        assert!(text.contains("dnat to 127.0.1.5:40001"), "{text}");
        assert!(text.contains("add element ip forefend_a to { 127.0.1.5 . 8080 timeout 3000ms }"), "{text}");
        let text = traffic_table("forefend_a", to, None, Rule::Loss(0.25), Duration::from_secs(3));
        assert!(text.contains("numgen random mod 10000 < 2500 drop"), "{text}");
        assert!(!traffic_table("forefend_a", to, None, Rule::Loss(1.0), Duration::ZERO).contains("numgen"));
        let to: SocketAddr = "[::1]:80".parse().unwrap();
        assert!(traffic_table("forefend_a", to, None, Rule::Loss(1.0), Duration::ZERO).contains("ip6 daddr"));
        let whose = Whose::Group { hierarchy: "/sys/fs/cgroup".into(), path: "forefend/shop-1".into() };
        let text = lookup_table("forefend_a", &whose, Some(hop), Duration::from_secs(1));
        assert!(
            text.contains("socket cgroupv2 level 2 \"forefend/shop-1\" udp dport @to dnat ip to"),
            "{text}"
        );
    }
}
