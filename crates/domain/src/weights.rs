use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CellId, DomainError, RegionId, Weight};

/// The weights of one service on two levels: its regions, and the cells of each region.
///
/// Each level adds up to 10 000 basis points; a region whose weight is zero keeps its inner weights, so that its
/// cells are ready for the moment it gets some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceWeights {
    regions: BTreeMap<RegionId, Weight>,
    cells: BTreeMap<RegionId, BTreeMap<CellId, Weight>>,
}

impl ServiceWeights {
    /// # Errors
    /// [`DomainError::WeightsDontAddUp`] when a level does not add up to 10 000.
    pub fn new(
        regions: BTreeMap<RegionId, Weight>,
        cells: BTreeMap<RegionId, BTreeMap<CellId, Weight>>,
    ) -> Result<Self, DomainError> {
        let sum = |weights: &mut dyn Iterator<Item = &Weight>| weights.map(|w| w.bp()).sum::<u32>();
        let total = sum(&mut regions.values());
        if total != Weight::FULL.bp() {
            return Err(DomainError::WeightsDontAddUp { level: "regions".into(), sum: total });
        }
        for (region, inner) in &cells {
            let total = sum(&mut inner.values());
            if total != Weight::FULL.bp() {
                return Err(DomainError::WeightsDontAddUp { level: region.to_string(), sum: total });
            }
        }
        for (region, weight) in &regions {
            if *weight > Weight::ZERO && !cells.contains_key(region) {
                return Err(DomainError::WeightsDontAddUp { level: region.to_string(), sum: 0 });
            }
        }
        Ok(Self { regions, cells })
    }

    /// The two-level weights nearest to the given shares of the whole service (they need not add up to 1 exactly).
    ///
    /// Rounding is by largest remainder; a share of zero stays zero. `None` when all shares are zero. A region that
    /// gets nothing keeps inner weights in proportion to `idle_shares` (or evenly).
    #[must_use]
    pub fn from_shares(shares: &BTreeMap<(RegionId, CellId), f64>) -> Option<Self> {
        let mut by_region: BTreeMap<RegionId, f64> = BTreeMap::new();
        for ((region, _), share) in shares {
            *by_region.entry(region.clone()).or_default() += share.max(0.0);
        }
        let regions = apportion(&by_region)?;
        let mut cells = BTreeMap::new();
        for region in by_region.keys() {
            let mut inner: BTreeMap<CellId, f64> = shares
                .iter()
                .filter(|((r, _), _)| r == region)
                .map(|((_, cell), share)| (cell.clone(), share.max(0.0)))
                .collect();
            if regions[region] == Weight::ZERO {
                inner.values_mut().for_each(|share| *share = 1.0);
            }
            cells.insert(region.clone(), apportion(&inner)?);
        }
        Some(Self { regions, cells })
    }

    /// The weight of a region; zero when unknown.
    #[must_use]
    pub fn region(&self, region: &RegionId) -> Weight {
        self.regions.get(region).copied().unwrap_or_default()
    }

    /// The weights of the regions.
    #[must_use]
    pub fn regions(&self) -> &BTreeMap<RegionId, Weight> {
        &self.regions
    }

    /// The weights of the cells of each region.
    #[must_use]
    pub fn cells(&self) -> &BTreeMap<RegionId, BTreeMap<CellId, Weight>> {
        &self.cells
    }

    /// The cell's share of the whole service, from 0 to 1.
    #[must_use]
    pub fn share(&self, cell: &CellId) -> f64 {
        self.cells
            .iter()
            .find_map(|(region, inner)| inner.get(cell).map(|w| self.region(region).share() * w.share()))
            .unwrap_or(0.0)
    }

    /// Every cell's share of the whole service.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<(RegionId, CellId), f64> {
        self.cells
            .iter()
            .flat_map(|(region, inner)| {
                let outer = self.region(region).share();
                inner.iter().map(move |(cell, w)| ((region.clone(), cell.clone()), outer * w.share()))
            })
            .collect()
    }
}

/// Weights in proportion to `shares` that add up to exactly 10 000 (largest remainder, ties by key).
fn apportion<K: Ord + Clone>(shares: &BTreeMap<K, f64>) -> Option<BTreeMap<K, Weight>> {
    let total: f64 = shares.values().sum();
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    let exact: Vec<(K, f64)> = shares.iter().map(|(k, s)| (k.clone(), s / total * 10_000.0)).collect();
    let mut floors: Vec<(K, u32, f64)> = exact
        .into_iter()
        .map(|(k, x)| {
            // A hair above, so that 2500.0 stored as 2499.9999999 floors to 2500.
            let floor = (x + 1e-9).floor();
            (k, floor as u32, x - floor)
        })
        .collect();
    let mut missing = 10_000u32.saturating_sub(floors.iter().map(|(_, f, _)| f).sum());
    let mut order: Vec<usize> =
        (0..floors.len()).filter(|&i| floors[i].1 > 0 || floors[i].2 > 1e-9).collect();
    order.sort_by(|&a, &b| floors[b].2.total_cmp(&floors[a].2));
    for &i in order.iter().cycle() {
        if missing == 0 {
            break;
        }
        floors[i].1 += 1;
        missing -= 1;
    }
    Some(floors.into_iter().map(|(k, bp, _)| (k, Weight::from_bp(bp).unwrap_or(Weight::FULL))).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(i: usize) -> (RegionId, CellId) {
        (
            RegionId::new(["north", "south", "west"][i % 3]).unwrap(),
            CellId::new(&format!("cell-{i}")).unwrap(),
        )
    }

    proptest! {
        #[test]
        fn any_shares_become_weights_that_add_up(shares in prop::collection::vec(0.0f64..1.0, 1..12)) {
            let shares: BTreeMap<_, _> = shares.into_iter().enumerate().map(|(i, s)| (ids(i), s)).collect();
            prop_assume!(shares.values().sum::<f64>() > 0.0);
            let weights = ServiceWeights::from_shares(&shares).unwrap();
            ServiceWeights::new(weights.regions.clone(), weights.cells.clone()).unwrap();
            let total: f64 = shares.values().sum();
            for ((region, cell), share) in &shares {
                // One basis point of rounding on each level.
                prop_assert!((weights.share(cell) - share / total).abs() <= 0.000_21);
                if *share == 0.0 && weights.region(region) > Weight::ZERO {
                    prop_assert_eq!(weights.share(cell), 0.0);
                }
            }
        }

        #[test]
        fn rounding_twice_changes_nothing(shares in prop::collection::vec(0.0f64..1.0, 1..12)) {
            let shares: BTreeMap<_, _> = shares.into_iter().enumerate().map(|(i, s)| (ids(i), s)).collect();
            prop_assume!(shares.values().sum::<f64>() > 0.0);
            let once = ServiceWeights::from_shares(&shares).unwrap();
            let twice = ServiceWeights::from_shares(&once.shares()).unwrap();
            for cell in shares.keys().map(|(_, c)| c) {
                prop_assert!((once.share(cell) - twice.share(cell)).abs() <= 0.000_21);
            }
        }
    }

    #[test]
    fn weights_that_do_not_add_up_are_refused() {
        let (region, cell) = ids(0);
        let half = Weight::from_bp(5_000).unwrap();
        let regions = BTreeMap::from([(region.clone(), half)]);
        let cells = BTreeMap::from([(region, BTreeMap::from([(cell, Weight::FULL)]))]);
        assert!(ServiceWeights::new(regions, cells).is_err());
    }
}
