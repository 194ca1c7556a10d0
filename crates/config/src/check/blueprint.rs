use std::{
    path::{Component, Path},
    time::Duration,
};

use super::Check;
use crate::{
    model::{BlueprintConfig, Dependency, EnvValue, Image, WarmUp},
    reading::{Trail, suggestion},
    setting::Size,
};

/// What is replaced in commands, variables and paths of a blueprint.
const PLACEHOLDERS: [&str; 10] =
    ["exe", "address", "ip", "port", "cell", "service", "zone", "region", "data", "tmp"];

impl Check<'_, '_, '_> {
    pub(super) fn blueprint(&mut self, at: &Trail<'_>, blueprint: &BlueprintConfig) {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let command = at.key("command");
        match blueprint.command.first() {
            None if self.reading.clean(&command) => {
                let remedy = "name a program and its arguments: `[/usr/bin/python3, -m, http.server]`";
                self.wrong(&command, "the command is empty", remedy);
            }
            Some(program) if !program.starts_with('/') && program != "{exe}" => {
                let what = format!("`{program}` is not an absolute path");
                let remedy = format!(
                    "write where the program is, for example `/usr/bin/{program}`: cells have no PATH"
                );
                self.wrong(&command.index(0), what, remedy);
            }
            _ => {}
        }
        for (i, argument) in blueprint.command.iter().enumerate() {
            self.placeholders(&command.index(i), argument, blueprint);
        }
        let env = at.key("env");
        for (name, value) in &blueprint.env {
            let at = env.key(name);
            self.variable(&at, name);
            match value {
                EnvValue::Text(text) => self.placeholders(&at, text, blueprint),
                EnvValue::Env(variable) => self.variable(&at.key("from_env"), variable),
                EnvValue::File(_) => {}
            }
        }
        self.image(&at.key("image"), &blueprint.image);
        if blueprint.adjustable_clock && matches!(blueprint.image, Image::Directory(_)) {
            self.wrong(
                &at.key("adjustable_clock"),
                "an image directory has no place for the library that this needs",
                "leave it out, or use the image `host`",
            );
        }
        self.dependencies(&at.key("dependencies"), blueprint);
        let network = at.key("network");
        self.port_number(&network.key("port"), blueprint.network.port);
        let connect = network.key("connect_ports");
        for (i, port) in blueprint.network.connect_ports.iter().enumerate() {
            self.port_number(&connect.index(i), *port);
        }
        let (resources, here) = (&blueprint.resources, at.key("resources"));
        self.range(&here.key("memory"), &resources.memory, Size(4 << 20), Size(1 << 50));
        self.range(&here.key("tmp"), &resources.tmp, Size(4 << 10), Size(1 << 50));
        if !(10..=1_024_000).contains(&resources.cpu.milli_cores) {
            let remedy = "choose a value from `1%` (of one core) to `1024 cores`";
            self.wrong(&here.key("cpu"), "this amount of CPU is out of range", remedy);
        }
        self.range(&here.key("pids"), &resources.pids, 1, 4_194_304);
        self.range(&here.key("open_files"), &resources.open_files, 16, 1_048_576);
        let readiness = at.key("readiness");
        self.request_path(&readiness.key("path"), &blueprint.readiness.path);
        self.range(&readiness.key("timeout"), &blueprint.readiness.timeout, ms(100), s(3_600));
        self.range(&at.key("stop_grace"), &blueprint.stop_grace, ms(0), s(600));
        self.warm_up(&at.key("warm_up"), &blueprint.warm_up);
    }

    fn warm_up(&mut self, at: &Trail<'_>, warm_up: &WarmUp) {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        self.range(&at.key("connect"), &warm_up.connect, 0, 1024);
        self.range(&at.key("timeout"), &warm_up.timeout, ms(100), s(3_600));
        self.range(&at.key("request_timeout"), &warm_up.request_timeout, ms(1), s(600));
        let preload = at.key("preload");
        for (i, path) in warm_up.preload.iter().enumerate() {
            self.request_path(&preload.index(i), path);
        }
        let replays = at.key("replay");
        for (i, replay) in warm_up.replay.iter().enumerate() {
            let at = replays.index(i);
            self.request_path(&at.key("path"), &replay.path);
            self.range(&at.key("count"), &replay.count, 1, 100_000);
            self.range(&at.key("concurrency"), &replay.concurrency, 1, 256);
            if replay.expect_status.is_some_and(|status| !(100..=599).contains(&status)) {
                self.wrong(
                    &at.key("expect_status"),
                    "no answer has this status",
                    "choose one from `100` to `599`",
                );
            }
        }
    }

    fn image(&mut self, at: &Trail<'_>, image: &Image) {
        let (host, directory) = (at.key("host"), at.key("directory"));
        match image {
            Image::Host(paths) => {
                for (i, path) in paths.iter().enumerate() {
                    self.plain(&host.index(i), path);
                }
            }
            Image::Directory(path) => self.plain(&directory, path),
        }
    }

    /// Relative paths were made absolute if the file was named by an absolute path; otherwise they are relative to the
    /// working directory, and only `..` and `/` can be told to be wrong.
    fn plain(&mut self, at: &Trail<'_>, path: &Path) {
        if path == Path::new("/") || path.components().any(|part| part == Component::ParentDir) {
            self.wrong(
                at,
                format!("`{}` can't be shown to a cell", path.display()),
                "name a path without `..`, and not `/`",
            );
        }
    }

    fn dependencies(&mut self, at: &Trail<'_>, blueprint: &BlueprintConfig) {
        let config = self.config;
        let known = self.reading.clean(&Trail::ROOT.key("services"));
        for (name, dependency) in &blueprint.dependencies {
            let at = at.key(name);
            match dependency {
                Dependency::Service(service) if known && !config.services.contains_key(service) => {
                    let remedy = suggestion(service.as_str(), config.services.keys().map(|s| s.as_str()));
                    self.wrong(&at.key("service"), format!("there is no service `{service}`"), remedy);
                }
                Dependency::Service(_) => {}
                Dependency::Address(address) => self.port_number(&at.key("address"), address.port()),
            }
        }
    }

    pub(super) fn port_number(&mut self, at: &Trail<'_>, port: u16) {
        if port == 0 {
            self.wrong(at, "port 0 is no port that anybody can know", "write a port from `1` to `65535`");
        }
    }

    /// Words in braces that look like placeholders and are none. Other braces (JSON, say) are left alone.
    fn placeholders(&mut self, at: &Trail<'_>, text: &str, blueprint: &BlueprintConfig) {
        if text.contains('\0') {
            self.wrong(at, "no program can be given a NUL character", "remove the `\\0`");
        }
        for part in text.split('{').skip(1) {
            let Some((name, _)) = part.split_once('}') else { continue };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c)) {
                continue;
            }
            if let Some(dependency) = name.strip_prefix("dependency:") {
                if !blueprint.dependencies.contains_key(dependency) {
                    let remedy = suggestion(dependency, blueprint.dependencies.keys().map(String::as_str));
                    self.wrong(at, format!("`dependencies` names no `{dependency}`"), remedy);
                }
            } else if !PLACEHOLDERS.contains(&name) {
                let remedy = suggestion(name, PLACEHOLDERS.into_iter());
                self.wrong(at, format!("`{{{name}}}` is not replaced by anything"), remedy);
            }
        }
    }
}
