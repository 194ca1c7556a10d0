//! Several cells in motion at once, and several mirrors of one.
//!
//! Every tick of every story is also checked against every invariant (see `support`).

use std::{collections::BTreeSet, time::Duration};

use forefend_domain::{Basis, ObjectiveState, ShiftRequest, Weight};

use crate::{
    pre_test::{rises, tried, trying},
    support::{SOON_S, Story, bp, close, id},
};

#[test]
fn what_a_pre_test_has_moved_counts_in_the_very_tick_in_which_its_shift_begins() {
    let mut story = trying()
        .with_standby("spare-2", "south", "south-b")
        .with_policy(|policy| policy.budgets.max_weight_in_motion = bp(275));
    rises(&mut story, "south", 0.6);
    story.seconds(1);
    assert_eq!(tried(&story, "south"), bp(100));
    for cell in ["north", "south"] {
        story.world.requested.insert(id(cell), ShiftRequest::of_operator(Weight::FULL));
    }
    story.tick();
    let away = 1.0 - story.share("north") - story.share("south");
    assert!(away <= 0.027_5 + 1e-4, "{away}");
    // What is left beside a hundredth of the south, not the whole canary of a twentieth.
    assert_eq!(story.shift("north").target, bp(450));
}

#[test]
fn what_rounding_leaves_at_a_cell_makes_it_no_mirror() {
    let mut story = Story::begin();
    story.fails("north");
    story.seconds(1);
    assert_eq!(story.shift("north").carriers, BTreeSet::from([id("spare")]));
    // It was asked once, long ago.
    let asked =
        story.memory.shifts.get_mut("north").map(|shift| shift.mirrors.entry(id("south")).or_default());
    asked.expect("a shift").requests = 500;
    story.weights_are(&[("south", 0.500_2), ("spare", 0.499_8)]);
    story.tick();
    assert_eq!(story.shift("north").carriers, BTreeSet::from([id("spare")]));
}

#[test]
fn a_mirror_that_may_not_grow_leaves_the_rest_to_others() {
    let mut story = Story::begin();
    let passport = story.at("spare").passport.take();
    story.is_predicted("north", 0.9, Some(SOON_S), Basis::FirstPassage);
    story.until("the south has its canary", |s| s.share("south") > 0.52);
    let since = story.world.now;
    story.at("south").objective = ObjectiveState::Breaking { since };
    story.at("spare").passport = passport;
    story.fails("north");
    story.tick();
    let (south, spare) = (story.share("south"), story.share("spare"));
    assert!(close(south + spare, 1.0) && spare > 0.4, "{south} {spare}");
    assert!(story.world.now.since(since) < Duration::from_secs(1));
}
