use std::path::Path;

use crate::blueprint::{Blueprint, BlueprintError, EnvReference, EnvValue, Image};

/// Smallest memory limit that a process can start under.
const MIN_MEMORY_BYTES: u64 = 4 << 20;
const MAX_CONNECTIONS: u32 = 1_024;
const MAX_REPLAYED: u32 = 100_000;
const MAX_CONCURRENCY: u32 = 256;

/// Placeholders without an argument.
const PLACEHOLDERS: [&str; 10] =
    ["exe", "address", "ip", "port", "cell", "service", "zone", "region", "data", "tmp"];

impl Blueprint {
    /// Checks what types alone don't.
    ///
    /// # Errors
    /// [`BlueprintError`] with the first place that is wrong.
    pub fn validate(&self) -> Result<(), BlueprintError> {
        let check = |ok: bool, path: &str, what: &str| {
            if ok { Ok(()) } else { Err(self.error(path, what)) }
        };
        let program = self.command.first().map(String::as_str).unwrap_or_default();
        check(
            program.starts_with('/') || program == "{exe}",
            "command[0]",
            "must be the program's absolute path or `{exe}`",
        )?;
        for (i, argument) in self.command.iter().enumerate() {
            self.check_text(&format!("command[{i}]"), argument)?;
        }
        for (name, value) in &self.env {
            let path = format!("env.{name}");
            check(
                !name.is_empty() && !name.contains(['=', '\0']),
                &path,
                "is not a variable's name: it must be non-empty and hold no `=`",
            )?;
            match value {
                EnvValue::Text(text) => self.check_text(&path, text)?,
                EnvValue::Reference(EnvReference::FromEnv(from)) => {
                    check(!from.is_empty() && !from.contains(['=', '\0']), &path, "refers to no variable")?;
                }
                EnvValue::Reference(EnvReference::FromFile(file)) => {
                    check(file.is_absolute(), &path, "must refer to a file by its absolute path")?;
                }
            }
        }
        match &self.image {
            Image::Host { read_only } => {
                for (i, path) in read_only.iter().enumerate() {
                    check(
                        plain(path),
                        &format!("image.host.read_only[{i}]"),
                        "must be an absolute path without `..`, and not `/`",
                    )?;
                }
            }
            Image::Directory { path } => {
                check(
                    plain(path),
                    "image.directory.path",
                    "must be an absolute path without `..`, and not `/`",
                )?;
            }
        }
        check(
            !self.adjustable_clock || matches!(self.image, Image::Host { .. }),
            "adjustable_clock",
            "needs the image `host`: in one of its own there is no place for the library",
        )?;
        check(self.network.port != 0, "network.port", "must be from 1 to 65535")?;
        check(
            !self.network.connect_ports.contains(&0),
            "network.connect_ports",
            "must hold ports from 1 to 65535",
        )?;
        let resources = &self.resources;
        check(resources.memory.0 >= MIN_MEMORY_BYTES, "resources.memory", "must be at least 4MiB")?;
        check(
            (0.01..=1024.0).contains(&resources.cpu_share),
            "resources.cpu_share",
            "must be from 0.01 to 1024 cores",
        )?;
        check(resources.pids_max >= 1, "resources.pids_max", "must be at least 1")?;
        check(resources.open_files >= 16, "resources.open_files", "must be at least 16")?;
        check(resources.tmp.0 >= 4096, "resources.tmp", "must be at least 4KiB")?;
        check(!self.readiness.timeout.is_zero(), "readiness.timeout", "must be more than zero")?;
        check_path(self, "readiness.path", &self.readiness.path)?;
        self.validate_warm_up()
    }

    fn validate_warm_up(&self) -> Result<(), BlueprintError> {
        let plan = &self.warm_up;
        if plan.connect > MAX_CONNECTIONS {
            return Err(self.error("warm_up.connect", "must be at most 1024"));
        }
        if plan.request_timeout.is_zero() || plan.timeout.is_zero() {
            return Err(self.error("warm_up", "must have timeouts of more than zero"));
        }
        for (i, path) in plan.preload.iter().enumerate() {
            check_path(self, &format!("warm_up.preload[{i}]"), path)?;
        }
        for (i, replay) in plan.replay.iter().enumerate() {
            let at = |field: &str| format!("warm_up.replay[{i}].{field}");
            check_path(self, &at("path"), &replay.path)?;
            if !(1..=MAX_REPLAYED).contains(&replay.count) {
                return Err(self.error(&at("count"), "must be from 1 to 100000"));
            }
            if !(1..=MAX_CONCURRENCY).contains(&replay.concurrency) {
                return Err(self.error(&at("concurrency"), "must be from 1 to 256"));
            }
            if replay.expect_status.is_some_and(|status| !(100..=599).contains(&status)) {
                return Err(self.error(&at("expect_status"), "must be a status from 100 to 599"));
            }
        }
        Ok(())
    }

    fn check_text(&self, path: &str, text: &str) -> Result<(), BlueprintError> {
        if text.contains('\0') {
            return Err(self.error(path, "must not hold a NUL character"));
        }
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            rest = &rest[open + 1..];
            let Some(close) = rest.find('}') else { break };
            let placeholder = &rest[..close];
            // Braces that hold no word (JSON, say) are not meant as a placeholder.
            if placeholder.is_empty()
                || !placeholder.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
            {
                continue;
            }
            let known = match placeholder.strip_prefix("dependency:") {
                Some(name) => self.dependencies.contains_key(name),
                None => PLACEHOLDERS.contains(&placeholder),
            };
            if !known {
                return Err(self.error(
                    path,
                    &format!(
                        "holds the unknown placeholder {{{placeholder}}}; known are {} and dependency:NAME with a NAME \
                         from `dependencies`",
                        PLACEHOLDERS.join(", ")
                    ),
                ));
            }
            rest = &rest[close + 1..];
        }
        Ok(())
    }

    fn error(&self, path: &str, what: &str) -> BlueprintError {
        BlueprintError { name: self.name.to_string(), path: path.to_owned(), what: what.to_owned() }
    }
}

fn check_path(blueprint: &Blueprint, at: &str, path: &str) -> Result<(), BlueprintError> {
    if path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(blueprint.error(at, "must begin with `/` and hold no white space"))
    }
}

fn plain(path: &Path) -> bool {
    use std::path::Component;
    path.is_absolute()
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
        && path.components().count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Blueprint {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_small_blueprint_has_sensible_defaults_and_a_hash_of_its_content_alone() {
        let short = parse(r#"{"name":"shop","command":["/bin/shop"]}"#);
        short.validate().unwrap();
        let spelt_out: Blueprint = serde_json::from_value(serde_json::to_value(&short).unwrap()).unwrap();
        assert_eq!(short, spelt_out);
        assert_eq!(short.content_hash(), spelt_out.content_hash());
        let other = parse(r#"{"name":"shop","command":["/bin/shop"],"stop_grace":"6s"}"#);
        assert_ne!(short.content_hash(), other.content_hash());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        for (json, place) in [
            (r#"{"name":"x","command":[]}"#, "command[0]"),
            (r#"{"name":"x","command":["shop"]}"#, "command[0]"),
            (r#"{"name":"x","command":["/x","{colour}"]}"#, "command[1]"),
            (r#"{"name":"x","command":["/x","{dependency:db}"]}"#, "command[1]"),
            (r#"{"name":"x","command":["/x"],"network":{"port":0}}"#, "network.port"),
            (r#"{"name":"x","command":["/x"],"resources":{"memory":"1MiB"}}"#, "resources.memory"),
            (r#"{"name":"x","command":["/x"],"resources":{"cpu_share":0.0}}"#, "resources.cpu_share"),
            (r#"{"name":"x","command":["/x"],"image":{"host":{"read_only":["/a/../etc"]}}}"#, "read_only[0]"),
            (
                r#"{"name":"x","command":["/x"],"image":{"directory":{"path":"/i"}},"adjustable_clock":true}"#,
                "adjustable_clock",
            ),
            (
                r#"{"name":"x","command":["/x"],"warm_up":{"replay":[{"path":"/","count":0}]}}"#,
                "replay[0].count",
            ),
            (r#"{"name":"x","command":["/x"],"readiness":{"path":"ready"}}"#, "readiness.path"),
            (r#"{"name":"x","command":["/x"],"env":{"A":"{B}"}}"#, "env.A"),
        ] {
            let why = parse(json).validate().unwrap_err().to_string();
            assert!(why.contains(place), "{json}: {why}");
        }
        for json in [
            r#"{"name":"x","command":["/x"],"colour":1}"#,
            r#"{"name":"x","command":["/x"],"stop_grace":5}"#,
            r#"{"name":"x","command":["/x"],"warm_up":{"replay":[{"method":"POST","path":"/","count":1}]}}"#,
        ] {
            assert!(serde_json::from_str::<Blueprint>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn braces_that_hold_no_word_are_left_alone() {
        parse(r#"{"name":"x","command":["/x","{\"a\": {}}","{port}"]}"#).validate().unwrap();
    }
}
