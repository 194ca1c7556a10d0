//! The sample service: a small shop whose cells call an inventory in their own zone.
//!
//! It is a real service in the respects that matter to predictive failover. It keeps state in memory (a catalogue, carts)
//! and on disk (the log of what it executed), it depends on another service for most of its answer time, it tells of
//! itself on `/metrics`, and it ends gracefully on SIGTERM. Its faults ([`Fault`]) are local to the process and go on
//! without traffic, so that a cell whose traffic was moved away still comes to its end.
//!
//! Start from [`main_from_args`], which the `forefend-shop` program and the demo call alike.
//!
//! | path | kind | answer |
//! |---|---|---|
//! | `GET /item/{n}` | shop | an item of about 1 KiB with its stock, asked from the inventory |
//! | `POST /cart` | shop | puts `{"item": n}` into the cart of `{"user": "…"}` after asking the inventory |
//! | `GET /stock/{sku}` | inventory | the stock of an item, after the base delay |
//! | `GET /healthz` | both | 200 as long as the process answers at all |
//! | `GET /ready` | both | 200 once the catalogue is loaded and, for a shop, its inventory answers |
//! | `GET /metrics` | both | Prometheus text |
//! | `GET`, `POST /fault` | both | reads, sets the faults; needs the control token in `x-control-token` |

mod args;
mod fault;
mod inventory;
mod metrics;
mod server;
mod shop;

pub use args::{Args, Kind, USAGE};
pub use fault::{Fault, FaultState};
pub use server::serve;

/// Runs the service until SIGTERM or SIGINT and returns the exit status: 0 after a graceful end, 1 when it could not
/// run, 2 when `args` (without the program's name) are wrong. Says why on stderr.
#[must_use]
pub fn main_from_args(args: impl IntoIterator<Item = String>) -> i32 {
    let args = match Args::parse(args) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("shop: {why}\n{USAGE}");
            return 2;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("shop: the runtime can't start: {why}");
            return 1;
        }
    };
    match runtime.block_on(serve(args)) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("shop: {why}");
            1
        }
    }
}
