//! What is decided: stories, properties, and each invariant by itself.

mod drill;
mod giving_back;
mod invariants;
mod pre_test;
mod pre_test_limits;
mod properties;
mod several;
mod standby;
mod stories;
mod support;
