//! Settings with a form of their own: one of several shapes.

use std::{net::SocketAddr, time::Duration};

use forefend_domain::{CellRole, DataPolicy, MetricName};
use serde_json::{Value as Json, json};

use crate::{
    reading::{Reading, Trail},
    schema::Definitions,
    setting::{Setting, quantity},
    tree::{Node, Value},
    units,
};

/// The version of the format. There is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version;

scalar!(
    Version,
    "version",
    "The version of the format: `1`.",
    json!({ "const": 1 }),
    "`1`",
    |text| if text == "1" {
        Ok(Version)
    } else {
        Err((
            format!("version `{text}` of the format is not known"),
            "this program reads `version: 1`".into(),
        ))
    },
    |_value| 1
);

/// What a cell of the file is for. Synthetic ones are made, not written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Carries traffic in normal times.
    Primary,
    /// Stands beside primaries.
    Secondary,
}

words!(Role, "role", "What a cell is for.", {
    "primary" => Role::Primary,
    "secondary" => Role::Secondary,
});

impl From<Role> for CellRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Primary => Self::Primary,
            Role::Secondary => Self::Secondary,
        }
    }
}

/// What is spoken to the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3), for gRPC among others.
    Http2,
}

words!(Protocol, "protocol", "`http1` is HTTP/1.1, `http2` is HTTP/2 with prior knowledge (gRPC speaks it).", {
    "http1" => Protocol::Http1,
    "http2" => Protocol::Http2,
});

/// What tells one user from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// Nothing: each request is placed by itself.
    None,
    /// The client's address.
    ClientAddress,
    /// The value of a header.
    Header(
        /// Its name.
        String,
    ),
    /// The value of a cookie.
    Cookie(
        /// Its name.
        String,
    ),
}

impl Setting for Sticky {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        const REMEDY: &str = "write `none`, `client-address`, `{ header: NAME }` or `{ cookie: NAME }`";
        if let Value::Map(entries) = &node.value {
            cx.section(node, at, &["header", "cookie"])?;
            if entries.len() != 1 {
                cx.wrong(node, at, "users are told apart by one thing", REMEDY);
                return None;
            }
            let (key, value) = &entries[0];
            let at = at.key(key);
            let name = cx.text(value, &at, "its name")?.to_owned();
            // RFC 9110 §5.6.2: names of headers and (RFC 6265 §4.1.1) of cookies are tokens.
            if name.is_empty()
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
            {
                cx.wrong(
                    value,
                    &at,
                    format!("`{name}` can't be the name of a {key}"),
                    "use letters, digits and `-`",
                );
                return None;
            }
            return match key.as_str() {
                "header" => Some(Self::Header(name)),
                "cookie" => Some(Self::Cookie(name)),
                _ => None,
            };
        }
        match cx.text(node, at, REMEDY.trim_start_matches("write "))? {
            "none" => Some(Self::None),
            "client-address" => Some(Self::ClientAddress),
            other => {
                cx.wrong(node, at, format!("`{other}` tells no users apart"), REMEDY);
                None
            }
        }
    }
    fn schema(defs: &mut Definitions) -> Json {
        let name = json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" });
        let one = |key: &str| json!({ "type": "object", "properties": { key: name }, "required": [key], "additionalProperties": false });
        defs.scalar(
            "sticky",
            "`none`, `client-address`, `{ header: NAME }` or `{ cookie: NAME }`.",
            json!({ "anyOf": [{ "enum": ["none", "client-address"] }, one("header"), one("cookie")] }),
        )
    }
    fn shown(&self) -> Json {
        match self {
            Self::None => "none".into(),
            Self::ClientAddress => "client-address".into(),
            Self::Header(name) => json!({ "header": name }),
            Self::Cookie(name) => json!({ "cookie": name }),
        }
    }
}

/// One address or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen(
    /// At least one.
    pub Vec<SocketAddr>,
);

impl Setting for Listen {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        if !matches!(node.value, Value::List(_)) {
            return SocketAddr::read(node, at, cx).map(|address| Self(vec![address]));
        }
        Vec::read(node, at, cx).map(Self)
    }
    fn schema(defs: &mut Definitions) -> Json {
        let one = SocketAddr::schema(defs);
        defs.scalar(
            "addresses",
            "One address with its port, or a list of them.",
            json!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": one }] }),
        )
    }
    fn shown(&self) -> Json {
        match self.0.as_slice() {
            [one] => one.shown(),
            several => several.iter().map(Setting::shown).collect(),
        }
    }
}

/// A limit of a metric, in the metric's own unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// What the metric is compared with: bytes, seconds, a ratio, a rate per second, or the number as written.
    pub value: f64,
    written: String,
}

scalar!(
    Limit,
    "limit",
    "A size (compared in bytes), a duration (in seconds), a percentage (as a ratio), a rate (per second), or a number in the metric's own unit.",
    json!({ "type": ["string", "number"] }),
    "a limit, for example `96MiB`",
    |text| {
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
        let value = number
            .or_else(|| units::size(text).ok().map(|b| b as f64))
            .or_else(|| units::duration(text).ok().map(|d| d.as_secs_f64()))
            .or_else(|| units::percent(text).ok().map(|p| p as f64 / 1e6))
            .or_else(|| units::rate(text).ok());
        value.map(|value| Limit { value, written: text.to_owned() }).ok_or_else(|| {
            let remedy = "write a size (`96MiB`), a duration (`2s`), a percentage (`90%`), a rate (`400/s`) or a number";
            (format!("`{text}` is not a limit"), remedy.into())
        })
    },
    |value| value.written.clone()
);

/// What the service's data allows.
#[derive(Debug, Clone, PartialEq)]
pub enum DataRule {
    /// Cells share no state that must follow the traffic.
    Stateless,
    /// Traffic never moves by prediction.
    Pinned,
    /// A standby may take traffic while its lag is inside the recovery point objective.
    Lag(LagRule),
}

section! {
    /// A standby may take traffic while this metric of it, a lag in seconds, is at most `rpo`. Unknown lag: it may not.
    pub struct LagRule {
        /// The metric that tells the lag in seconds.
        lag_metric: String,
        /// The recovery point objective.
        rpo: Duration,
    }
}

impl Setting for DataRule {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        const REMEDY: &str = "write `stateless`, `pinned` or `{ lag_metric: NAME, rpo: 5s }`";
        if matches!(node.value, Value::Map(_)) {
            return LagRule::read(node, at, cx).map(Self::Lag);
        }
        match cx.text(node, at, REMEDY.trim_start_matches("write "))? {
            "stateless" => Some(Self::Stateless),
            "pinned" => Some(Self::Pinned),
            other => {
                cx.wrong(node, at, format!("`{other}` says nothing about data"), REMEDY);
                None
            }
        }
    }
    fn schema(defs: &mut Definitions) -> Json {
        let lag = LagRule::schema(defs);
        defs.scalar(
            "data",
            "`stateless`: any standby may take traffic; `pinned`: traffic never moves by prediction; `{ lag_metric, rpo }`: while the lag is inside the objective.",
            json!({ "anyOf": [{ "enum": ["stateless", "pinned"] }, lag] }),
        )
    }
    fn shown(&self) -> Json {
        match self {
            Self::Stateless => "stateless".into(),
            Self::Pinned => "pinned".into(),
            Self::Lag(rule) => rule.shown(),
        }
    }
}

impl From<&DataRule> for DataPolicy {
    fn from(rule: &DataRule) -> Self {
        match rule {
            DataRule::Stateless => Self::Stateless,
            DataRule::Pinned => Self::Pinned,
            DataRule::Lag(lag) => Self::Lag { metric: MetricName::new(&lag.lag_metric), rpo: lag.rpo },
        }
    }
}

/// How fast traffic goes home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GiveBackRate {
    /// Basis points of the cell's home traffic per second.
    pub bp_per_second: u32,
}

scalar!(
    GiveBackRate,
    "weight-rate",
    "A share of traffic per second: `0.5%/s`; at most two decimals (one basis point).",
    json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,2})? ?% ?/ ?s$" }),
    "a share per second, for example `0.5%/s`",
    |text| {
        let remedy = || "write a share per second, for example `0.5%/s`".to_owned();
        text.split_once('/')
            .filter(|(_, time)| time.trim() == "s")
            .ok_or_else(|| (format!("`{text}` is not a share per second"), remedy()))
            .and_then(|(share, _)| quantity(units::percent(share)))
            .and_then(|units| match u32::try_from(units / 100) {
                Ok(bp_per_second) if units % 100 == 0 && bp_per_second <= 10_000 => {
                    Ok(GiveBackRate { bp_per_second })
                }
                _ => Err((
                    format!("`{text}` is finer than a basis point or more than 100% per second"),
                    remedy(),
                )),
            })
    },
    |value| format!("{}/s", units::show_percent(u64::from(value.bp_per_second) * 100))
);
