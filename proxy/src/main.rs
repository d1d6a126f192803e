//! The binary `pgherd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgherd::run()
}
