//! Superwall's webhook bodies.
//!
//! The legacy shape is Superwall's published one. Of the second version only its additions are
//! public (subscription state, aliases, user attributes), not their names: here the event's `data`
//! stays as it was, and `subscription`, `aliases` and `userAttributes` stand beside its fields. A
//! reader that looks for the legacy fields in `data` understands both.

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::delivery::Store;
use super::super::setup::{Environment, StoreSetup, storefront};
use super::event::{Event, Name, Subject};
use super::rules::{Superwall, SuperwallIdentity, SuperwallVersion};

const PROJECT_ID: u32 = 1;
/// Of every sale that is not made by a small business.
const COMMISSION_PERCENT: i64 = 30;
const MESSAGE_ID_CHARS: usize = 27;

/// An event on its way out.
pub(super) struct Message {
    /// Svix' id of it.
    pub(super) id: String,
    pub(super) body: String,
}

/// Everything around an event that its body tells.
pub(super) struct Context<'a> {
    pub(super) setup: &'a StoreSetup,
    pub(super) known: &'a Superwall,
    pub(super) now: DateTime<Utc>,
    /// Position of the notification in the outbox.
    pub(super) number: u64,
}

impl Context<'_> {
    pub(super) fn message(&self, event: &Event) -> Message {
        let name = event.name.as_str();
        let millis = self.now.timestamp_millis();
        let application = match event.subject.store {
            Store::AppStore => 1,
            Store::GooglePlay => 2,
        };
        let body = json!({
            "object": "event",
            "type": name,
            "projectId": PROJECT_ID,
            "applicationId": application,
            "timestamp": millis,
            "data": self.data(event),
        });
        Message {
            id: self.message_id(event),
            body: body.to_string(),
        }
    }

    fn data(&self, event: &Event) -> Value {
        let subject = &event.subject;
        let millis = |at: DateTime<Utc>| at.timestamp_millis();
        let price = Price::of(event.price_micros, &subject.currency);
        let reason = event.reason.map(|reason| reason.as_str());
        let expired = event.name == Name::Expiration;
        let mut data = json!({
            "id": format!("{}:{}", self.event_id(event), event.name.as_str()),
            "name": event.name.as_str(),
            "store": match subject.store {
                Store::AppStore => "APP_STORE",
                Store::GooglePlay => "PLAY_STORE",
            },
            "environment": match self.setup.environment {
                Environment::Production => "PRODUCTION",
                Environment::Sandbox => "SANDBOX",
            },
            "originalTransactionId": subject.original_transaction_id,
            "transactionId": subject.transaction_id,
            "originalAppUserId": self.user(subject),
            "productId": subject.product_id,
            "newProductId": event.new_product_id,
            "bundleId": match subject.store {
                Store::AppStore => &self.setup.bundle_id,
                Store::GooglePlay => &self.setup.package_name,
            },
            "periodType": subject.period_type.as_str(),
            "purchasedAt": millis(subject.purchased_at),
            "expirationAt": subject.expires_at.map(millis),
            "ts": millis(self.now),
            "price": price.usd,
            "proceeds": price.proceeds,
            "priceInPurchasedCurrency": price.purchased,
            "currencyCode": subject.currency,
            "exchangeRate": price.rate,
            "taxPercentage": 0,
            "commissionPercentage": decimal(COMMISSION_PERCENT, 2),
            "takehomePercentage": decimal(100 - COMMISSION_PERCENT, 2),
            "isSmallBusiness": false,
            "countryCode": storefront(&subject.currency).2,
            "offerCode": subject.offer_code,
            "isFamilyShare": subject.family_share,
            "isTrialConversion": event.trial_conversion,
            "cancelReason": reason.filter(|_| !expired),
        });
        if expired {
            data["expirationReason"] = json!(reason);
        }
        if self.setup.superwall.version == SuperwallVersion::V2 {
            self.extend(&mut data, subject);
        }
        data
    }

    /// What the second version adds.
    fn extend(&self, data: &mut Value, subject: &Subject) {
        data["subscription"] = match subject.expires_at {
            None => Value::Null,
            Some(until) => json!({
                "state": subject.state.as_str(),
                "productId": subject.product_id,
                "expirationAt": until.timestamp_millis(),
                "willRenew": subject.renews,
            }),
        };
        let user = self.user(subject);
        data["aliases"] = match &user {
            Some(user) if *user != alias(&subject.customer) => {
                json!([user, alias(&subject.customer)])
            }
            Some(user) => json!([user]),
            None => json!([]),
        };
        data["userAttributes"] = match user {
            Some(_) => json!({"customer": subject.customer}),
            None => Value::Null,
        };
    }

    /// `originalAppUserId`.
    fn user(&self, subject: &Subject) -> Option<String> {
        if subject.store == Store::GooglePlay && self.setup.environment == Environment::Sandbox {
            return None;
        }
        match self.setup.superwall.identity {
            SuperwallIdentity::None => None,
            SuperwallIdentity::Alias => Some(alias(&subject.customer)),
            SuperwallIdentity::AppUser => {
                let user = self.known.users.get(&subject.customer);
                Some(user.unwrap_or(&subject.customer).clone())
            }
        }
    }

    /// Ids follow from the event, not from the stores' own sequence: what the stores say is the
    /// same with and without Superwall.
    fn seed(&self, what: &str, event: &Event) -> digest::Digest {
        let text = format!("{what}/{}/{}", event.subject.purchase, self.number);
        digest::digest(&digest::SHA256, text.as_bytes())
    }

    fn event_id(&self, event: &Event) -> Uuid {
        uuid(&self.seed("event", event))
    }

    fn message_id(&self, event: &Event) -> String {
        const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let seed = self.seed("message", event);
        let bytes = seed.as_ref().iter().take(MESSAGE_ID_CHARS);
        let letters = bytes.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        format!("msg_{}", letters.collect::<String>())
    }
}

/// What Superwall's SDK calls a user that the app has not named.
fn alias(customer: &str) -> String {
    let seed = digest::digest(&digest::SHA256, format!("alias/{customer}").as_bytes());
    let id = uuid(&seed).to_string().to_uppercase();
    format!("$SuperwallAlias:{id}")
}

fn uuid(seed: &digest::Digest) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&seed.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// An amount as Superwall tells it: as numbers, in dollars and in the currency of the purchase.
struct Price {
    usd: Value,
    proceeds: Value,
    purchased: Value,
    rate: Value,
}

impl Price {
    fn of(micros: i64, currency: &str) -> Self {
        let rate = usd_micros(currency);
        let usd = micros / 1_000 * rate / 1_000;
        Self {
            usd: decimal(cents(usd), 2),
            proceeds: decimal(cents(usd / 100 * (100 - COMMISSION_PERCENT)), 2),
            purchased: decimal(micros, 6),
            rate: decimal(rate, 6),
        }
    }
}

/// Dollars for one unit of a currency, in millionths; made up, and the same for ever.
fn usd_micros(currency: &str) -> i64 {
    match currency {
        "EUR" => 1_080_000,
        "GBP" => 1_270_000,
        "JPY" => 6_700,
        "INR" => 12_000,
        _ => 1_000_000,
    }
}

/// Millionths to hundredths, to the nearest.
fn cents(micros: i64) -> i64 {
    (micros + micros.signum() * 5_000) / 10_000
}

/// `value` with its last `places` digits behind the point, as a JSON number.
fn decimal(value: i64, places: u32) -> Value {
    let scale = 10_u64.pow(places);
    let (whole, part) = (value.unsigned_abs() / scale, value.unsigned_abs() % scale);
    let sign = if value < 0 { "-" } else { "" };
    let width = places as usize;
    serde_json::from_str(&format!("{sign}{whole}.{part:0width$}")).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_dollars_and_purchased_currency() {
        let price = Price::of(9_990_000, "USD");
        assert_eq!((price.usd, price.proceeds), (json!(9.99), json!(6.99)));
        assert_eq!((price.purchased, price.rate), (json!(9.99), json!(1.0)));
        let refund = Price::of(-9_990_000, "EUR");
        assert_eq!(
            (refund.usd, refund.purchased),
            (json!(-10.79), json!(-9.99))
        );
        assert_eq!(refund.proceeds, json!(-7.55));
        assert_eq!(Price::of(0, "JPY").usd, json!(0.0));
    }

    #[test]
    fn an_alias_is_the_same_every_time() {
        assert_eq!(alias("alice"), alias("alice"));
        assert!(alias("alice").starts_with("$SuperwallAlias:"));
        assert_ne!(alias("alice"), alias("bob"));
    }
}
