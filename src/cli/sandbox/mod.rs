//! `sandbox`: the store simulator, alone or playing scenario files.

mod alone;
mod files;

use std::process::ExitCode;

use clap::Args;

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = alone::EXAMPLES
)]
pub(crate) struct SandboxArgs {
    #[command(flatten)]
    alone: alone::AloneArgs,
}

pub(super) async fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    alone::run(args.alone).await?;
    Ok(ExitCode::SUCCESS)
}
