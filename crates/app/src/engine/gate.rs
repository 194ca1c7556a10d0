use std::time::Duration;

use forefend_domain::{Cell, DataGateView, DataPolicy, Windows, ports::DataGate};

/// The gate as the policy declares it: stateless services are open, a declared lag is read from the standby's own telemetry.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeclaredGate;

/// A lag that was measured longer ago than this many steps is unknown.
const MOST_STEPS_OLD: usize = 3;

impl DataGate for DeclaredGate {
    fn gate(&mut self, _cell: &Cell, policy: &DataPolicy, windows: Option<&Windows>) -> DataGateView {
        match policy {
            DataPolicy::Stateless => {
                DataGateView { open: true, lag: None, why: "cells share no state".to_owned() }
            }
            DataPolicy::Pinned => DataGateView {
                open: false,
                lag: None,
                why: "the policy pins the data to its cell".to_owned(),
            },
            DataPolicy::Lag { metric, rpo } => {
                let latest = windows.and_then(|w| w.metrics.get(metric)).and_then(|m| m.latest());
                match latest {
                    Some((age, seconds))
                        if age <= MOST_STEPS_OLD && seconds >= 0.0 && seconds.is_finite() =>
                    {
                        let lag = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
                        let open = lag <= *rpo;
                        let why = format!("{metric} is {seconds:.3} s, the limit {:.3} s", rpo.as_secs_f64());
                        DataGateView { open, lag: Some(lag), why }
                    }
                    Some(_) | None => {
                        DataGateView { open: false, lag: None, why: format!("{metric} is not known") }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use forefend_domain::{
        CellId, CellRole, Family, MetricKind, MetricName, MetricWindow, RegionId, Sample, ServiceId,
        Timestamp, Weight, ZoneId,
    };

    use super::*;

    fn gate(values: &[Option<f64>]) -> DataGateView {
        let at = Timestamp::from_unix_ms(10_000);
        let metric = MetricName::new("lag");
        let samples = values.iter().map(|value| Sample { at, value: *value }).collect();
        let window = MetricWindow {
            name: metric.clone(),
            family: Family::Custom,
            kind: MetricKind::Unbounded,
            unit: "s".into(),
            limit: None,
            samples,
        };
        let cell = Cell {
            id: CellId::new("c").unwrap(),
            service: ServiceId::new("s").unwrap(),
            region: RegionId::new("r").unwrap(),
            zone: ZoneId::new("z").unwrap(),
            role: CellRole::Secondary,
            home_weight: Weight::ZERO,
            blueprint: None,
        };
        let windows = Windows {
            cell: cell.id.clone(),
            at,
            step: Duration::from_secs(1),
            metrics: BTreeMap::from([(metric.clone(), window)]),
        };
        let policy = DataPolicy::Lag { metric, rpo: Duration::from_secs(2) };
        DeclaredGate.gate(&cell, &policy, Some(&windows))
    }

    #[test]
    fn a_lag_within_the_limit_opens_and_anything_unknown_closes() {
        assert!(gate(&[Some(1.5)]).open);
        assert!(!gate(&[Some(2.5)]).open);
        assert!(!gate(&[]).open);
        assert!(!gate(&[Some(0.1), None, None, None, None]).open);
        assert!(!gate(&[Some(-1.0)]).open);
    }
}
