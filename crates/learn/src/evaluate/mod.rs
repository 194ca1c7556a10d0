//! How good a model is: every figure with an interval, and what it learnt from kept apart from what it is judged by.
//!
//! Rows that belong together (one incident, one run) are not independent witnesses, so what a model learns from is [`split`] by
//! group and time, and intervals come from the [`bootstrap`] by group. Risks are judged as ranks ([`rank`]), as
//! probabilities ([`probability`], [`reliability`]) and against times to failure that were not all seen ([`survival`]); alarms
//! by episode ([`events`]) or by series ([`anomaly`], [`nab`]); times by [`regression`].
//!
//! Point adjustment, which takes a whole incident for found once any row of it is, is nowhere: under it random scores beat
//! every model (Kim et al., AAAI 2022, <https://arxiv.org/abs/2109.05257>).
//!
//! All of it is total: what can't be computed (no rows, one outcome only, a NaN) is `None`, not a number.

pub mod anomaly;
pub mod bootstrap;
pub mod events;
mod fenwick;
mod interval;
mod kaplan_meier;
#[cfg(test)]
pub(crate) mod made_up;
pub mod nab;
pub mod probability;
pub mod rank;
pub mod regression;
pub mod reliability;
pub mod rules;
pub mod split;
pub mod survival;

pub use interval::{Estimate, poisson, quantile, wilson};
