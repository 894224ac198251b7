//! Google's resources as the Developer API has them: subscription, one-time purchase, order.
//! Like Google, they leave out what is false or nought.

mod line_item;
mod order;
mod product;
mod subscription;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::purchase::Purchase;
pub(super) use order::order;
pub(super) use product::product;
pub(super) use subscription::subscription;

pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `Money`: whole units as a string, the rest in billionths.
fn money(micros: i64, currency: &str) -> Value {
    let mut money = json!({"currencyCode": currency});
    let (units, nanos) = (micros / 1_000_000, micros % 1_000_000 * 1_000);
    if units != 0 {
        money["units"] = json!(units.to_string());
    }
    if nanos != 0 {
        money["nanos"] = json!(nanos);
    }
    money
}

fn acknowledgement(purchase: &Purchase) -> &'static str {
    match purchase.acknowledged {
        true => "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED",
        false => "ACKNOWLEDGEMENT_STATE_PENDING",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_leaves_out_what_is_nought() {
        let usd = |micros| money(micros, "USD");
        assert_eq!(
            usd(9_990_000),
            json!({"currencyCode": "USD", "units": "9", "nanos": 990_000_000})
        );
        assert_eq!(usd(6_000_000), json!({"currencyCode": "USD", "units": "6"}));
        assert_eq!(
            usd(990_000),
            json!({"currencyCode": "USD", "nanos": 990_000_000})
        );
        assert_eq!(usd(0), json!({"currencyCode": "USD"}));
        assert_eq!(
            usd(-1_750_000),
            json!({"currencyCode": "USD", "units": "-1", "nanos": -750_000_000})
        );
    }
}
