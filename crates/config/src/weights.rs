//! Where a service's traffic goes in normal times: from percentages, some of them left out, to weights on two levels.

use std::collections::BTreeMap;

use forefend_domain::{CellId, RegionId, ServiceWeights, Weight};

use crate::model::{CellConfig, Config, Role, ServiceConfig};

/// Why there are no such weights.
pub(crate) struct WeightFlaw {
    /// Below the service; `None` for the service itself.
    pub(crate) at: Option<WeightPlace>,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

pub(crate) enum WeightPlace {
    Cell(usize),
    Cells,
    RegionWeights(Option<RegionId>),
}

/// The region of a cell by its zone.
pub(crate) fn region_of<'c>(config: &'c Config, cell: &CellConfig) -> Option<&'c RegionId> {
    config.regions.iter().find(|(_, region)| region.zones.contains(&cell.zone)).map(|(id, _)| id)
}

pub(crate) fn home_weights(config: &Config, service: &ServiceConfig) -> Result<ServiceWeights, WeightFlaw> {
    let mut by_region: BTreeMap<RegionId, Vec<(usize, &CellConfig)>> = BTreeMap::new();
    for (i, cell) in service.cells.iter().enumerate() {
        if let Some(region) = region_of(config, cell) {
            by_region.entry(region.clone()).or_default().push((i, cell));
        }
    }
    let mut cells = BTreeMap::new();
    let mut carrying = Vec::new();
    for (region, members) in &by_region {
        let (inner, carries) = inner_weights(region, members)?;
        if carries {
            carrying.push(region.clone());
        }
        cells.insert(region.clone(), inner);
    }
    if carrying.is_empty() {
        return Err(flaw(
            WeightPlace::Cells,
            "no cell of the service carries traffic in normal times".into(),
            "make one of its cells `role: primary`".into(),
        ));
    }
    let regions = region_weights(config, service, &by_region, &carrying)?;
    ServiceWeights::new(regions, cells).map_err(|error| WeightFlaw {
        at: None,
        what: error.to_string(),
        remedy: "give regions and cells weights that add up to `100%`".into(),
    })
}

fn flaw(at: WeightPlace, what: String, remedy: String) -> WeightFlaw {
    WeightFlaw { at: Some(at), what, remedy }
}

type Inner = BTreeMap<CellId, Weight>;

fn inner_weights(region: &RegionId, members: &[(usize, &CellConfig)]) -> Result<(Inner, bool), WeightFlaw> {
    let first = members.first().map_or(0, |(i, _)| *i);
    let named = |weights: Vec<Weight>| members.iter().map(|(_, cell)| cell.id.clone()).zip(weights).collect();
    if members.iter().any(|(_, cell)| cell.weight.is_some()) {
        if let Some((i, cell)) = members.iter().find(|(_, c)| c.role == Role::Primary && c.weight.is_none()) {
            return Err(flaw(
                WeightPlace::Cell(*i),
                format!("primary `{}` has no weight, but other cells of region `{region}` have", cell.id),
                "give all primaries of the region a weight, or none".into(),
            ));
        }
        let bp: Vec<u64> = members.iter().map(|(_, c)| c.weight.map_or(0, |w| u64::from(w.bp()))).collect();
        let weights = complete(&bp).ok_or_else(|| {
            let remedy = "make them add up to `100%`, or leave them all out to share evenly".into();
            let cell = members.iter().find(|(_, c)| c.weight.is_some()).map_or(first, |(i, _)| *i);
            flaw(
                WeightPlace::Cell(cell),
                format!("weights of the cells in region `{region}` add up to {}", percent(&bp)),
                remedy,
            )
        })?;
        return Ok((named(weights), true));
    }
    let carries = members.iter().any(|(_, cell)| cell.role == Role::Primary);
    let even: Vec<u64> =
        members.iter().map(|(_, cell)| u64::from(!carries || cell.role == Role::Primary)).collect();
    Ok((named(apportion(&even)), carries))
}

fn region_weights(
    config: &Config,
    service: &ServiceConfig,
    by_region: &BTreeMap<RegionId, Vec<(usize, &CellConfig)>>,
    carrying: &[RegionId],
) -> Result<BTreeMap<RegionId, Weight>, WeightFlaw> {
    let all =
        |weight_of: &dyn Fn(&RegionId) -> u64| -> Vec<u64> { by_region.keys().map(weight_of).collect() };
    let named = |weights: Vec<Weight>| by_region.keys().cloned().zip(weights).collect();
    if let Some(own) = &service.region_weights {
        for (region, weight) in own {
            if *weight > Weight::ZERO && !carrying.contains(region) {
                return Err(flaw(
                    WeightPlace::RegionWeights(Some(region.clone())),
                    format!("the service has no cell in region `{region}` that carries traffic"),
                    "give the region `0%`, or the service a primary there".into(),
                ));
            }
        }
        let bp = all(&|region| own.get(region).map_or(0, |w| u64::from(w.bp())));
        let weights = complete(&bp).ok_or_else(|| {
            let what = format!("weights of the service's regions add up to {}", percent(&bp));
            flaw(WeightPlace::RegionWeights(None), what, "make them add up to `100%`".into())
        })?;
        return Ok(named(weights));
    }
    let weighted = config.regions.values().any(|region| region.weight.is_some());
    let bp = all(&|region| match config.regions.get(region).and_then(|r| r.weight) {
        _ if !carrying.contains(region) => 0,
        Some(weight) => u64::from(weight.bp()),
        None => u64::from(!weighted),
    });
    if bp.iter().all(|bp| *bp == 0) {
        return Err(WeightFlaw {
            at: None,
            what: "all regions in which the service has primaries have the weight 0%".into(),
            remedy: "give one of them a weight, or the service `region_weights`".into(),
        });
    }
    Ok(named(apportion(&bp)))
}

/// The weights, if they add up to 100% within a basis point each: three of 33.33% are meant to be everything.
pub(crate) fn complete(bp: &[u64]) -> Option<Vec<Weight>> {
    let sum: u64 = bp.iter().sum();
    let stated = bp.iter().filter(|bp| **bp > 0).count() as u64;
    (sum > 0 && sum.abs_diff(10_000) < stated.max(1)).then(|| apportion(bp))
}

pub(crate) fn percent(bp: &[u64]) -> String {
    crate::units::show_percent(bp.iter().sum::<u64>() * 100)
}

/// Weights in proportion to `shares` that add up to exactly 10 000 (largest remainder, the first of equals). All zero
/// when all shares are.
fn apportion(shares: &[u64]) -> Vec<Weight> {
    let total: u64 = shares.iter().sum::<u64>().max(1);
    let mut bp: Vec<u64> = shares.iter().map(|share| share * 10_000 / total).collect();
    let mut order: Vec<usize> = (0..shares.len()).filter(|&i| shares[i] > 0).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(shares[i] * 10_000 % total));
    let missing = 10_000u64.saturating_sub(bp.iter().sum()) as usize;
    // Each floor lost less than one, so fewer are missing than there are shares.
    for &i in order.iter().take(missing) {
        bp[i] += 1;
    }
    bp.into_iter().map(|bp| Weight::from_share(bp as f64 / 10_000.0)).collect()
}
