//! The sandbox driver on real processes and the real kernel.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod isolation;
mod world;

use forefend_cells::conformance;

#[test]
fn the_sandbox_driver_does_what_every_driver_must() {
    let mut sandbox = world::Sandbox::new();
    print!("{}", sandbox.sandbox().protections());
    conformance::check_all(&mut sandbox);
}
