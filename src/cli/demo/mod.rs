//! stub
use clap::Args;
/// stub
#[derive(Args)]
pub(crate) struct DemoArgs {}
pub(crate) async fn run(_a: DemoArgs) -> anyhow::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
