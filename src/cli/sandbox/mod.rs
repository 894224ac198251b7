//! `sandbox`: the store simulator, alone or playing scenario files.

mod alone;
mod files;
pub mod run;

use std::process::ExitCode;

use clap::{Args, Subcommand};

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = alone::EXAMPLES
)]
pub(crate) struct SandboxArgs {
    #[command(flatten)]
    alone: alone::AloneArgs,
    #[command(subcommand)]
    command: Option<SandboxCommand>,
}

#[derive(Subcommand)]
enum SandboxCommand {
    /// Play scenario files against a server, and say where it differs from the truth
    Run(run::RunArgs),
}

impl SandboxArgs {
    /// What is worth a log line: a scenario tells by itself what went wrong.
    pub(super) const fn logs(&self) -> &'static str {
        match self.command {
            Some(SandboxCommand::Run(_)) => "off",
            None => "warn",
        }
    }
}

pub(super) async fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(SandboxCommand::Run(args)) => run::run(args).await,
        None => {
            alone::run(args.alone).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
