//! Risks and scores against times to failure that were not all seen: watching ends, and the rows it ends for are not without
//! failure, only without an answer. The rows that do have one speak for them, by the inverse of the probability that
//! watching lasted that long, which [`KaplanMeier::of_censoring`] gives: of the judged rows, or of more.
//!
//! This holds where watching does not end because of what the risk depends on. All of it is `None` without rows, with a NaN, when there
//! are not as many scores as rows, and where watching may not have lasted that long at all.

pub use super::kaplan_meier::{Followed, KaplanMeier};
use super::{fenwick::Fenwick, probability::are_risks, rank};

/// The Brier score of risks of failing within the horizon, 0 (best) to 1 (Graf et al. 1999,
/// <https://doi.org/10.1002/(SICI)1097-0258(19990915/30)18:17/18%3C2529::AID-SIM274%3E3.0.CO;2-5>). Without censoring it is the
/// [plain one](super::probability::brier).
///
/// `risks` are probabilities; the horizon is in seconds, and within what was watched.
#[must_use]
pub fn brier(horizon_s: f64, rows: &[Followed], risks: &[f64], censoring: &KaplanMeier) -> Option<f64> {
    if !are_risks(risks, rows.len()) {
        return None;
    }
    let known = known(horizon_s, rows, censoring)?;
    let loss = |(known, risk): (&Option<Known>, &f64)| {
        known.as_ref().map_or(0.0, |known| known.weight * (f64::from(known.failed) - risk).powi(2))
    };
    Some(known.iter().zip(risks).map(loss).sum::<f64>() / rows.len() as f64)
}

/// The cumulative/dynamic AUC: the probability that a row that fails within the horizon scores higher than one that does not,
/// ties counting half; 0 to 1, 0.5 for chance (Uno et al. 2007, <https://doi.org/10.1198/016214507000000149>; Hung and Chiang 2010,
/// <https://doi.org/10.1002/cjs.10046>). `None` also unless both were seen.
#[must_use]
pub fn auc(horizon_s: f64, rows: &[Followed], scores: &[f64], censoring: &KaplanMeier) -> Option<f64> {
    if scores.len() != rows.len() {
        return None;
    }
    let known = known(horizon_s, rows, censoring)?;
    let mut judged = (Vec::new(), Vec::new(), Vec::new());
    for (known, score) in known.iter().zip(scores) {
        // What is not known may not be a NaN either.
        judged.0.push(*score);
        judged.1.push(known.as_ref().is_some_and(|known| known.failed));
        judged.2.push(known.as_ref().map_or(0.0, |known| known.weight));
    }
    rank::auc(&judged.0, &judged.1, Some(&judged.2))
}

/// Uno's C: the probability that, of two rows, the one that fails first, and before `tau_s`, scores higher, ties counting half; 0 to 1,
/// 0.5 for chance (Uno et al. 2011, <https://doi.org/10.1002/sim.4154>). Unlike Harrell's, it does not depend on when watching ended.
///
/// Two failures at one instant are not compared. `None` also where no two rows can be.
#[must_use]
pub fn uno_c(tau_s: f64, rows: &[Followed], scores: &[f64], censoring: &KaplanMeier) -> Option<f64> {
    let times_are_known = rows.iter().all(|row| row.time_s.is_finite() && row.time_s >= 0.0);
    if scores.len() != rows.len() || !times_are_known || tau_s.is_nan() || scores.iter().any(|s| s.is_nan()) {
        return None;
    }
    let mut levels = scores.to_vec();
    levels.sort_by(f64::total_cmp);
    levels.dedup_by(|a, b| a == b);
    let level = |row: usize| levels.partition_point(|level| *level < scores[row]);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows[*b].time_s.total_cmp(&rows[*a].time_s));
    // From the latest on, so that what was counted is what outlived the failure at hand.
    let mut outlived = Fenwick::new(levels.len());
    let (mut won, mut compared) = (0.0, 0.0);
    for tied in order.chunk_by(|a, b| rows[*a].time_s == rows[*b].time_s) {
        let time_s = rows[tied[0]].time_s;
        let (failed, censored): (Vec<usize>, Vec<usize>) = tied.iter().partition(|row| rows[**row].failed);
        censored.iter().for_each(|row| outlived.add(level(*row)));
        if time_s < tau_s && !failed.is_empty() {
            let weight = positive(censoring.from(time_s))?.powi(-2);
            for row in &failed {
                let level = level(*row);
                let (below, up_to) = (outlived.below(level) as f64, outlived.below(level + 1) as f64);
                won += weight * (below + up_to) / 2.0;
                compared += weight * outlived.below(levels.len()) as f64;
            }
        }
        failed.iter().for_each(|row| outlived.add(level(*row)));
    }
    (compared > 0.0).then_some(won / compared)
}

/// What each row says of the horizon: whether it failed by then, and for how many rows it speaks, since others were lost sight of (inverse
/// probability of censoring; Graf et al. 1999, <https://doi.org/10.1002/(SICI)1097-0258(19990915/30)18:17/18%3C2529::AID-SIM274%3E3.0.CO;2-5>).
/// A row that was not watched long enough says `None`.
///
/// `None` as a whole without rows, with a time that is negative or not finite, or where no row was watched that long.
#[must_use]
pub fn ipcw(horizon_s: f64, rows: &[Followed]) -> Option<Vec<Option<(bool, f64)>>> {
    let censoring = KaplanMeier::of_censoring(rows)?;
    let known = known(horizon_s, rows, &censoring)?;
    Some(known.into_iter().map(|known| known.map(|known| (known.failed, known.weight))).collect())
}

/// What a row says of the horizon.
struct Known {
    failed: bool,
    /// How many rows it speaks for.
    weight: f64,
}

/// `None` for a row that was not watched long enough.
fn known(horizon_s: f64, rows: &[Followed], censoring: &KaplanMeier) -> Option<Vec<Option<Known>>> {
    // Not beyond what was watched: there, no row knows, and the failures seen would speak for all.
    if !(horizon_s >= 0.0 && horizon_s <= censoring.last_s()) {
        return None;
    }
    rows.iter()
        .map(|row| {
            if !(row.time_s.is_finite() && row.time_s >= 0.0) {
                return None;
            }
            let failed = row.failed && row.time_s <= horizon_s;
            if !failed && row.time_s < horizon_s {
                return Some(None);
            }
            let watched = censoring.from(if failed { row.time_s } else { horizon_s });
            Some(Some(Known { failed, weight: 1.0 / positive(watched)? }))
        })
        .collect()
}

fn positive(share: f64) -> Option<f64> {
    (share > 0.0).then_some(share)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::probability;

    type Figure = fn(f64, &[Followed], &[f64], &KaplanMeier) -> Option<f64>;

    const ALL: [Figure; 3] = [brier, auc, uno_c];

    fn row(time_s: f64, failed: bool) -> Followed {
        Followed { time_s, failed }
    }

    fn censoring(rows: &[Followed]) -> KaplanMeier {
        KaplanMeier::of_censoring(rows).unwrap()
    }

    #[test]
    fn what_was_not_watched_is_not_judged() {
        let rows = [row(1.0, true), row(2.0, false), row(3.0, true), row(4.0, false)];
        let g = censoring(&rows);
        for figure in ALL {
            assert!(figure(2.5, &rows, &[0.9, 0.1, 0.8, 0.2], &g).is_some());
            assert_eq!(figure(2.5, &rows, &[0.9, 0.1, f64::NAN, 0.2], &g), None);
            assert_eq!(figure(2.5, &rows, &[0.9, 0.1], &g), None);
            assert_eq!(figure(2.5, &[], &[], &g), None);
            assert_eq!(figure(f64::NAN, &rows, &[0.9, 0.1, 0.8, 0.2], &g), None);
            assert_eq!(figure(2.5, &[row(f64::NAN, true); 4], &[0.5; 4], &g), None);
        }
        for figure in [brier, auc] {
            assert_eq!(figure(4.1, &rows, &[0.9, 0.1, 0.8, 0.2], &g), None, "beyond the last");
        }
        assert_eq!(auc(0.5, &rows, &[0.9, 0.1, 0.8, 0.2], &g), None, "nothing has failed yet");
        assert_eq!(uno_c(0.5, &rows, &[0.9, 0.1, 0.8, 0.2], &g), None, "nothing has failed yet");
        assert_eq!(brier(2.5, &rows, &[1.9, 0.1, 0.8, 0.2], &g), None, "no risk");
    }

    #[test]
    fn a_row_watched_to_the_horizon_has_survived_it() {
        let rows = [row(1.0, true), row(60.0, false), row(60.0, false), row(60.0, true)];
        let g = censoring(&rows);
        assert_eq!(auc(60.0, &rows, &[0.9, 0.1, 0.2, 0.8], &g), Some(1.0));
        assert_eq!(brier(60.0, &rows, &[1.0, 0.0, 0.0, 1.0], &g), Some(0.0));
    }

    /// Rows with ties in time and score, and few values.
    fn some_rows() -> impl Strategy<Value = Vec<(u8, bool, u8)>> {
        prop::collection::vec((0u8..25, any::<bool>(), 0u8..8), 2..70)
    }

    fn unzip(of: &[(u8, bool, u8)]) -> (Vec<Followed>, Vec<f64>) {
        of.iter()
            .map(|(time, failed, score)| (row(f64::from(*time), *failed), f64::from(*score) / 8.0))
            .unzip()
    }

    fn wins(a: f64, b: f64) -> f64 {
        f64::from(a > b) + f64::from(a == b) / 2.0
    }

    fn agree(found: Option<f64>, expected: f64) -> bool {
        found.map_or(expected.is_nan(), |found| (found - expected).abs() < 1e-9)
    }

    proptest! {
        #[test]
        fn uno_c_is_what_pairs_say(of in some_rows(), tau in 0u8..30) {
            let (rows, scores) = unzip(&of);
            let (g, tau_s) = (censoring(&rows), f64::from(tau));
            let (mut won, mut compared) = (0.0, 0.0);
            for (i, first) in rows.iter().enumerate().filter(|(_, r)| r.failed && r.time_s < tau_s) {
                for (j, second) in rows.iter().enumerate() {
                    if second.time_s > first.time_s || (second.time_s == first.time_s && !second.failed) {
                        let weight = g.from(first.time_s).powi(-2);
                        compared += weight;
                        won += weight * wins(scores[i], scores[j]);
                    }
                }
            }
            prop_assert!(agree(uno_c(tau_s, &rows, &scores, &g), won / compared));
        }

        #[test]
        fn the_dynamic_auc_is_what_pairs_say(of in some_rows(), horizon in 0u8..25) {
            let (rows, scores) = unzip(&of);
            let (g, horizon_s) = (censoring(&rows), f64::from(horizon));
            let (mut won, mut compared) = (0.0, 0.0);
            for (i, case) in rows.iter().enumerate().filter(|(_, r)| r.failed && r.time_s <= horizon_s) {
                for (j, control) in rows.iter().enumerate() {
                    if control.time_s > horizon_s || (control.time_s == horizon_s && !control.failed) {
                        let weight = 1.0 / g.from(case.time_s);
                        compared += weight;
                        won += weight * wins(scores[i], scores[j]);
                    }
                }
            }
            prop_assume!(horizon_s <= g.last_s());
            prop_assert!(agree(auc(horizon_s, &rows, &scores, &g), won / compared));
        }

        #[test]
        fn without_censoring_it_is_the_plain_figure(of in some_rows(), horizon in 0u8..25) {
            let (mut rows, scores) = unzip(&of);
            rows.iter_mut().for_each(|row| row.failed = true);
            let horizon_s = f64::from(horizon);
            let g = censoring(&rows);
            prop_assume!(horizon_s <= g.last_s());
            let outcomes: Vec<bool> = rows.iter().map(|row| row.time_s <= horizon_s).collect();
            let plain = probability::brier(&scores, &outcomes, None).unwrap();
            prop_assert!(agree(brier(horizon_s, &rows, &scores, &g), plain));
            let plain = rank::auc(&scores, &outcomes, None).unwrap_or(f64::NAN);
            prop_assert!(agree(auc(horizon_s, &rows, &scores, &g), plain));
        }

        #[test]
        fn the_order_of_rows_changes_nothing(of in some_rows(), turn in 0usize..70) {
            let (rows, scores) = unzip(&of);
            let mut turned = of.clone();
            turned.rotate_left(turn % of.len());
            let (rows_turned, scores_turned) = unzip(&turned);
            let g = censoring(&rows);
            for figure in ALL {
                let expected = figure(9.0, &rows, &scores, &g).unwrap_or(f64::NAN);
                prop_assert!(agree(figure(9.0, &rows_turned, &scores_turned, &g), expected));
            }
        }
    }
}
