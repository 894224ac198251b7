//! The order of the story, and who tells it: one step after the other, until one goes wrong.

use std::future::Future;

use super::printing::Voice;
use super::report::{Miss, Report, Shown, Words};
use super::steps::{app_store, books, devices, google_play, strangers, time};
use crate::cli::stack::Stack;

/// How many steps the story has.
pub(super) const STEPS: usize = 17;

/// A step went wrong, and the audience knows: what follows would build on it.
pub(super) struct Stopped;

/// Tells the whole story.
pub(super) async fn tell(stack: &Stack, narrator: &mut Narrator) -> Result<(), Stopped> {
    let mut scene = narrator.step(&devices::OPEN, devices::open(stack)).await?;
    let scene = &mut scene;

    let apple = narrator
        .step(&app_store::BUY, app_store::buy(scene))
        .await?;
    narrator
        .step(
            &app_store::LATE_MESSAGE,
            only(app_store::late_message(scene)),
        )
        .await?;
    let renewal = narrator
        .step(&app_store::RENEW, app_store::renew(scene))
        .await?;
    narrator
        .step(
            &app_store::DUPLICATE,
            only(app_store::duplicate(scene, &renewal)),
        )
        .await?;
    narrator
        .step(
            &app_store::OUT_OF_ORDER,
            only(app_store::out_of_order(scene, &apple)),
        )
        .await?;
    narrator
        .step(&app_store::REFUND, only(app_store::refund(scene, &renewal)))
        .await?;

    let google = narrator
        .step(&google_play::BUY, google_play::buy(scene))
        .await?;
    narrator
        .step(&google_play::BIND, only(google_play::bind(scene, &google)))
        .await?;
    narrator
        .step(&google_play::RENEW, only(google_play::renew(scene)))
        .await?;
    narrator
        .step(
            &google_play::REFUND,
            only(google_play::refund(scene, &google)),
        )
        .await?;

    let again = narrator
        .step(&time::COME_BACK, time::come_back(scene))
        .await?;
    narrator
        .step(
            &strangers::CLAIM,
            only(strangers::claim(scene, &again, &google)),
        )
        .await?;
    narrator.step(&time::END, only(time::end(scene))).await?;

    narrator
        .step(&devices::LATE, only(devices::late(scene)))
        .await?;
    narrator
        .step(&books::TIMELINE, only(books::timeline(scene)))
        .await?;
    narrator
        .step(&books::REPLAY, only(books::replayed(scene)))
        .await
}

/// A step that leaves nothing for the next ones.
async fn only(step: impl Future<Output = Result<Shown, Miss>>) -> Result<(Shown, ()), Miss> {
    step.await.map(|shown| (shown, ()))
}

/// Tells each step, counts, and keeps the report.
pub(super) struct Narrator {
    pub(super) voice: Voice,
    pub(super) report: Report,
    /// Enter, if somebody wants to be waited for.
    pub(super) enter: Option<Enter>,
    step: usize,
}

impl Narrator {
    pub(super) fn new(voice: Voice, enter: Option<Enter>) -> Self {
        Self {
            voice,
            report: Report::default(),
            enter,
            step: 0,
        }
    }

    /// Announces a step, lets it happen, and says what came of it.
    async fn step<T>(
        &mut self,
        words: &Words,
        happens: impl Future<Output = Result<(Shown, T), Miss>>,
    ) -> Result<T, Stopped> {
        if let (Some(enter), 1..) = (&mut self.enter, self.step) {
            self.voice.ask_for_enter();
            enter.pressed().await;
        }
        self.step += 1;
        self.voice.begin_step(self.step, STEPS, words);
        match happens.await {
            Ok((shown, left)) => {
                self.report.pass(self.step, words, &shown);
                self.voice.end_step(self.step, words, &Ok(shown));
                Ok(left)
            }
            Err(miss) => {
                self.report.failed = true;
                self.voice.end_step(self.step, words, &Err(miss));
                Err(Stopped)
            }
        }
    }
}

/// The Enter key. Read by a thread of its own: a process may end while it waits.
pub(super) struct Enter(tokio::sync::mpsc::UnboundedReceiver<()>);

impl Enter {
    pub(super) fn listen() -> Self {
        let (pressed, enter) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lines() {
                if line.is_err() || pressed.send(()).is_err() {
                    return;
                }
            }
        });
        Self(enter)
    }

    /// Returns at the next Enter; at once if there is no more input.
    async fn pressed(&mut self) {
        self.0.recv().await;
    }
}
