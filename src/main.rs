//! The `entitled` binary; see `entitled --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    entitled::cli::main()
}
