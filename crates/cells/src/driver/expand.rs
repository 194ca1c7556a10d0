use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use forefend_domain::Cell;

use crate::blueprint::{Blueprint, EnvReference, EnvValue};

/// What placeholders stand for.
pub(super) struct Values<'a> {
    pub(super) cell: &'a Cell,
    pub(super) address: SocketAddr,
    pub(super) exe: &'a Path,
    pub(super) data: &'a Path,
    pub(super) tmp: &'a Path,
    pub(super) dependencies: &'a BTreeMap<String, SocketAddr>,
}

impl Values<'_> {
    /// `text` with its placeholders replaced; what is no placeholder stays as it is.
    pub(super) fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            out.push_str(&rest[..open]);
            rest = &rest[open..];
            let replaced = rest.find('}').and_then(|close| Some((self.value(&rest[1..close])?, close)));
            match replaced {
                Some((value, close)) => {
                    out.push_str(&value);
                    rest = &rest[close + 1..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }

    fn value(&self, placeholder: &str) -> Option<String> {
        Some(match placeholder {
            "exe" => self.exe.display().to_string(),
            "address" => self.address.to_string(),
            "ip" => self.address.ip().to_string(),
            "port" => self.address.port().to_string(),
            "cell" => self.cell.id.to_string(),
            "service" => self.cell.service.to_string(),
            "zone" => self.cell.zone.to_string(),
            "region" => self.cell.region.to_string(),
            "data" => self.data.display().to_string(),
            "tmp" => self.tmp.display().to_string(),
            _ => self.dependencies.get(placeholder.strip_prefix("dependency:")?)?.to_string(),
        })
    }

    /// The cell's whole environment.
    pub(super) fn environment(&self, blueprint: &Blueprint) -> Result<Vec<(String, String)>, String> {
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("HOME".to_owned(), self.data.display().to_string()),
            ("TMPDIR".to_owned(), self.tmp.display().to_string()),
        ]);
        for (name, value) in &blueprint.env {
            let value = match value {
                EnvValue::Text(text) => self.expand(text),
                EnvValue::Reference(EnvReference::FromEnv(from)) => std::env::var(from)
                    .map_err(|e| format!("env.{name}: the engine's variable {from}: {e}"))?,
                EnvValue::Reference(EnvReference::FromFile(file)) => {
                    let text = std::fs::read_to_string(file)
                        .map_err(|e| format!("env.{name}: {}: {e}", file.display()))?;
                    text.trim_end_matches('\n').to_owned()
                }
            };
            if value.contains('\0') {
                return Err(format!("env.{name} holds a NUL character"));
            }
            env.insert(name.clone(), value);
        }
        Ok(env.into_iter().collect())
    }
}
