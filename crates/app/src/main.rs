//! The `forefend` binary.

use std::process::ExitCode;

/// A request through the director allocates a dozen times; with the C library's allocator it takes 5% more instructions.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // These come before anything else is set up: the first becomes the cell's own process, the others are processes that
    // do one thing.
    match args.first().map(String::as_str) {
        Some(forefend_cells::INIT_ARGUMENT) => forefend_cells::init_main(&args[1..]),
        Some(forefend_chaos::HELPER_ARGUMENT) => {
            let code = forefend_chaos::helper_main(&args[1..]);
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Some("shop") => {
            let code = forefend_shop::main_from_args(args.into_iter().skip(1));
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        _ => forefend::cli::run(),
    }
}
