//! Settings that are one word or number.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use forefend_domain::{BlueprintName, CellId, Probability, Rate, RegionId, ServiceId, Weight, ZoneId};
use serde_json::{Value as Json, json};

use crate::{
    reading::{Reading, Trail},
    schema::Definitions,
    setting::{Name, Setting},
    tree::Node,
    units,
};

/// What is wrong and what would be right, as [`crate::scalar!`] wants them.
pub(crate) fn quantity<T>(result: Result<T, units::NotAQuantity>) -> Result<T, (String, String)> {
    result.map_err(|e| (e.what, e.remedy))
}

/// A time with its unit (`10s`), for shapes that hold one.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn duration(text: &str) -> Result<Duration, (String, String)> {
    quantity(units::duration(text))
}

/// A size with its unit (`96MiB`) in bytes, for shapes that hold one.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn size(text: &str) -> Result<u64, (String, String)> {
    quantity(units::size(text))
}

scalar!(
    Duration,
    "duration",
    "A time with its unit: `250ms`, `10s`, `5m`, `1h`, `1d`, `1m30s`. Exact to the nanosecond, at most a year.",
    json!({ "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)? ?(d|h|m|s|ms|us|ns) ?)+$" }),
    "a duration, for example `10s`",
    |text| duration(text),
    |value| units::show_duration(*value)
);

/// A size in bytes, written with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(
    /// In bytes.
    pub u64,
);

scalar!(
    Size,
    "size",
    "A number of bytes with its unit: powers of 1024 (`KiB`, `MiB`, `GiB`, `TiB`), powers of 1000 (`KB`, `MB`, `GB`, `TB`), or `B`.",
    json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([KMGT]iB|[KMGT]B|B)$" }),
    "a size, for example `96MiB`",
    |text| size(text).map(Size),
    |value| units::show_size(value.0)
);

/// An amount of CPU time, written as a share of one core or as a number of cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu {
    /// In thousandths of a core.
    pub milli_cores: u32,
}

scalar!(
    Cpu,
    "cpu",
    "An amount of CPU: a share of one core (`50%`, `150%`) or a number of cores (`1.5 cores`).",
    json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?(%|cores?)$" }),
    "an amount of CPU, for example `50%` or `1.5 cores`",
    |text| quantity(units::cpu(text)).map(|milli_cores| Cpu { milli_cores }),
    |value| units::show_cpu(value.milli_cores)
);

const PERCENT_PATTERN: &str = "^[0-9]+(\\.[0-9]{1,4})? ?%$";

fn at_most_all(text: &str) -> Result<u64, (String, String)> {
    let units = quantity(units::percent(text))?;
    if units > 1_000_000 {
        return Err((format!("`{text}` is more than 100%"), "write a share from `0%` to `100%`".into()));
    }
    Ok(units)
}

/// A share of a whole that is not traffic: of requests, of capacity.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// The nearest share of so many percent; limited to 0–100.
    #[must_use]
    pub fn percent(percent: f64) -> Self {
        Self(percent.clamp(0.0, 100.0) / 100.0)
    }

    /// As a number from 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

fn millionths(share: f64) -> u64 {
    // `as` saturates and maps NaN to 0; both types hold shares from 0 to 1 only.
    (share * 1e6).round() as u64
}

scalar!(
    Share,
    "percentage",
    "A share with its unit, from `0%` to `100%`, at most four decimals.",
    json!({ "type": "string", "pattern": PERCENT_PATTERN }),
    "a percentage, for example `5%`",
    |text| at_most_all(text).map(|units| Share(units as f64 / 1e6)),
    |value| units::show_percent(millionths(value.0))
);
scalar!(
    Probability,
    "percentage",
    "A share with its unit, from `0%` to `100%`, at most four decimals.",
    json!({ "type": "string", "pattern": PERCENT_PATTERN }),
    "a percentage, for example `60%`",
    |text| at_most_all(text).map(|units| Probability::clamped(units as f64 / 1e6, Probability::ZERO)),
    |value| units::show_percent(millionths(value.get()))
);
scalar!(
    Weight,
    "weight",
    "A share of traffic, from `0%` to `100%`, at most two decimals (one basis point).",
    json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,2})? ?%$" }),
    "a percentage, for example `25%`",
    |text| at_most_all(text).and_then(|units| {
        if units % 100 == 0 {
            Ok(Weight::from_share(units as f64 / 1e6))
        } else {
            Err((
                format!("`{text}` is finer than a basis point"),
                "weights have at most two decimals: `33.33%`".into(),
            ))
        }
    }),
    |value| units::show_percent(u64::from(value.bp()) * 100)
);
scalar!(
    Rate,
    "rate",
    "Events per time: `400/s`, `24000/m`, `1000/h`.",
    json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?/ ?[smh]$" }),
    "a rate, for example `400/s`",
    |text| quantity(units::rate(text))
        .and_then(|r| Rate::per_second(r).map_err(|e| (e.to_string(), "write `400/s`".into()))),
    |value| units::show_rate(value.get())
);
scalar!(
    bool,
    "yes or no",
    "`true` or `false`.",
    json!({ "type": "boolean" }),
    "`true` or `false`",
    |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err((format!("`{text}` is neither `true` nor `false`"), "write `true` or `false`".into())),
    },
    |value| *value
);
scalar!(
    u32,
    "number",
    "A whole number without a unit.",
    json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
    "a whole number",
    |text| text.parse().map_err(|_| (
        format!("`{text}` is not a whole number from 0 to {}", u32::MAX),
        "write digits only, for example `3`".into()
    )),
    |value| *value
);
scalar!(
    u16,
    "port",
    "A number from 0 to 65535 without a unit.",
    json!({ "type": "integer", "minimum": 0, "maximum": u16::MAX }),
    "a number from 0 to 65535",
    |text| text.parse().map_err(|_| (
        format!("`{text}` is not a whole number from 0 to 65535"),
        "write digits only, for example `9100`".into()
    )),
    |value| *value
);
scalar!(
    String,
    "text",
    "Any text; in quotes when it begins with one of `{ [ & * ! | > ' \" % @` or holds `: ` or ` #`.",
    json!({ "type": ["string", "number", "boolean"] }),
    "a text",
    |text| Ok(text.to_owned()),
    |value| value.clone()
);
scalar!(
    SocketAddr,
    "address",
    "An IP address and a port: `127.0.0.1:8080`, `[::1]:8080`.",
    json!({ "type": "string", "pattern": "^([0-9.]+|\\[[0-9a-fA-F:.%]+\\]):[0-9]{1,5}$" }),
    "an address with its port, for example `127.0.0.1:8080`",
    |text| text.parse::<SocketAddr>().map_err(|_| address_remedy(text)),
    |value| value.to_string()
);

fn address_remedy(text: &str) -> (String, String) {
    let what = format!("`{text}` is not an IP address with a port");
    let remedy = if text.parse::<std::net::IpAddr>().is_ok() {
        "add the port: `127.0.0.1:8080`, `[::1]:8080`".to_owned()
    } else if text.parse::<u16>().is_ok() {
        format!("write the address too: `127.0.0.1:{text}`")
    } else if let Some(port) = text.strip_prefix("localhost:") {
        format!("write `127.0.0.1:{port}`: names are not resolved")
    } else if text.contains("://") {
        "write the address only, without `http://` and path: `127.0.0.1:8080`".to_owned()
    } else {
        "write it like `127.0.0.1:8080` or `[::1]:8080`; names are not resolved".to_owned()
    };
    (what, remedy)
}

impl Setting for PathBuf {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        let text = cx.text(node, at, "a path, for example `/etc/app`")?;
        if text.is_empty() || text.contains('\0') {
            cx.wrong(node, at, "an empty path is no path", "write a path, or leave the key out");
            return None;
        }
        Some(cx.resolve(text))
    }
    fn schema(defs: &mut Definitions) -> Json {
        defs.scalar(
            "path",
            "A path of this machine; a relative one is relative to the directory of the file.",
            json!({ "type": "string", "minLength": 1 }),
        )
    }
    fn shown(&self) -> Json {
        self.display().to_string().into()
    }
}

macro_rules! domain_name {
    ($($type:ident),*) => {$(
        impl Name for $type {
            const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
            fn of(text: &str) -> Result<Self, String> {
                $type::new(text).map_err(|e| e.to_string())
            }
            fn text(&self) -> &str {
                self.as_str()
            }
        }
        scalar!(
            $type, "name",
            "A name: 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit.",
            json!({ "type": "string", "pattern": <$type as Name>::PATTERN }),
            "a name",
            |text| $type::new(text).map_err(|e| (e.to_string(), "choose another name".into())),
            |value| value.as_str()
        );
    )*};
}
domain_name!(BlueprintName, CellId, RegionId, ServiceId, ZoneId);
