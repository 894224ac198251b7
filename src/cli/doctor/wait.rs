//! `doctor --wait`: the first purchase, followed from the store's notification to access.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::look::Looked;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::AccountId;
use crate::storage::arrivals::{self, Notified, Touched};
use crate::storage::{StorageError, snapshots};

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) timeout: Duration,
    /// After so long without anything new, what is missing is said.
    pub(super) quiet: Duration,
}

/// An entitlement that is on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct On {
    account: AccountId,
    provider: String,
    entitlement: String,
    until: String,
}

/// Everything that came since the beginning.
#[derive(Clone, Debug, Default)]
struct Seen {
    notifications: Vec<Notified>,
    purchases: Vec<Touched>,
    on: Vec<On>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Happened {
    stage: Stage,
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Notification,
    Purchase,
    Bind,
    Decided,
    Bound,
    On,
}

impl Stage {
    fn label(self) -> &'static str {
        match self {
            Self::Notification => "notification in",
            Self::Purchase => "purchase known",
            Self::Bind => "app asked to bind",
            Self::Decided => "store asked, decided",
            Self::Bound => "bound to an account",
            Self::On => "entitlement on",
        }
    }
}

impl Seen {
    /// Everything that can be told, each thing once however often it is seen.
    fn happened(&self) -> Vec<Happened> {
        let mut all = Vec::new();
        let mut tell = |stage, what: String| all.push(Happened { stage, what });
        for one in &self.notifications {
            let kind = one.kind.as_deref().unwrap_or("not read yet");
            tell(Stage::Notification, format!("{}: {kind}", one.source));
        }
        for one in &self.purchases {
            let name = format!("{} {}", one.provider, one.chain.0);
            tell(Stage::Purchase, name.clone());
            if one.claimed {
                tell(Stage::Bind, name.clone());
            }
            if let Some(reason) = &one.reason {
                tell(Stage::Decided, format!("{name}: {reason}"));
            }
            if let Some(owner) = one.owner {
                tell(Stage::Bound, format!("{name} → account {}", owner.0));
            }
        }
        for one in &self.on {
            let what = format!(
                "{} of account {}, {}",
                one.entitlement, one.account.0, one.until
            );
            tell(Stage::On, what);
        }
        all
    }

    /// A purchase that its store told of, whose owner has access by it.
    fn is_done(&self) -> bool {
        self.purchases.iter().any(|one| {
            let told = self
                .notifications
                .iter()
                .any(|it| it.chain == Some(one.chain.0));
            told && self.opens(one)
        })
    }

    fn opens(&self, one: &Touched) -> bool {
        let by_it = |on: &&On| Some(on.account) == one.owner && on.provider == one.provider;
        one.owner.is_some() && self.on.iter().any(|on| by_it(&on))
    }

    /// What has not happened yet, and why it may be so.
    fn missing(&self) -> String {
        let Some(one) = self.purchases.last() else {
            return self.missing_purchase();
        };
        let guide = match one.provider.as_str() {
            "google_play" => "Google Play 5 and 6",
            _ => "App Store 4",
        };
        if one.failures > 0 {
            return format!(
                "{} cannot be asked about the purchase ({} tries failed): run `entitled doctor`",
                one.provider, one.failures
            );
        }
        if one.decisions == 0 || one.waits {
            return "the purchase waits to be read: does a worker run?".to_owned();
        }
        if one.reason.as_deref() == Some("unmapped_product") {
            return "the catalog does not know the product: add it (product and base plan to the \
                    letter) and apply it; it grants from then on"
                .to_owned();
        }
        if one.owner.is_none() {
            return "nobody owns the purchase: the app must send it with BindPurchase, or pass the \
                    account's store token (appAccountToken, obfuscatedAccountId) when buying"
                .to_owned();
        }
        if !self.opens(one) {
            return format!(
                "the purchase has an owner and opens nothing: {}; see `entitled explain`, and \
                 sandbox_access in the catalog",
                one.reason.as_deref().unwrap_or("no decision")
            );
        }
        format!(
            "access is on, but the store's own notification has not come: without it renewals and \
             refunds are noticed late. See {guide}"
        )
    }

    fn missing_purchase(&self) -> String {
        match self.notifications.last() {
            None => "nothing came, neither a notification nor BindPurchase of an app. Did the \
                     purchase succeed on the device? Is the app's server address this one? Does the \
                     webhook role run at the public address (server 7)?"
                .to_owned(),
            Some(one) => match (one.status.as_str(), &one.detail) {
                ("received" | "sealed", _) => {
                    "a notification came and waits to be read: does a worker run?".to_owned()
                }
                ("ignored", detail) => format!(
                    "a notification came that is about no purchase ({}); the next may be",
                    detail.as_deref().unwrap_or("a test")
                ),
                (status, detail) => format!(
                    "a notification came and is {status}: {}",
                    detail.as_deref().unwrap_or("no detail")
                ),
            },
        }
    }
}

/// Follows until a purchase is through, or patience ends.
pub(super) async fn follow(
    config: &Config,
    patience: Patience,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let Looked { core, failed } = crate::app::look::core(config).await?;
    if let Some((step, error)) = failed.into_iter().next() {
        return Err(error.context(format!("{step}; `entitled doctor` says what to do")));
    }
    let mark = arrivals::mark(&core.db).await?;
    let (began, began_at) = (core.clock.now(), Instant::now());
    let teller = Teller { began_at, json };
    teller.say(
        "waiting",
        "buy something without real money now (Ctrl-C ends it)",
    );
    let mut told: BTreeSet<Happened> = BTreeSet::new();
    let mut news_at = Instant::now();
    let mut hinted = String::new();
    loop {
        let seen = match look(&core, mark, began).await {
            // The next look may be quicker.
            Err(StorageError::Slow(_)) if began_at.elapsed() < patience.timeout => continue,
            looked => looked?,
        };
        for one in seen.happened() {
            if told.insert(one.clone()) {
                teller.say(one.stage.label(), &one.what);
                news_at = Instant::now();
            }
        }
        if seen.is_done() {
            let seconds = began_at.elapsed().as_secs_f64();
            teller.say(
                "done",
                &format!("from nothing to access, {seconds:.1} s after the start"),
            );
            core.db.close().await;
            return Ok(ExitCode::SUCCESS);
        }
        let over = began_at.elapsed() >= patience.timeout;
        let quiet = news_at.elapsed() >= patience.quiet;
        let missing = seen.missing();
        if over || (quiet && missing != hinted) {
            teller.say("missing", &missing);
            hinted = missing;
            news_at = Instant::now();
        }
        if over {
            core.db.close().await;
            return Ok(ExitCode::FAILURE);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn look(
    core: &crate::flows::Core,
    mark: arrivals::Mark,
    began: crate::domain::time::Instant,
) -> Result<Seen, StorageError> {
    let notifications = arrivals::notifications(&core.db, mark).await?;
    let purchases = arrivals::purchases(&core.db, mark, began).await?;
    let owners: BTreeSet<_> = purchases.iter().filter_map(|one| one.owner).collect();
    let owners: Vec<AccountId> = owners.into_iter().collect();
    let mut on = Vec::new();
    for stored in snapshots::read_many(&core.db, &owners).await? {
        for entitlement in &stored.snapshot.entitlements {
            for source in &entitlement.sources {
                let Some(provider) = source.store else {
                    continue;
                };
                on.push(On {
                    account: stored.account,
                    provider: provider.as_str().to_owned(),
                    entitlement: entitlement.id.clone(),
                    until: source.expires_at.map_or_else(
                        || "for ever".to_owned(),
                        |until| format!("until {}", until.format("%F %T UTC")),
                    ),
                });
            }
        }
    }
    Ok(Seen {
        notifications,
        purchases,
        on,
    })
}

struct Teller {
    began_at: Instant,
    json: bool,
}

impl Teller {
    fn say(&self, stage: &str, what: &str) {
        let (now, elapsed) = (Clock::System.now(), self.began_at.elapsed().as_secs_f64());
        if self.json {
            let line = serde_json::json!({
                "at": now, "elapsed_seconds": elapsed, "stage": stage, "what": what,
            });
            println!("{line}");
        } else {
            println!("{}  {elapsed:>7.1} s  {stage:<21} {what}", now.format("%T"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ChainId;
    use uuid::Uuid;

    fn chain() -> ChainId {
        ChainId(Uuid::from_u128(7))
    }

    fn purchase() -> Touched {
        Touched {
            chain: chain(),
            provider: "google_play".into(),
            owner: Some(AccountId(Uuid::from_u128(1))),
            decisions: 1,
            reason: Some("purchased".into()),
            waits: false,
            failures: 0,
            claimed: true,
        }
    }

    fn notified(status: &str) -> Notified {
        Notified {
            source: "google_play".into(),
            kind: Some("SUBSCRIPTION_PURCHASED".into()),
            status: status.into(),
            detail: None,
            chain: Some(chain().0),
        }
    }

    fn on() -> On {
        On {
            account: AccountId(Uuid::from_u128(1)),
            provider: "google_play".into(),
            entitlement: "pro_access".into(),
            until: "for ever".into(),
        }
    }

    #[test]
    fn a_purchase_is_through_once_its_store_told_of_it_and_its_owner_has_access() {
        let mut seen = Seen {
            notifications: vec![notified("processed")],
            purchases: vec![purchase()],
            on: vec![on()],
        };
        assert!(seen.is_done());
        assert_eq!(seen.happened().len(), 6);
        seen.notifications[0].chain = None;
        assert!(!seen.is_done(), "a notification about something else");
        assert!(seen.missing().contains("Google Play 5 and 6"));
        seen.on.clear();
        assert!(!seen.is_done());
    }

    #[test]
    fn what_is_missing_is_said_in_the_order_in_which_it_is_needed() {
        let with = |change: fn(&mut Touched)| {
            let mut one = purchase();
            change(&mut one);
            Seen {
                notifications: vec![notified("processed")],
                purchases: vec![one],
                on: vec![],
            }
        };
        let only = |status| Seen {
            notifications: vec![notified(status)],
            ..Seen::default()
        };
        let cases = [
            (Seen::default(), "nothing came"),
            (only("received"), "does a worker run"),
            (only("ignored"), "about no purchase"),
            (only("failed"), "is failed"),
            (with(|one| one.failures = 3), "3 tries failed"),
            (with(|one| one.waits = true), "does a worker run"),
            (
                with(|one| one.reason = Some("unmapped_product".into())),
                "the catalog does not know",
            ),
            (with(|one| one.owner = None), "nobody owns"),
            (with(|_| {}), "opens nothing"),
        ];
        for (seen, expected) in cases {
            let told = seen.missing();
            assert!(told.contains(expected), "{expected}: {told}");
            assert!(!seen.is_done());
        }
    }
}
