//! The sample service in two zones, made from blueprints that run this very program.

use std::{net::SocketAddr, path::Path};

/// Who may set faults.
pub const TOKEN: &str = "test-control-token";

/// What differs between the stories.
pub struct Shop<'a> {
    pub state_dir: &'a Path,
    pub api: SocketAddr,
    pub shop: SocketAddr,
    pub inventory: SocketAddr,
    pub mode: &'static str,
}

impl Shop<'_> {
    /// Two shops that call an inventory in their own zone, and fast policies: what takes minutes elsewhere takes seconds here.
    pub fn configuration(&self) -> String {
        let Self { state_dir, api, shop, inventory, mode } = self;
        let state_dir = state_dir.display();
        format!(
            r#"version: 1
engine:
  state_dir: {state_dir}
  tick: 200ms
  window: {{ step: 200ms, length: 15s }}
  api: {{ listen: "{api}" }}
director: {{ workers: 1 }}
regions:
  here: {{ zones: [zone-a, zone-b, zone-c] }}
blueprints:
  inventory:
    command: ["{{exe}}", shop, --kind, inventory, --listen, "{{address}}", --data, "{{data}}", --zone, "{{zone}}"]
    network: {{ port: 8090 }}
    resources: {{ memory: 96MiB, cpu: 100%, pids: 32 }}
    readiness: {{ path: /ready, timeout: 20s }}
    stop_grace: 500ms
  shop:
    command: ["{{exe}}", shop, --kind, shop, --listen, "{{address}}", --data, "{{data}}", --zone, "{{zone}}", --inventory, "{{dependency:inventory}}"]
    env: {{ SHOP_CONTROL_TOKEN: {TOKEN} }}
    dependencies: {{ inventory: {{ service: inventory }} }}
    network: {{ port: 8080 }}
    resources: {{ memory: 96MiB, cpu: 100%, pids: 32 }}
    readiness: {{ path: /ready, timeout: 20s }}
    warm_up: {{ connect: 4, preload: [/item/0], min_ok: 100%, timeout: 20s }}
    stop_grace: 500ms
services:
  inventory:
    objective: {{ latency: 1s, failed_for: 2s }}
    listen: "{inventory}"
    health: {{ path: /healthz, interval: 500ms, timeout: 400ms }}
    probe: {{ path: /healthz, interval: 500ms, timeout: 500ms }}
    policy: {{ mode: observe }}
    cells:
      - {{ id: inventory-a, zone: zone-a, blueprint: inventory }}
      - {{ id: inventory-b, zone: zone-b, blueprint: inventory }}
      - {{ id: inventory-c, zone: zone-c, blueprint: inventory }}
  shop:
    objective: {{ latency: 500ms, slow_share: 1%, error_share: 1%, failed_for: 2s }}
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
      - {{ id: shop-a, zone: zone-a, blueprint: shop }}
      - {{ id: shop-b, zone: zone-b, blueprint: shop }}
    mirror: {{ blueprint: shop, zones: [zone-c] }}
    policy:
      mode: {mode}
      horizon: 20s
      data: stateless
      capacity_per_cell: 1000/s
      stale_after: 3s
      trigger: {{ prepare_at: 20%, shift_at: 50%, clear_below: 10%, hits: 2, of_ticks: 3, margin: 2s }}
      canary: {{ first: 10%, steps: [10%, 20%, 40%, 80%, 100%], tolerated_harm: 2%, warm_requests: 50 }}
      give_back: {{ healthy_for: 1s, rate: 40%/s }}
      standby: {{ min: 0, max: 1, freeze_when_idle: true, retire_after: 10m, passport_valid_for: 10m }}
      budgets: {{ max_cells_in_motion: 1, max_weight_in_motion: 60%, refractory: 2s, headroom: 20% }}
      lead_times: {{ create: 1s, warm_up: 1s, earn: 4s, drain: 500ms, propagate: 500ms }}
"#
        )
    }
}
