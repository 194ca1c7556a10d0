//! What builds up where metrics show it, until the objective is broken.

use std::time::Duration;

use forefend_chaos::{Fault, Ramp};

use super::{
    Cause, Kind, Subject, What,
    draw::{Draft, MIB, Recipe},
};

/// The ways to make an episode of a foreseeable kind.
pub(super) fn recipes(kind: Kind) -> Vec<Recipe> {
    match kind {
        Kind::Leak => vec![
            (Subject::Redis, redis_maxmemory),
            (Subject::Shop, shop_leak),
            (Subject::Redis, redis_killed_for_memory),
            (Subject::Postgres, session_state),
        ],
        Kind::DiskFill => vec![
            (Subject::Redis, append_log),
            (Subject::Postgres, rows),
            (Subject::Nginx, uploads),
            (Subject::Shop, foreign_log),
        ],
        Kind::FdExhaustion => vec![(Subject::Nginx, files), (Subject::Shop, files)],
        Kind::PoolExhaustion => {
            vec![(Subject::Postgres, pool), (Subject::Redis, pool), (Subject::Nginx, pool)]
        }
        Kind::ThreadExhaustion => {
            vec![(Subject::Postgres, backends), (Subject::Redis, hung_jobs)]
        }
        Kind::CpuSaturation => vec![
            (Subject::Redis, costly),
            (Subject::Postgres, costly),
            (Subject::Nginx, costly),
            (Subject::Shop, more_load),
        ],
        Kind::LatencyCreep => vec![
            (Subject::Postgres, locks),
            (Subject::Shop, own_delay),
            (Subject::Redis, held_up),
            (Subject::Nginx, held_up),
        ],
        Kind::ErrorCreep => {
            vec![
                (Subject::Redis, poison),
                (Subject::Postgres, poison),
                (Subject::Nginx, poison),
                (Subject::Shop, refused),
            ]
        }
        Kind::SlowingDependency => {
            vec![(Subject::Shop, slow_dependency), (Subject::Nginx, slow_dependency)]
        }
        Kind::LogWarnings => vec![(Subject::Nginx, lost_upstreams), (Subject::Postgres, retried_errors)],
        kind => unreachable!("{kind:?} is not foreseeable"),
    }
}

/// From nothing to all in 18 to 33 s: two thirds evenly, one third ever faster.
fn ramp(draft: &mut Draft) -> Ramp {
    let over = Duration::from_millis(u64::from(draft.random.pick(18_000, 33_000)));
    if draft.random.chance(2.0 / 3.0) { Ramp::Linear { over } } else { Ramp::Exponential { over } }
}

fn grow(draft: &mut Draft, what: What) {
    let ramp = ramp(draft);
    draft.cause(Cause::new(what, ramp, draft.onset_s));
}

fn bytes(mib: f64) -> u64 {
    (mib * MIB) as u64
}

fn redis_maxmemory(draft: &mut Draft) {
    let limit = draft.random.between(16.0, 32.0);
    draft.limits.max_memory_bytes = bytes(limit);
    draft.limits.memory_bytes = bytes(limit + 40.0);
    let amount = limit * draft.random.between(1.15, 1.4);
    grow(draft, What::Keys { bytes: bytes(amount) });
}

fn redis_killed_for_memory(draft: &mut Draft) {
    let limit = draft.random.between(36.0, 52.0);
    draft.limits.memory_bytes = bytes(limit);
    let amount = limit * draft.random.between(1.15, 1.4);
    grow(draft, What::Keys { bytes: bytes(amount) });
}

fn shop_leak(draft: &mut Draft) {
    let limit = draft.random.between(32.0, 64.0);
    draft.limits.memory_bytes = bytes(limit);
    let amount = limit * draft.random.between(1.1, 1.4);
    grow(draft, What::OwnLeak { bytes: bytes(amount) });
}

fn session_state(draft: &mut Draft) {
    let limit = draft.random.between(72.0, 96.0);
    draft.limits.memory_bytes = bytes(limit);
    let amount = limit * draft.random.between(1.15, 1.35);
    grow(draft, What::SessionState { bytes: bytes(amount) });
}

fn append_log(draft: &mut Draft) {
    let disk = draft.random.between(16.0, 28.0);
    draft.limits.disk_bytes = bytes(disk);
    let amount = disk * draft.random.between(1.2, 1.5);
    grow(draft, What::AppendLog { bytes: bytes(amount) });
}

fn rows(draft: &mut Draft) {
    let disk = draft.random.between(72.0, 96.0);
    draft.limits.disk_bytes = bytes(disk);
    let amount = (disk - 40.0) * draft.random.between(1.15, 1.4);
    grow(draft, What::Rows { bytes: bytes(amount) });
}

fn uploads(draft: &mut Draft) {
    let disk = draft.random.between(16.0, 32.0);
    draft.limits.disk_bytes = bytes(disk);
    let amount = disk * draft.random.between(1.15, 1.4);
    grow(draft, What::Uploads { bytes: bytes(amount) });
}

fn foreign_log(draft: &mut Draft) {
    let disk = draft.random.between(8.0, 20.0);
    draft.limits.disk_bytes = bytes(disk);
    let amount = disk * draft.random.between(1.15, 1.4);
    grow(draft, What::ForeignLog { bytes: bytes(amount) });
}

fn files(draft: &mut Draft) {
    draft.limits.files = draft.random.pick(110, 200);
    draft.limits.connections = 1_024;
    let count = f64::from(draft.limits.files) * draft.random.between(1.15, 1.5);
    grow(draft, What::Connections { count: count as u32 });
}

fn pool(draft: &mut Draft) {
    draft.limits.connections = draft.random.pick(40, 70);
    if draft.limits.tasks > 64 {
        // PostgreSQL: its own limit shall be met first.
        draft.limits.connections = draft.random.pick(26, 40);
        draft.load.fresh_share = draft.random.between(0.25, 0.35);
    }
    let count = f64::from(draft.limits.connections) * draft.random.between(1.2, 1.6);
    grow(draft, What::Connections { count: count as u32 });
}

fn backends(draft: &mut Draft) {
    draft.limits.tasks = draft.random.pick(30, 44);
    draft.limits.connections = 120;
    draft.load.fresh_share = draft.random.between(0.25, 0.35);
    let count = f64::from(draft.limits.tasks) * draft.random.between(1.2, 1.5);
    grow(draft, What::Connections { count: count as u32 });
}

fn hung_jobs(draft: &mut Draft) {
    draft.limits.tasks = draft.random.pick(24, 44);
    let count = f64::from(draft.limits.tasks) * draft.random.between(1.15, 1.4);
    grow(draft, What::HungJobs { count: count as u32 });
}

fn costly(draft: &mut Draft) {
    // Redis makes the least of a costly request.
    let (low, high) = match draft.subject {
        Subject::Postgres => (0.15, 0.19),
        Subject::Redis => (0.04, 0.06),
        Subject::Nginx | Subject::Shop => (0.08, 0.11),
    };
    draft.limits.cpu_cores = draft.random.between(low, high);
    let share = draft.random.between(0.9, 1.0);
    grow(draft, What::HeavyShare { share });
}

fn more_load(draft: &mut Draft) {
    // Many requests at once cost less each.
    draft.limits.cpu_cores = draft.random.between(0.019, 0.024);
    let factor = draft.random.between(7.5, 10.0);
    grow(draft, What::LoadFactor { factor });
}

fn held_up(draft: &mut Draft) {
    let add = Duration::from_millis(u64::from(draft.random.pick(220, 400)));
    let jitter = add / 10;
    grow(draft, What::Fault { fault: Fault::Latency { add, jitter } });
}

fn refused(draft: &mut Draft) {
    let share = draft.random.between(0.3, 0.6);
    grow(draft, What::Fault { fault: Fault::ErrorRate { share, status: 503 } });
}

fn locks(draft: &mut Draft) {
    let ms = draft.random.between(450.0, 700.0);
    grow(draft, What::LockHold { ms });
}

fn own_delay(draft: &mut Draft) {
    let ms = draft.random.between(200.0, 400.0);
    grow(draft, What::OwnDelay { ms });
}

fn poison(draft: &mut Draft) {
    let share = draft.random.between(0.35, 0.7);
    grow(draft, What::Poison { share });
}

fn slow_dependency(draft: &mut Draft) {
    let ms = draft.random.between(200.0, 400.0);
    grow(draft, What::DependencyDelay { ms });
}

fn lost_upstreams(draft: &mut Draft) {
    // In a straight line: one upstream after the other, at even distances.
    let over = Duration::from_millis(u64::from(draft.random.pick(16_000, 32_000)));
    draft.cause(Cause::new(What::LostUpstreams { count: 4 }, Ramp::Linear { over }, draft.onset_s));
}

fn retried_errors(draft: &mut Draft) {
    // With e of the data bad, e³ of the requests fail: at a half of it one in eight.
    draft.load.retries = 2;
    let share = draft.random.between(0.75, 0.95);
    grow(draft, What::Poison { share });
}
