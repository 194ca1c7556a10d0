//! One series: a ring of its newest observations, and the window made of it.

use std::ops::Range;

use forefend_domain::{MetricKind, MetricWindow, Sample, Timestamp};

use super::{MetricSpec, Recorded, StoreOptions, past::Past};

/// The steps of a window, and what is needed to fill them.
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
    /// How many steps back the observation may lie that a counter's rate is taken from.
    pub(super) lookback: u64,
    pub(super) step_ms: u64,
}

impl Span {
    /// No value in the steps before `to`.
    fn gap(&self, from: u64, to: u64, samples: &mut Vec<Sample>) {
        let at = |step: u64| Timestamp::from_unix_ms(step * self.step_ms);
        samples.extend((from..to).map(|step| Sample { at: at(step), value: None }));
    }

    /// Values of the steps from one on. NaN: a gap.
    fn push(&self, from: u64, values: &[f64], samples: &mut Vec<Sample>) {
        let mut at_ms = from * self.step_ms;
        samples.extend(values.iter().map(|value| {
            let at = Timestamp::from_unix_ms(at_ms);
            at_ms += self.step_ms;
            Sample { at, value: Some(*value).filter(|v| !v.is_nan()) }
        }));
    }
}

/// Rates that are worked out before they become samples.
const AT_ONCE: usize = 128;

/// The number of slots is what memory goes into: 10 bytes each where a step is shorter than a minute, else 12.
#[derive(Debug)]
pub(super) struct Series {
    spec: MetricSpec,
    /// Step `k` lives in slot `k mod len`. NaN: an explicit gap, or nothing was observed.
    values: Box<[f64]>,
    before_end: BeforeEnd,
    /// The newest step observed; 0 before the first. Slots hold it and the `len − 1` steps before it, and nothing older.
    newest: u64,
    /// What windows show of the time before this store.
    past: Option<Box<Past>>,
    /// When the counter began for the last time, as far as it was told; 0: never told.
    began_ms: u64,
}

/// How long before the end of its step each observation was, in milliseconds. The largest number: nothing was observed.
#[derive(Debug)]
enum BeforeEnd {
    /// Of steps that are short enough.
    Short(Box<[u16]>),
    Long(Box<[u32]>),
}

impl BeforeEnd {
    fn new(slots: usize, step_ms: u64) -> Self {
        if step_ms < u64::from(u16::MAX) {
            Self::Short(vec![u16::MAX; slots].into_boxed_slice())
        } else {
            Self::Long(vec![u32::MAX; slots].into_boxed_slice())
        }
    }

    fn get(&self, slot: usize) -> Option<u64> {
        match self {
            Self::Short(all) => Some(all[slot]).filter(|ms| *ms != u16::MAX).map(u64::from),
            Self::Long(all) => Some(all[slot]).filter(|ms| *ms != u32::MAX).map(u64::from),
        }
    }

    /// The same of some slots at once, where all of them were observed and are short.
    fn all_short(&self, slots: Range<usize>) -> Option<&[u16]> {
        let Self::Short(all) = self else { return None };
        let some = &all[slots];
        let observed = some.iter().fold(true, |all, ms| all & (*ms != u16::MAX));
        observed.then_some(some)
    }

    fn clear(&mut self, slot: usize) {
        match self {
            Self::Short(all) => all[slot] = u16::MAX,
            Self::Long(all) => all[slot] = u32::MAX,
        }
    }

    /// What is more than can be said is said to be the most that can.
    fn set(&mut self, slot: usize, ms: u64) {
        match self {
            Self::Short(all) => all[slot] = u16::try_from(ms).unwrap_or(u16::MAX).min(u16::MAX - 1),
            Self::Long(all) => all[slot] = u32::try_from(ms).unwrap_or(u32::MAX).min(u32::MAX - 1),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    at_ms: u64,
    /// NaN: an explicit gap.
    value: f64,
}

impl Series {
    pub(super) fn new(mut spec: MetricSpec, options: &StoreOptions, step_ms: u64) -> Self {
        spec.limit = spec.limit.filter(|l| l.is_finite());
        let slots = options.slots(spec.counter);
        Self {
            spec,
            values: vec![f64::NAN; slots].into_boxed_slice(),
            before_end: BeforeEnd::new(slots, step_ms),
            newest: 0,
            past: None,
            began_ms: 0,
        }
    }

    /// Forgets all that was observed.
    pub(super) fn begin_anew(&mut self, options: &StoreOptions, step_ms: u64) {
        *self = Self::new(self.spec.clone(), options, step_ms);
    }

    pub(super) fn spec(&self) -> &MetricSpec {
        &self.spec
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn set_limit(&mut self, limit: Option<f64>) {
        self.spec.limit = limit.filter(|l| l.is_finite());
    }

    /// Has what a window will be made of brought near, all at once: the place of each series is known only when it comes to it, and one
    /// part after the other would be waited for.
    pub(super) fn bring_near(&self) {
        const LINE: usize = 64;
        let values = self.values.iter().step_by(LINE / size_of::<f64>());
        let mut near = values.fold(0, |all, value| all ^ value.to_bits());
        if let BeforeEnd::Short(all) = &self.before_end
            && self.spec.counter
        {
            near ^= all.iter().step_by(LINE / size_of::<u16>()).fold(0, |all, ms| all ^ u64::from(*ms));
        }
        std::hint::black_box(near);
    }

    pub(super) fn counts_since(&mut self, began: Timestamp) {
        self.began_ms = self.began_ms.max(began.unix_ms());
    }

    pub(super) fn restore(&mut self, past: Past) {
        self.newest = self.newest.max(past.last());
        self.past = Some(Box::new(past));
    }

    /// Forgets the time before the store where it is over before `first`; says whether there is anything left of it.
    pub(super) fn keeps_past(&mut self, first: u64) -> bool {
        self.past.take_if(|past| past.last() < first);
        self.past.is_some()
    }

    fn len(&self) -> u64 {
        self.values.len() as u64
    }

    pub(super) fn adopt(&mut self, spec: &MetricSpec, options: &StoreOptions, step_ms: u64) {
        if self.spec == *spec {
            return;
        }
        // That the limit itself was lifted shows in the kind.
        let lifted = spec.kind == MetricKind::Unbounded && self.spec.kind != MetricKind::Unbounded;
        let limit = spec.limit.filter(|l| l.is_finite()).or(self.spec.limit.filter(|_| !lifted));
        if spec.counter != self.spec.counter {
            // Totals and levels can't stand in one ring.
            let past = self.past.take();
            *self = Self { past, ..Self::new(spec.clone(), options, step_ms) };
        }
        let name = self.spec.name.clone();
        self.spec = MetricSpec { name, limit, ..spec.clone() };
    }

    fn slot_of(&self, step: u64) -> usize {
        (step % self.len()) as usize
    }

    pub(super) fn record(&mut self, step: u64, at_ms: u64, value: Option<f64>, step_ms: u64) -> Recorded {
        if step.saturating_add(self.len()) <= self.newest {
            return Recorded::TooOld;
        }
        // What the ring has come round to is forgotten.
        let passed = step.saturating_sub(self.newest).min(self.len());
        for back in 0..passed {
            let slot = self.slot_of(step - back);
            self.before_end.clear(slot);
            self.values[slot] = f64::NAN;
        }
        self.newest = self.newest.max(step);
        let index = self.slot_of(step);
        if self.observed_at(index, step, step_ms).is_some_and(|held| held.at_ms > at_ms) {
            return Recorded::Superseded;
        }
        self.before_end.set(index, step.saturating_mul(step_ms).saturating_sub(at_ms));
        self.values[index] = value.unwrap_or(f64::NAN);
        Recorded::Kept
    }

    /// What a slot holds of a step that it may hold.
    fn slot(&self, step: u64, slot: usize, step_ms: u64) -> Option<Slot> {
        let before_end = self.before_end.get(slot)?;
        Some(Slot {
            at_ms: step.saturating_mul(step_ms).saturating_sub(before_end),
            value: self.values[slot],
        })
    }

    /// What was observed in a step whose slot is known: a division costs more than all else here.
    fn observed_at(&self, slot: usize, step: u64, step_ms: u64) -> Option<Slot> {
        let held = step <= self.newest && step.saturating_add(self.len()) > self.newest;
        self.slot(step, slot, step_ms).filter(|_| held)
    }

    pub(super) fn window(&self, span: &Span) -> MetricWindow {
        let mut window = MetricWindow {
            name: self.spec.name.clone(),
            family: self.spec.family,
            kind: self.spec.kind,
            unit: self.spec.unit.clone(),
            limit: self.spec.limit,
            samples: Vec::new(),
        };
        self.fill(span, &mut window.samples);
        window
    }

    /// Makes the window in the place of another of the same name.
    pub(super) fn put(&self, span: &Span, window: &mut MetricWindow) {
        window.family = self.spec.family;
        window.kind = self.spec.kind;
        if window.unit != self.spec.unit {
            window.unit.clone_from(&self.spec.unit);
        }
        window.limit = self.spec.limit;
        self.fill(span, &mut window.samples);
    }

    /// The newest value that the window shows, with the end of its step.
    pub(super) fn newest_of(&self, span: &Span) -> Option<(Timestamp, f64)> {
        let mut samples = Vec::new();
        self.fill(span, &mut samples);
        samples.iter().rev().find_map(|sample| Some((sample.at, sample.value?)))
    }

    fn fill(&self, span: &Span, samples: &mut Vec<Sample>) {
        samples.clear();
        samples.reserve((span.last - span.first + 1) as usize);
        if self.spec.counter {
            self.fill_rates(span, samples);
        } else {
            self.fill_levels(span, samples);
        }
        if let Some(past) = &self.past {
            for (step, sample) in (span.first..).zip(samples) {
                sample.value = sample.value.or_else(|| past.value(step));
            }
        }
    }

    /// The steps of a span that the ring may hold, as runs of slots with the step of their first: two where it wraps around.
    fn runs(&self, span: &Span) -> [(u64, Range<usize>); 2] {
        // Of a span that is older than all that is held, nothing is.
        let from = (self.newest + 1).saturating_sub(self.len()).clamp(span.first, span.last + 1);
        let end = (self.newest.min(span.last) + 1).max(from);
        let slot = self.slot_of(from);
        let count = (end - from) as usize;
        let before_wrap = count.min(self.values.len() - slot);
        [(from, slot..slot + before_wrap), (from + before_wrap as u64, 0..count - before_wrap)]
    }

    fn fill_levels(&self, span: &Span, samples: &mut Vec<Sample>) {
        let mut next = span.first;
        for (from, run) in self.runs(span) {
            span.gap(next, from, samples);
            next = from.max(next) + run.len() as u64;
            span.push(from, &self.values[run], samples);
        }
        span.gap(next, span.last + 1, samples);
    }

    /// Per second since the observation before; a gap after an explicit gap, and when the counter began anew.
    fn fill_rates(&self, span: &Span, samples: &mut Vec<Sample>) {
        let lookback = span.lookback.min(self.len() - 1);
        let mut before = self.observed_before(span.first, lookback, span.step_ms);
        let mut next = span.first;
        let mut rates = [f64::NAN; AT_ONCE];
        for (from, run) in self.runs(span) {
            span.gap(next, from, samples);
            next = from.max(next) + run.len() as u64;
            for begin in run.clone().step_by(AT_ONCE) {
                let slots = begin..run.end.min(begin + AT_ONCE);
                let (step, rates) = (from + (begin - run.start) as u64, &mut rates[..slots.len()]);
                // The first is told from the one before by itself.
                let first = slots.start..slots.start + 1;
                self.rates(step, first, lookback, span.step_ms, &mut before, &mut rates[..1]);
                if !self.even_rates(step, &slots, span.step_ms, &mut before, rates) {
                    let rest = slots.start + 1..slots.end;
                    self.rates(step + 1, rest, lookback, span.step_ms, &mut before, &mut rates[1..]);
                }
                span.push(step, rates, samples);
            }
        }
        span.gap(next, span.last + 1, samples);
    }

    /// The rates of some slots from a step on, slot by slot. NaN: a gap.
    fn rates(
        &self,
        step: u64,
        slots: Range<usize>,
        lookback: u64,
        step_ms: u64,
        before: &mut Option<(u64, Slot)>,
        rates: &mut [f64],
    ) {
        for ((step, slot), rate) in (step..).zip(slots).zip(rates) {
            let here = self.slot(step, slot, step_ms);
            let found = here.and_then(|here| {
                let (seen, slot) = before.replace((step, here))?;
                (step - seen <= lookback).then(|| self.rate(here, slot))?
            });
            *rate = found.unwrap_or(f64::NAN);
        }
    }

    /// The same of all but the first of them, several at once, where each was observed; `false`: not so.
    fn even_rates(
        &self,
        step: u64,
        slots: &Range<usize>,
        step_ms: u64,
        before: &mut Option<(u64, Slot)>,
        rates: &mut [f64],
    ) -> bool {
        let Some(before_end) = self.before_end.all_short(slots.clone()) else { return false };
        let last_step = step + slots.len() as u64 - 1;
        let (Some(first), Some(last)) =
            (self.slot(step, slots.start, step_ms), self.slot(last_step, slots.end - 1, step_ms))
        else {
            return false;
        };
        // Where it began anew, and within the first minute after 1970, it is not as simple.
        let began_between = first.at_ms < self.began_ms && self.began_ms <= last.at_ms;
        if began_between || step.saturating_mul(step_ms) < u64::from(u16::MAX) {
            return false;
        }
        let values = &self.values[slots.clone()];
        let step_ms = step_ms as f64;
        for ((rate, [older, newer]), [older_end, newer_end]) in
            rates.iter_mut().skip(1).zip(values.array_windows()).zip(before_end.array_windows())
        {
            let apart_ms = step_ms + (f64::from(*older_end) - f64::from(*newer_end));
            let found = per_second(newer - older, apart_ms);
            // An infinite rate is none, and what is not a number is not greater.
            *rate = if newer >= older && found < f64::INFINITY { found } else { f64::NAN };
        }
        *before = Some((last_step, last));
        true
    }

    /// The newest observation before a step, with its own step.
    fn observed_before(&self, step: u64, lookback: u64, step_ms: u64) -> Option<(u64, Slot)> {
        (1..=lookback.min(step))
            .map(|back| step - back)
            .find_map(|earlier| Some((earlier, self.observed_at(self.slot_of(earlier), earlier, step_ms)?)))
    }

    fn rate(&self, here: Slot, before: Slot) -> Option<f64> {
        if here.value.is_nan() {
            return None;
        }
        if before.at_ms < self.began_ms && self.began_ms <= here.at_ms {
            // It counts from 0 since then.
            let seconds = (here.at_ms - self.began_ms) as f64 / 1_000.0;
            return Some(here.value / seconds).filter(|rate| rate.is_finite());
        }
        if before.value.is_nan() || here.value < before.value {
            return None;
        }
        let rate = per_second(here.value - before.value, (here.at_ms - before.at_ms) as f64);
        Some(rate).filter(|rate| rate.is_finite())
    }
}

fn per_second(grown: f64, ms: f64) -> f64 {
    grown * 1_000.0 / ms
}
