//! What alarms and shifts were good for. Pure.

use std::time::Duration;

use forefend_domain::Timestamp;

use super::trace::Known;

/// What came of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// The incident with this place among the known ones.
    Incident(usize),
    /// It was raised while an incident was going on, or in its wake.
    During,
    /// Nothing.
    Nothing,
    /// The recording ends before that could be known.
    Unknown,
}

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alarm<'a> {
    /// Of the same cell.
    pub(crate) known: &'a [Known],
    pub(crate) since: Timestamp,
    /// Until when it stood; `None`: until the end.
    pub(crate) until: Option<Timestamp>,
    /// The recording's end.
    pub(crate) recorded_until: Timestamp,
    pub(crate) horizon: Duration,
    /// An alarm is over when it has not held for so long.
    pub(crate) grace: Duration,
}

impl Alarm<'_> {
    /// It is right when an incident begins while it stands, or within the horizon; wrong when none does and the recording shows that.
    pub(crate) fn came(self) -> Came {
        let Self { known, since, until, recorded_until, horizon, grace } = self;
        let during = |i: &&Known| i.began < since && since < i.ended + grace;
        if known.iter().any(|i| during(&i)) {
            return Came::During;
        }
        let stands_until = until.map_or(Timestamp::from_unix_ms(u64::MAX), |until| until + grace);
        let answers_for = stands_until.max(since + horizon);
        if let Some(hit) = known.iter().position(|i| since <= i.began && i.began <= answers_for) {
            return Came::Incident(hit);
        }
        let shown = since + horizon <= recorded_until;
        let over = until.is_some_and(|until| until < recorded_until);
        if shown || over { Came::Nothing } else { Came::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1_000)
    }

    fn came(since: u64, until: Option<u64>) -> Came {
        let known = [(100, 120), (300, 310)].map(|(began, ended)| Known {
            cell: "a".parse().unwrap(),
            began: at(began),
            ended: at(ended),
            end_is_assumed: false,
            kind: String::new(),
            event: String::new(),
        });
        let alarm = Alarm {
            known: &known,
            since: at(since),
            until: until.map(at),
            recorded_until: at(400),
            horizon: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        };
        alarm.came()
    }

    #[test]
    fn an_alarm_answers_for_its_horizon_and_for_as_long_as_it_stands() {
        assert_eq!(came(80, Some(85)), Came::Incident(0), "within the horizon");
        assert_eq!(came(100, Some(100)), Came::Incident(0), "at the last moment");
        assert_eq!(came(20, Some(99)), Came::Incident(0), "stood until then");
        assert_eq!(came(20, Some(60)), Came::Nothing);
        assert_eq!(came(110, Some(119)), Came::During);
        assert_eq!(came(123, None), Came::During, "in its wake");
        assert_eq!(came(126, None), Came::Incident(1), "it stands");
        assert_eq!(came(320, Some(330)), Came::Nothing, "it ended before the recording does");
        assert_eq!(came(360, None), Came::Nothing, "the horizon passed");
        assert_eq!(came(380, None), Came::Unknown);
    }
}
