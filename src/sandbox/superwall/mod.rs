//! Superwall as the stores' listener: what happens at either store becomes one of its webhooks,
//! signed by Svix. It adds nothing of its own, and comes after what the store itself says.

mod app_store;
mod envelope;
mod event;
mod google_play;
mod proofs;
mod rules;
mod secrets;

use super::app_store::{Chain, Signal as AppStoreSignal};
use super::delivery::{DeliveryState, Notification, NotificationRecord, Source};
use super::google_play::{Purchase, Signal as GooglePlaySignal};
use super::state::Turn;
use envelope::Context;
use event::Event;
pub(super) use rules::Superwall;
pub use rules::{SuperwallIdentity, SuperwallRules, SuperwallVersion};
pub(super) use secrets::Secrets;

impl Turn<'_> {
    /// The App Store has something to tell about a chain; `chain` is as it stands afterwards.
    pub(super) fn superwall_about_app_store(&mut self, chain: &Chain, signal: &AppStoreSignal) {
        if self.superwall_listens()
            && let Some(event) = app_store::event(chain, signal, self.now)
        {
            self.superwall_tell(&event);
        }
    }

    /// Google Play has something to tell about a purchase; `purchase` is as it stands afterwards.
    pub(super) fn superwall_about_google_play(
        &mut self,
        purchase: &Purchase,
        signal: &GooglePlaySignal,
    ) {
        if !self.superwall_listens() {
            return;
        }
        let purchases = &self.world.google_play.purchases;
        let linked = purchase.linked_token.as_ref();
        let replaced = linked.and_then(|token| purchases.get(token));
        let events = google_play::events(purchase, replaced, signal, self.now);
        for event in events {
            self.superwall_tell(&event);
        }
    }

    fn superwall_listens(&self) -> bool {
        self.world.outbox.webhooks.superwall.is_some()
    }

    fn superwall_tell(&mut self, event: &Event) {
        let context = Context {
            setup: self.setup,
            known: &self.world.superwall,
            now: self.world.shown(Source::Superwall, self.now),
            number: self.world.outbox.next_number(),
        };
        let message = context.message(event);
        self.send(Notification::new(NotificationRecord {
            id: message.id,
            source: Source::Superwall,
            notification_type: event.name.as_str().to_owned(),
            subtype: None,
            purchase: Some(event.subject.purchase.clone()),
            created_at: self.now,
            state: DeliveryState::Pending,
            sins: Vec::new(),
            attempts: Vec::new(),
            body: message.body,
        }));
    }
}
