//! Superwall as the stores' listener: what happens at either store becomes one of its webhooks.

mod proofs;

use super::app_store::{self, Chain};
use super::google_play::{self, Purchase};
use super::state::Turn;

impl Turn<'_> {
    /// The App Store has something to tell about a chain; `chain` is as it stands afterwards.
    pub(super) fn superwall_about_app_store(
        &mut self,
        _chain: &Chain,
        _signal: &app_store::Signal,
    ) {
    }

    /// Google Play has something to tell about a purchase; `purchase` is as it stands afterwards.
    pub(super) fn superwall_about_google_play(
        &mut self,
        _purchase: &Purchase,
        _signal: &google_play::Signal,
    ) {
    }
}
