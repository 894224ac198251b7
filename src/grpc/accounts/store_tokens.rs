//! `RegisterStoreToken`.

use tonic::Status;

use super::wire_account;
use crate::domain::account_token;
use crate::flows::register_store_token::{RegisterError, register_store_token};
use crate::grpc::auth::Caller;
use crate::grpc::door::Door;
use crate::grpc::status::{self, Reason};
use crate::grpc::wire;

pub(super) async fn register(
    door: &Door,
    caller: &Caller,
    request: &wire::RegisterStoreTokenRequest,
) -> Result<wire::RegisterStoreTokenResponse, Status> {
    let token = request.store_token.as_str();
    if !account_token::is_sound(token) {
        return Err(status::bad_request(
            "store_token",
            "is 1 to 64 visible ASCII characters",
        ));
    }
    let account = door.bind_subject(caller, &request.account).await?;
    register_store_token(&door.core, account.id, token)
        .await
        .map_err(refused)?;
    Ok(wire::RegisterStoreTokenResponse {
        account: Some(wire_account(account)),
    })
}

fn refused(cause: RegisterError) -> Status {
    match cause {
        RegisterError::Taken => status::status(
            Reason::StoreTokenTaken,
            "the token names another account already",
        ),
        cause @ RegisterError::Gone => status::status(Reason::AccountNotFound, cause.to_string()),
        cause @ RegisterError::TooMany => status::bad_request("store_token", &cause.to_string()),
        RegisterError::Storage(cause) => status::from_storage(cause),
    }
}
