use forefend_domain::Timestamp;

/// Values of steps from before a store began.
#[derive(Debug)]
pub(super) struct Past {
    first: u64,
    /// One a step from `first` on; NaN: a gap.
    values: Box<[f64]>,
}

impl Past {
    /// The last `length` steps up to the newest of `samples`; `None` when there is none. The samples must be in order.
    pub(super) fn new(samples: &[(Timestamp, f64)], step_ms: u64, length: usize) -> Option<Self> {
        let step_of = |at: Timestamp| at.unix_ms().div_ceil(step_ms);
        let last = step_of(samples.last()?.0);
        let oldest = last.saturating_sub((length as u64).saturating_sub(1));
        let first = samples.iter().map(|(at, _)| step_of(*at)).find(|step| *step >= oldest)?;
        let mut values = vec![f64::NAN; usize::try_from(last - first + 1).ok()?].into_boxed_slice();
        for (at, value) in samples {
            if let Some(place) = step_of(*at).checked_sub(first).and_then(|n| usize::try_from(n).ok())
                && let Some(held) = values.get_mut(place)
            {
                *held = *value;
            }
        }
        Some(Self { first, values })
    }

    /// The newest step that it knows.
    pub(super) fn last(&self) -> u64 {
        self.first + (self.values.len() as u64).saturating_sub(1)
    }

    pub(super) fn value(&self, step: u64) -> Option<f64> {
        let place = usize::try_from(step.checked_sub(self.first)?).ok()?;
        self.values.get(place).copied().filter(|value| value.is_finite())
    }
}
