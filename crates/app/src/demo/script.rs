//! What is played: the acts, and the configuration that they are played on.

use std::{net::SocketAddr, path::Path, time::Duration};

/// An act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// A memory leak that ends in the kernel's OOM kill.
    Leak,
    /// A slow dependency: latency creeps until the objective breaks.
    SlowDependency,
    /// A load spike that harms nobody.
    Spike,
    /// A leak that ends by itself after the shift began.
    Recovery,
}

impl Act {
    pub(crate) fn from_letter(letter: char) -> Option<Self> {
        match letter {
            'a' => Some(Self::Leak),
            'b' => Some(Self::SlowDependency),
            'c' => Some(Self::Spike),
            'd' => Some(Self::Recovery),
            _ => None,
        }
    }

    /// As in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leak => "memory-leak",
            Self::SlowDependency => "slow-dependency",
            Self::Spike => "load-spike",
            Self::Recovery => "recovery",
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Leak => "a memory leak that ends in the kernel's OOM kill",
            Self::SlowDependency => "a slow dependency that makes latency creep",
            Self::Spike => "a harmless load spike",
            Self::Recovery => "a primary that recovers by itself",
        }
    }

    /// The letter that requests of the act carry.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Leak => 'a',
            Self::SlowDependency => 'b',
            Self::Spike => 'c',
            Self::Recovery => 'd',
        }
    }
}

/// Requests per second of the users.
pub(crate) const USERS_PER_S: f64 = 600.0;

/// How much more in the spike: well below what the cells can carry.
pub(crate) const SPIKE: f64 = 1.8;

/// Over this an answer is slow.
pub(crate) const LATENCY_OBJECTIVE: Duration = Duration::from_millis(250);

/// Bytes that the leaking cell loses per second: about ten seconds to its limit.
pub(crate) const LEAK_BYTES_PER_S: u64 = 8 << 20;

/// Milliseconds that the slow dependency grows slower by each second: about nine seconds to the objective.
pub(crate) const CREEP_MS_PER_S: f64 = 25.0;

/// The cell that the acts harm, and where its dependency runs.
pub(crate) const VICTIM: &str = "shop-north-a";
pub(crate) const VICTIMS_DEPENDENCY: &str = "inventory-north-a";

/// Who may set faults in the sample service.
pub(crate) const CONTROL_TOKEN: &str = "demo-control-token";

/// The configuration of the demo: state directory, and where API, shop and inventory listen.
#[must_use]
pub fn configuration(state_dir: &Path, api: SocketAddr, shop: SocketAddr, inventory: SocketAddr) -> String {
    let state_dir = state_dir.display();
    format!(
        r#"# Written by `forefend demo`: two regions of a shop whose cells call an inventory in their own zone.
version: 1
engine:
  state_dir: {state_dir}
  # A demo must be watchable: everything runs in fractions of seconds here that takes minutes elsewhere.
  tick: 250ms
  window: {{ step: 250ms, length: 15s }}
  api: {{ listen: "{api}" }}
director: {{ workers: 1 }}
regions:
  north: {{ zones: [north-a, north-b] }}
  south: {{ zones: [south-a] }}
blueprints:
  inventory:
    command: ["{{exe}}", shop, --kind, inventory, --listen, "{{address}}", --data, "{{data}}", --zone, "{{zone}}", --base-delay-ms, "20"]
    env: {{ SHOP_CONTROL_TOKEN: {CONTROL_TOKEN} }}
    network: {{ port: 8090 }}
    resources: {{ memory: 96MiB, cpu: 100%, pids: 32 }}
    readiness: {{ path: /ready, timeout: 10s }}
    stop_grace: 1s
  shop:
    command: ["{{exe}}", shop, --kind, shop, --listen, "{{address}}", --data, "{{data}}", --zone, "{{zone}}", --inventory, "{{dependency:inventory}}"]
    env: {{ SHOP_CONTROL_TOKEN: {CONTROL_TOKEN} }}
    dependencies: {{ inventory: {{ service: inventory }} }}
    network: {{ port: 8080 }}
    resources: {{ memory: 96MiB, cpu: 100%, pids: 32 }}
    readiness: {{ path: /ready, timeout: 10s }}
    warm_up:
      connect: 32
      preload: [/item/0]
      replay: [{{ path: "/item/{{n}}", count: 200, concurrency: 32 }}]
      min_ok: 100%
      timeout: 10s
    stop_grace: 1s
services:
  inventory:
    objective: {{ latency: 1s, failed_for: 2s }}
    listen: "{inventory}"
    health: {{ path: /healthz, interval: 500ms, timeout: 400ms }}
    probe: {{ path: /healthz, interval: 500ms, timeout: 500ms }}
    policy: {{ mode: observe }}
    cells:
      - {{ id: inventory-north-a, zone: north-a, blueprint: inventory }}
      - {{ id: inventory-north-b, zone: north-b, blueprint: inventory }}
      - {{ id: inventory-south-a, zone: south-a, blueprint: inventory }}
  shop:
    tier: standard
    objective: {{ latency: 250ms, slow_share: 1%, error_share: 1%, failed_for: 1s }}
    listen: "{shop}"
    sticky: {{ header: x-user }}
    timeouts: {{ per_try: 1s, request: 3s }}
    health: {{ path: /healthz, interval: 500ms, timeout: 400ms }}
    probe: {{ path: /item/1, interval: 250ms, timeout: 250ms }}
    telemetry:
      interval: 250ms
      timeout: 200ms
      metrics:
        - {{ name: process_resident_memory_bytes, family: saturation, unit: bytes }}
    cells:
      - {{ id: shop-north-a, zone: north-a, blueprint: shop }}
      - {{ id: shop-south-a, zone: south-a, blueprint: shop }}
    mirror: {{ blueprint: shop, zones: [north-b] }}
    policy:
      mode: auto
      horizon: 15s
      data: stateless
      capacity_per_cell: 700/s
      stale_after: 2s
      trigger: {{ prepare_at: 20%, shift_at: 50%, clear_below: 10%, hits: 2, of_ticks: 3, margin: 1s }}
      canary: {{ first: 10%, steps: [10%, 20%, 40%, 80%, 100%], tolerated_harm: 1%, warm_requests: 100 }}
      give_back: {{ healthy_for: 5s, rate: 40%/s }}
      relief: {{ above: 90%, below: 70%, at_most: 30% }}
      standby: {{ min: 0, max: 1, freeze_when_idle: true, retire_after: 10m, passport_valid_for: 10m }}
      budgets: {{ max_cells_in_motion: 1, max_weight_in_motion: 60%, refractory: 2s, headroom: 20% }}
      lead_times: {{ create: 1s, warm_up: 1s, earn: 4s, drain: 500ms, propagate: 500ms }}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_configuration_is_fine() {
        let any = SocketAddr::from(([127, 0, 0, 1], 1));
        let other = SocketAddr::from(([127, 0, 0, 1], 2));
        let text = configuration(Path::new("/tmp/x"), SocketAddr::from(([127, 0, 0, 1], 3)), any, other);
        if let Err(errors) = forefend_config::parse(&text, "demo.yaml") {
            panic!("{errors}");
        }
    }
}
