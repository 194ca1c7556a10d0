use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What the command line looks like.
pub const USAGE: &str = "usage: shop --kind shop|inventory --listen ADDR:PORT --data DIR [--inventory ADDR:PORT] \
[--zone NAME] [--control-token TOKEN] [--base-delay-ms MS]\n\
The token may be given in the variable SHOP_CONTROL_TOKEN instead. Without a token no fault can be set.";

/// Which of the two services a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers customers; calls the inventory.
    Shop,
    /// Answers shops.
    Inventory,
}

impl Kind {
    /// The name as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Inventory => "inventory",
        }
    }
}

/// The command line as values.
#[derive(Debug, Clone)]
pub struct Args {
    /// Which service.
    pub kind: Kind,
    /// Where to listen. Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The inventory of the same zone; `Some` for every shop.
    pub inventory: Option<SocketAddr>,
    /// The directory for the log of executed requests; must exist or be creatable.
    pub data: PathBuf,
    /// The zone's name, told in answers.
    pub zone: String,
    /// Who may set faults; `None`: nobody.
    pub control_token: Option<String>,
    /// How long the inventory takes without faults.
    pub base_delay: Duration,
}

impl Args {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    /// In words: which argument is wrong and what would be right.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut kind, mut listen, mut inventory, mut data) = (None, None, None, None);
        let mut zone = String::from("unknown");
        let mut control_token = std::env::var("SHOP_CONTROL_TOKEN").ok();
        let mut base_delay = Duration::from_millis(2);
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--kind" => {
                    kind = Some(match value.as_str() {
                        "shop" => Kind::Shop,
                        "inventory" => Kind::Inventory,
                        other => return Err(format!("--kind is shop or inventory, not {other:?}")),
                    });
                }
                "--listen" => listen = Some(address(&name, &value)?),
                "--inventory" => inventory = Some(address(&name, &value)?),
                "--data" => data = Some(PathBuf::from(value)),
                "--zone" => zone = value,
                "--control-token" => control_token = Some(value),
                "--base-delay-ms" => {
                    let ms: u64 = value
                        .parse()
                        .ok()
                        .filter(|ms| *ms <= 60_000)
                        .ok_or_else(|| format!("{name} is a number from 0 to 60000, not {value:?}"))?;
                    base_delay = Duration::from_millis(ms);
                }
                other => return Err(format!("there is no argument {other:?}")),
            }
        }
        let kind = kind.ok_or("--kind is missing")?;
        if kind == Kind::Shop && inventory.is_none() {
            return Err("a shop needs --inventory, the address of its zone's inventory".into());
        }
        let control_token = control_token.filter(|token| !token.is_empty());
        Ok(Self {
            kind,
            listen: listen.ok_or("--listen is missing")?,
            inventory,
            data: data.ok_or("--data is missing")?,
            zone,
            control_token,
            base_delay,
        })
    }
}

fn address(name: &str, value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| format!("{name} is an address and a port like 127.0.0.1:8080, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (line, named) in [
            ("", "--kind"),
            ("--kind", "--kind needs a value"),
            ("--kind bank", "bank"),
            ("--kind inventory --listen here --data /d", "here"),
            ("--kind shop --listen 127.0.0.1:0 --data /d", "--inventory"),
            ("--kind inventory --listen 127.0.0.1:0", "--data"),
            ("--kind inventory --base-delay-ms -1", "-1"),
            ("--colour red", "--colour"),
        ] {
            let why = parse(line).unwrap_err();
            assert!(why.contains(named), "{line:?} gave {why:?}");
        }
        let args = parse("--kind inventory --listen 127.0.0.1:0 --data /d --zone north-1").unwrap();
        assert_eq!((args.kind, args.zone.as_str()), (Kind::Inventory, "north-1"));
    }
}
