//! What an operation on a purchase that exists is, in the words of its store.

use super::super::case::What;
use super::super::draw::Draw;
use super::super::shop;
use super::{Act, Ground, apple_buy, apple_offer, extra, google_buy, token};
use crate::sandbox::{
    AppStoreAction, Billing, GooglePlayAction, Ownership, Period, PriceChangeMode, PurchaseState,
    PurchaseTruth, ReplacementMode, Store,
};

/// Purchases of one store in states that the act makes sense in.
fn of_store<'a>(
    draw: &mut Draw,
    all: &'a [PurchaseTruth],
    store: Store,
    fits: impl Fn(&PurchaseTruth) -> bool,
) -> Option<&'a PurchaseTruth> {
    let fitting: Vec<&PurchaseTruth> = all
        .iter()
        .filter(|one| one.store == store && fits(one))
        .collect();
    draw.pick(&fitting).copied()
}

fn any<'a>(
    draw: &mut Draw,
    all: &'a [PurchaseTruth],
    fits: impl Fn(&PurchaseTruth) -> bool,
) -> Option<&'a PurchaseTruth> {
    let fitting: Vec<&PurchaseTruth> = all.iter().filter(|one| fits(one)).collect();
    draw.pick(&fitting).copied()
}

fn subscribes(one: &PurchaseTruth) -> bool {
    one.expires_at.is_some()
}

fn open(one: &PurchaseTruth) -> bool {
    subscribes(one) && !matches!(one.state, PurchaseState::Expired | PurchaseState::Revoked)
}

/// What an operation is in the words of the store it happens at.
pub(super) fn act(
    stage: &Ground<'_>,
    draw: &mut Draw,
    what: What,
    all: &[PurchaseTruth],
) -> Option<Act> {
    let coin = draw.percent(50);
    let apple = Store::AppStore;
    let google = Store::GooglePlay;
    Some(match what {
        What::Change => return change(stage, draw, all),
        What::Billing => {
            let one = any(draw, all, open)?;
            let billing = if coin { Billing::Works } else { Billing::Fails };
            match one.store {
                Store::AppStore => AppStoreAction::SetBilling {
                    original_transaction_id: one.id.clone(),
                    billing,
                }
                .into(),
                Store::GooglePlay => GooglePlayAction::SetBilling {
                    purchase_token: one.id.clone(),
                    billing,
                }
                .into(),
            }
        }
        What::AutoRenew => {
            let one = any(draw, all, open)?;
            match (one.store, coin) {
                (Store::AppStore, enabled) => AppStoreAction::SetAutoRenew {
                    original_transaction_id: one.id.clone(),
                    enabled,
                }
                .into(),
                (Store::GooglePlay, true) => GooglePlayAction::Restore {
                    purchase_token: one.id.clone(),
                }
                .into(),
                (Store::GooglePlay, false) => GooglePlayAction::Cancel {
                    purchase_token: one.id.clone(),
                    survey: None,
                }
                .into(),
            }
        }
        What::RedeemOffer => {
            let one = of_store(draw, all, apple, subscribes)?;
            AppStoreAction::RedeemOffer {
                original_transaction_id: one.id.clone(),
                offer: apple_offer(draw),
                product_id: None,
            }
            .into()
        }
        What::RequestRefund => {
            let one = of_store(draw, all, apple, |_| true)?;
            let transaction_id = one.latest_transaction.clone();
            match coin {
                true => AppStoreAction::RequestRefund {
                    transaction_id,
                    reason: Default::default(),
                },
                false => AppStoreAction::DeclineRefund { transaction_id },
            }
            .into()
        }
        What::Refund => return refund(stage, draw, all),
        What::ReverseRefund => {
            let refunded: Vec<&String> = stage.transactions.iter().collect();
            let transaction_id = (*draw.pick(&refunded)?).clone();
            AppStoreAction::ReverseRefund { transaction_id }.into()
        }
        What::ChargeBack => {
            let one = of_store(draw, all, google, |_| true)?;
            GooglePlayAction::ChargeBack {
                purchase_token: one.id.clone(),
                order_id: None,
            }
            .into()
        }
        What::Pause => {
            let one = of_store(draw, all, google, open)?;
            GooglePlayAction::Pause {
                purchase_token: one.id.clone(),
                period: if coin {
                    Period::weeks(2)
                } else {
                    Period::months(1)
                },
            }
            .into()
        }
        What::Resume => {
            let one = of_store(draw, all, google, open)?;
            let purchase_token = one.id.clone();
            GooglePlayAction::Resume { purchase_token }.into()
        }
        What::SettlePending => {
            let waits = |one: &PurchaseTruth| one.state == PurchaseState::Pending;
            let one = of_store(draw, all, google, waits)?;
            GooglePlayAction::SettlePending {
                purchase_token: one.id.clone(),
                paid: draw.percent(75),
            }
            .into()
        }
        What::TopUp => {
            let one = of_store(draw, all, google, |one| one.product_id == "g.ticket")?;
            let purchase_token = one.id.clone();
            GooglePlayAction::TopUp { purchase_token }.into()
        }
        What::RaisePrice => return raise_price(draw),
        What::AnswerPrice => {
            let one = any(draw, all, open)?;
            match one.store {
                Store::AppStore => AppStoreAction::AnswerPrice {
                    original_transaction_id: one.id.clone(),
                    accept: coin,
                }
                .into(),
                Store::GooglePlay => GooglePlayAction::AnswerPrice {
                    purchase_token: one.id.clone(),
                    accept: coin,
                }
                .into(),
            }
        }
        What::Items => {
            let one = of_store(draw, all, google, open)?;
            let purchase_token = one.id.clone();
            match coin {
                true => GooglePlayAction::AddItems {
                    purchase_token,
                    items: vec![extra(draw)],
                },
                false => GooglePlayAction::RemoveItem {
                    purchase_token,
                    product_id: one.product_id.clone(),
                },
            }
            .into()
        }
        What::Share => {
            let bought = |one: &PurchaseTruth| one.ownership == Ownership::Purchased;
            let one = of_store(draw, all, apple, bought)?;
            AppStoreAction::Share {
                original_transaction_id: one.id.clone(),
                member: member(stage, draw),
            }
            .into()
        }
        What::Unshare => {
            let one = of_store(draw, all, apple, |_| true)?;
            AppStoreAction::Unshare {
                original_transaction_id: one.id.clone(),
                member: member(stage, draw),
            }
            .into()
        }
        What::Extend => {
            let one = of_store(draw, all, apple, open)?;
            AppStoreAction::Extend {
                original_transaction_id: one.id.clone(),
                days: 5,
                reason: Default::default(),
            }
            .into()
        }
        What::Withdraw => {
            let one = of_store(draw, all, apple, open)?;
            AppStoreAction::WithdrawProduct {
                product_id: one.product_id.clone(),
            }
            .into()
        }
        What::BuyApple
        | What::BuyGoogle
        | What::Bind
        | What::BindForeign
        | What::Refresh
        | What::Transfer
        | What::Away
        | What::Stale
        | What::Advance => return None,
    })
}

fn member(stage: &Ground<'_>, draw: &mut Draw) -> String {
    let member = draw.index(stage.people.len() - 1);
    stage.people[member].name.clone()
}

fn change(stage: &Ground<'_>, draw: &mut Draw, all: &[PurchaseTruth]) -> Option<Act> {
    let one = any(draw, all, subscribes)?;
    let buyer = stage.people.iter().position(|p| p.name == one.customer)?;
    let ware = draw.pick(&shop::wares_of(one.store)).copied()?;
    let token = token(stage, draw, buyer);
    Some(match one.store {
        Store::AppStore => {
            AppStoreAction::Buy(apple_buy(draw, ware, one.customer.clone(), token)).into()
        }
        Store::GooglePlay => {
            let modes = [
                ReplacementMode::WithTimeProration,
                ReplacementMode::ChargeProratedPrice,
                ReplacementMode::WithoutProration,
                ReplacementMode::ChargeFullPrice,
                ReplacementMode::Deferred,
            ];
            let mut buy = google_buy(draw, ware, one.customer.clone(), token);
            if draw.percent(20) {
                buy.out_of_app = true;
                buy.obfuscated_account_id = None;
                buy.product_id.clone_from(&one.product_id);
                buy.base_plan_id.clone_from(&one.base_plan_id);
            } else {
                buy.replaces = Some(one.id.clone());
                // A plan that waits for its own end to begin anew is one to whoever reads it.
                let same = buy.product_id == one.product_id && buy.base_plan_id == one.base_plan_id;
                let mode = draw.pick(&modes).copied();
                buy.replacement_mode =
                    mode.filter(|mode| !same || *mode != ReplacementMode::Deferred);
            }
            GooglePlayAction::Buy(buy).into()
        }
    })
}

fn refund(stage: &Ground<'_>, draw: &mut Draw, all: &[PurchaseTruth]) -> Option<Act> {
    let one = any(draw, all, |_| true)?;
    // An older transaction of any chain as often as the newest.
    let old: Vec<&String> = stage.transactions.iter().collect();
    let old = draw.pick(&old).map(|id| (*id).clone());
    let percent = draw.pick(&[100, 100, 40]).copied().unwrap_or(100);
    Some(match one.store {
        Store::AppStore => AppStoreAction::Refund {
            transaction_id: match draw.percent(50) {
                true => old?,
                false => one.latest_transaction.clone(),
            },
            percent,
        }
        .into(),
        Store::GooglePlay => GooglePlayAction::Refund {
            purchase_token: one.id.clone(),
            order_id: match draw.percent(40) {
                true => stage
                    .orders
                    .get(&one.id)
                    .and_then(|orders| draw.pick(orders).cloned()),
                false => None,
            },
            revoke: draw.percent(60),
            quantity: (one.product_id == "g.coins" && draw.percent(50)).then_some(1),
            source: Default::default(),
            reason: Default::default(),
        }
        .into(),
    })
}

fn raise_price(draw: &mut Draw) -> Option<Act> {
    Some(match draw.percent(50) {
        true => AppStoreAction::RaisePrice {
            product_id: draw
                .pick(&shop::wares_of(Store::AppStore))?
                .product_id
                .to_owned(),
            price_milliunits: 12_990,
            consent: draw.percent(50),
        }
        .into(),
        false => {
            let modes = [
                PriceChangeMode::Decrease,
                PriceChangeMode::Increase,
                PriceChangeMode::OptOutIncrease,
            ];
            GooglePlayAction::ChangePrice {
                product_id: draw
                    .pick(&shop::wares_of(Store::GooglePlay))?
                    .product_id
                    .to_owned(),
                base_plan_id: None,
                price_micros: 24_990_000,
                mode: *draw.pick(&modes)?,
            }
            .into()
        }
    })
}
