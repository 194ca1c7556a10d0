//! What is asked, and of which time.

use std::time::Duration;

use forefend_domain::Timestamp;

use super::api::MOST_POINTS;

/// Points of all series that one answer shall hold: some eight megabytes of JSON.
const POINTS_AT_ONCE: u64 = 250_000;

/// The expression, bounded in how long a value is shown that is not renewed, as far as it can be: a metric that is asked for by its name and
/// labels alone. Of anything else a range is part (`rate(…[1m])`), or only newer servers bound it.
///
/// The second half forgets that a series ended, which the first half knows.
pub(super) fn fresh(expression: &str, fresh_for: Duration) -> String {
    let expression = expression.trim();
    if is_selector(expression) {
        format!("{expression} and last_over_time({expression}[{}ms])", fresh_for.as_millis())
    } else {
        expression.to_owned()
    }
}

/// Whether an expression is `name`, `name{…}` or `{…}` and nothing else.
fn is_selector(expression: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let name_ends = expression.find(|c| !of_name(c)).unwrap_or(expression.len());
    let (name, rest) = expression.split_at(name_ends);
    // Numbers look like names, and two of them are words.
    let number = name.starts_with(|c: char| c.is_ascii_digit())
        || name.eq_ignore_ascii_case("inf")
        || name.eq_ignore_ascii_case("nan");
    let rest = rest.trim_start();
    if number || (name.is_empty() && rest.is_empty()) {
        return false;
    }
    rest.is_empty() || rest.strip_prefix('{').is_some_and(closes_at_end)
}

/// Whether the first brace outside of quotes is the last character.
fn closes_at_end(text: &str) -> bool {
    let (mut quote, mut escaped) = (None, false);
    for (place, c) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            Some(q) if c == q => quote = None,
            Some(q) => escaped = c == '\\' && q != '`',
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '}' => return place + 1 == text.len(),
            None => {}
        }
    }
    false
}

/// Instants, evenly spaced: whole multiples of their distance since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    first: u64,
    last: u64,
    step_ms: u64,
}

impl Grid {
    /// The instants from `from` to `to`; `None` when there is none.
    pub(crate) fn between(from: Timestamp, to: Timestamp, step_ms: u64) -> Option<Self> {
        let step_ms = step_ms.max(1);
        let (first, last) = (from.unix_ms().div_ceil(step_ms), to.unix_ms() / step_ms);
        (first <= last).then_some(Self { first, last, step_ms })
    }

    pub(crate) fn range(&self) -> (Timestamp, Timestamp) {
        let at = |n: u64| Timestamp::from_unix_ms(n.saturating_mul(self.step_ms));
        (at(self.first), at(self.last))
    }

    pub(crate) fn count(&self) -> u64 {
        self.last - self.first + 1
    }

    /// The place of an instant in the grid; `None`: it is none of it.
    pub(crate) fn place(&self, at: Timestamp) -> Option<usize> {
        let n = at.unix_ms() / self.step_ms;
        let on_grid = at.unix_ms().is_multiple_of(self.step_ms) && (self.first..=self.last).contains(&n);
        on_grid.then(|| usize::try_from(n - self.first).ok())?
    }

    /// The instant at a place.
    pub(crate) fn at(&self, place: usize) -> Timestamp {
        Timestamp::from_unix_ms((self.first + place as u64).saturating_mul(self.step_ms))
    }

    /// Its last instant.
    pub(super) fn newest(self) -> Self {
        Self { first: self.last, ..self }
    }

    /// What is older than its newest instants, and those.
    pub(super) fn split(self, most: u64) -> (Option<Self>, Self) {
        let most = most.max(1);
        if self.count() <= most {
            return (None, self);
        }
        let middle = self.last - most;
        (Some(Self { last: middle, ..self }), Self { first: middle + 1, ..self })
    }
}

/// How much is asked for at once, learned from what answers hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    series: u64,
    /// Never more than this, for more was refused.
    most: u64,
}

impl Portion {
    /// Before anything was asked: there may be a series for each of so many cells.
    pub(super) fn new(cells: usize) -> Self {
        Self { series: (cells as u64).max(1), most: MOST_POINTS }
    }

    /// So many instants.
    pub(super) fn instants(&self) -> u64 {
        (POINTS_AT_ONCE / self.series).clamp(1, self.most)
    }

    /// There were so many series.
    pub(super) fn answered(&mut self, series: usize) {
        self.series = (series as u64).max(1);
        // What was too much once may have been a bad moment.
        self.most = (self.most + self.most / 8 + 1).min(MOST_POINTS);
    }

    /// It was too much; `false`: less than that can't be asked.
    pub(super) fn too_much(&mut self, instants: u64) -> bool {
        self.most = (instants / 2).max(1);
        instants > 1
    }
}

/// What of the time up to `now` is to be asked: from where it was seen to, and some of it again; at most `look_back`, and never what windows don't
/// reach. All of one clock.
pub(super) fn due(
    seen_to: Option<Timestamp>,
    now: Timestamp,
    overlap: Duration,
    look_back: Duration,
    window: Duration,
) -> Timestamp {
    let oldest = now - look_back.max(overlap).min(window);
    match seen_to {
        None => now - look_back.min(window),
        Some(seen) => (seen.min(now) - overlap).max(oldest),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn what_is_asked_for_by_name_is_bounded_and_anything_else_is_left_alone() {
        for selector in ["up", " up{a=\"}\"} ", "a:b_c {x=~'\\'}',y=`\\`}", "{__name__=\"up\"}", "up{}"] {
            assert!(fresh(selector, Duration::from_secs(60)).ends_with("[60000ms])"), "{selector}");
        }
        assert_eq!(
            fresh("up{a=\"b\"}", Duration::from_secs(30)),
            "up{a=\"b\"} and last_over_time(up{a=\"b\"}[30000ms])"
        );
        for other in [
            "rate(up[1m])",
            "up offset 5m",
            "up + up",
            "up{a=\"b\"} > 1",
            "5",
            "Inf",
            "nan",
            "1e3",
            "",
            "up{a=\"b",
            "up{a=\"b\"}[5m]",
            "sum by (a) (up)",
            "a{b=\"c\"} or d{e=\"f\"}",
            "time()",
        ] {
            assert_eq!(fresh(other, Duration::from_secs(60)), other);
        }
    }

    #[test]
    fn what_was_seen_is_asked_again_for_the_overlap_and_a_gap_as_far_as_windows_reach() {
        let s = Duration::from_secs;
        let due = |seen| due(seen, at(1_000_000), s(30), s(300), s(200));
        assert_eq!(due(None), at(800_000), "no further than a window");
        assert_eq!(due(Some(at(995_000))), at(965_000));
        assert_eq!(due(Some(at(100_000))), at(800_000));
        assert_eq!(due(Some(at(5_000_000))), at(970_000), "a clock that was set back");
        assert_eq!(super::due(None, at(1_000), s(0), s(0), s(9)), at(1_000));
        assert_eq!(super::due(None, at(1_000), s(30), s(300), s(9)), at(0));
    }

    #[test]
    fn what_is_too_much_is_asked_for_in_smaller_portions_until_it_is_one_instant() {
        let mut portion = Portion::new(0);
        assert_eq!(portion.instants(), 10_000);
        portion.answered(5_000);
        assert_eq!(portion.instants(), 50);
        assert!(portion.too_much(50) && portion.instants() == 25);
        assert!(portion.too_much(25) && portion.too_much(12) && portion.instants() == 6);
        assert!(!portion.too_much(1) && portion.instants() == 1);
        for _ in 0..100 {
            portion.answered(5_000);
        }
        assert_eq!(portion.instants(), 50, "it recovers");
        portion.answered(1_000_000);
        assert_eq!(portion.instants(), 1);
    }

    proptest! {
        #[test]
        fn a_grid_is_split_without_loss(from in 0u64..1_000_000, length in 0u64..1_000_000, step in 1u64..5_000, most in 0u64..500) {
            let Some(grid) = Grid::between(at(from), at(from + length), step) else { return Ok(()) };
            let (mut rest, mut seen) = (Some(grid), Vec::new());
            while let Some(part) = rest {
                let (older, newest) = part.split(most);
                prop_assert!(newest.count() <= most.max(1));
                seen.extend((0..newest.count()).rev().map(|n| newest.at(n as usize)));
                rest = older;
            }
            seen.reverse();
            let all: Vec<_> = (0..grid.count()).map(|n| grid.at(n as usize)).collect();
            prop_assert_eq!(&seen, &all);
            prop_assert!(all.iter().enumerate().all(|(n, at)| grid.place(*at) == Some(n)));
            prop_assert!(all[0] >= at(from) && all[all.len() - 1] <= at(from + length));
            prop_assert_eq!(grid.place(at(from + length + step)), None);
        }

        #[test]
        fn no_expression_is_too_odd(text in ".{0,60}") {
            prop_assert!(fresh(&text, Duration::from_secs(1)).contains(text.trim()));
        }
    }
}
