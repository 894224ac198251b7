//! `SetConsumption`: what the app knows about the use of a purchase.

use tonic::Status;

use crate::domain::refund_defence::{Consumption, Delivery};
use crate::flows::set_consumption::{SetConsumptionError, set_consumption as set};
use crate::grpc::auth::Caller;
use crate::grpc::door::Door;
use crate::grpc::status::{self, Reason};
use crate::grpc::wire;

/// Thousandths of a percent in a percent.
const MILLI: u32 = 1_000;
const ID_CHARS_MAX: usize = 256;

pub(super) async fn set_consumption(
    door: &Door,
    caller: &Caller,
    request: &wire::SetConsumptionRequest,
) -> Result<wire::SetConsumptionResponse, Status> {
    let account = door.known_subject(caller, &request.account).await?;
    let id = request.store_transaction_id.as_str();
    if id.len() > ID_CHARS_MAX {
        return Err(status::bad_request("store_transaction_id", "is too long"));
    }
    if id.is_empty() && !caller.apps.is_all() {
        return Err(status::bad_request(
            "store_transaction_id",
            "is required of a key that is for some apps",
        ));
    }
    let used_millipercent = match request.used_percent {
        None => None,
        Some(percent) => match u32::try_from(percent) {
            Ok(percent @ 0..=100) => Some(percent * MILLI),
            Ok(_) | Err(_) => {
                return Err(status::bad_request("used_percent", "is 0 to 100"));
            }
        },
    };
    let told = Consumption {
        consented: request.customer_consented,
        delivery: delivery(request.delivery()),
        used_millipercent,
    };
    let about = (!id.is_empty()).then_some(id);
    set(&door.core, account.id, &caller.apps, about, &told)
        .await
        .map_err(|error| match error {
            SetConsumptionError::UnknownTransaction => status::status(
                Reason::PurchaseNotFound,
                "the account has no such transaction",
            ),
            SetConsumptionError::Storage(error) => status::from_storage(error),
        })?;
    Ok(wire::SetConsumptionResponse {})
}

fn delivery(told: wire::DeliveryStatus) -> Option<Delivery> {
    match told {
        wire::DeliveryStatus::Unspecified => None,
        wire::DeliveryStatus::Delivered => Some(Delivery::Delivered),
        wire::DeliveryStatus::QualityIssue => Some(Delivery::QualityIssue),
        wire::DeliveryStatus::WrongItem => Some(Delivery::WrongItem),
        wire::DeliveryStatus::ServerOutage => Some(Delivery::ServerOutage),
        wire::DeliveryStatus::OtherReason => Some(Delivery::OtherReason),
    }
}
