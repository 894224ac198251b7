//! `entitled demo`: a purchase becomes access on two devices, over the real interfaces, with checks.

mod device;
mod printing;
mod report;
mod scene;
mod stage;
mod steps;
mod story;
mod tables;

use std::process::ExitCode;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use printing::Voice;
use stage::Stage;
use story::{Enter, Narrator, STEPS, Stopped};

const OPENING: &str =
    "See store purchases become access on two devices, live, and stay right when stores misbehave.";
/// What a shell says of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Play a purchase becoming access on every device, on simulated stores
#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Wait for Enter between the steps
    #[arg(long)]
    step: bool,
    /// Print one JSON object per step and a summary object, nothing else
    #[arg(long)]
    json: bool,
}

/// Plays the story. Success only if every step did what it should.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let voice = Voice::new(args.json);
    let mut narrator = Narrator::new(voice, args.step.then(Enter::listen));
    let mut stage = Stage::new();
    let played = tokio::select! {
        played = play(&mut stage, &mut narrator) => Some(played),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    // What was started is stopped whatever happened; the story's own failure is told first.
    let cleared = stage.clear().await;
    let Some(played) = played else {
        cleared?;
        voice.aside("Interrupted; everything that the demo had started is gone.");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let told = played?;
    voice.summary(&narrator.report, STEPS, &commands());
    cleared?;
    Ok(if told.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn play(stage: &mut Stage, narrator: &mut Narrator) -> anyhow::Result<Result<(), Stopped>> {
    narrator.voice.aside(OPENING);
    narrator
        .voice
        .aside("Starting a database, simulated stores and the server …");
    let began = Instant::now();
    let stack = stage.raise().await?;
    narrator.voice.aside(&format!(
        "Up after {:.1} s: app and devices speak gRPC to {}, the stores call its webhooks.",
        began.elapsed().as_secs_f64(),
        stack.address.server
    ));
    Ok(story::tell(stack, narrator).await)
}

/// What to try next, by the name that this program was called with.
fn commands() -> Vec<String> {
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "entitled".to_owned());
    let dev = match std::env::var_os("CARGO") {
        Some(_) => "cargo run -- dev".to_owned(),
        None => format!("{program} dev"),
    };
    vec![
        dev,
        format!("{program} watch alice"),
        format!("{program} buy alice pro_yearly"),
    ]
}
