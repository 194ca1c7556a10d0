use forefend_domain::{ShiftReason, Verdict, Weight};

use crate::ShiftMemory;

/// How a shift that has come to its end turned out.
///
/// Saved needs both: a failure, and all traffic away before the breach began. When the cell stayed well after most
/// of its traffic had been taken away, nobody can know whether it would have failed under it: that is *unknown*, and training
/// must treat it as censored, not as a false alarm.
pub(crate) fn verdict(shift: &ShiftMemory) -> Verdict {
    match (shift.began_as, shift.failed_since) {
        (ShiftReason::Operator | ShiftReason::Drill | ShiftReason::Relief | ShiftReason::Failed, _) => {
            Verdict::Neutral
        }
        (ShiftReason::Predicted, Some(failed)) => match shift.done_at {
            Some(done) if done <= failed => Verdict::Saved,
            _ => Verdict::Neutral,
        },
        (ShiftReason::Predicted, None) => {
            if shift.most_moved.bp() * 2 < Weight::FULL.bp() {
                Verdict::FalseAlarm
            } else {
                Verdict::Unknown
            }
        }
    }
}
