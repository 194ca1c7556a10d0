//! The sample service as a program of its own; see the library.

fn main() {
    std::process::exit(forefend_shop::main_from_args(std::env::args().skip(1)));
}
