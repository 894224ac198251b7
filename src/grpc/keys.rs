//! `KeyService`: API keys, for admins.

use tonic::{Request, Response, Status};

use super::door::Door;
use super::policy::Role;
use super::status::{self, Reason};
use super::wire::key_service_server::KeyService;
use super::{convert, wire};
use crate::domain::api_key::{AppScope, KeyKind, KeyRefused, Powers};
use crate::domain::chain::AppId;
use crate::flows::api_keys::{self, ApiKey, CreateError, Wanted};

/// Apps that one key may name.
const APPS_MAX: usize = 100;

/// The service with what its handlers need.
pub(super) struct Keys {
    pub(super) door: Door,
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn create_api_key(
        &self,
        request: Request<wire::CreateApiKeyRequest>,
    ) -> Result<Response<wire::CreateApiKeyResponse>, Status> {
        let operator = self.door.operator(&request)?;
        let wanted = wanted(request.into_inner())?;
        let created = api_keys::create(&self.door.core, &wanted, &operator.actor)
            .await
            .map_err(refused)?;
        Ok(Response::new(wire::CreateApiKeyResponse {
            api_key: Some(api_key(created.key)),
            secret: created.text,
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<wire::ListApiKeysRequest>,
    ) -> Result<Response<wire::ListApiKeysResponse>, Status> {
        self.door.operator(&request)?;
        let ended_too = request.into_inner().show_ended;
        let keys = api_keys::list(&self.door.core)
            .await
            .map_err(status::from_storage)?;
        let keys = keys.into_iter().filter(|key| ended_too || key.live);
        Ok(Response::new(wire::ListApiKeysResponse {
            api_keys: keys.map(api_key).collect(),
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<wire::RevokeApiKeyRequest>,
    ) -> Result<Response<wire::RevokeApiKeyResponse>, Status> {
        let operator = self.door.operator(&request)?;
        let id = request.into_inner().id;
        if id.is_empty() {
            return Err(status::bad_request("id", "is required"));
        }
        let revoked = api_keys::revoke(&self.door.core, &id, &operator.actor)
            .await
            .map_err(status::from_storage)?;
        let missing = || status::status(Reason::ApiKeyNotFound, "no key has that id");
        Ok(Response::new(wire::RevokeApiKeyResponse {
            api_key: Some(api_key(revoked.ok_or_else(missing)?)),
        }))
    }
}

fn wanted(request: wire::CreateApiKeyRequest) -> Result<Wanted, Status> {
    use wire::ApiKeyKind as Kind;
    let role = role(request.role());
    let kind = match (request.kind(), role) {
        (Kind::Service, None) => KeyKind::Service,
        (Kind::Operator, Some(role)) => KeyKind::Operator(role),
        (Kind::Service, Some(_)) => {
            return Err(status::bad_request("role", "services have none"));
        }
        (Kind::Operator, None) => {
            return Err(status::bad_request("role", "viewer, support or admin"));
        }
        (Kind::Unspecified, _) => {
            return Err(status::bad_request("kind", "service or operator"));
        }
    };
    if request.apps.len() > APPS_MAX {
        return Err(status::bad_request("apps", "at most 100"));
    }
    let apps = AppScope::of(request.apps.into_iter().map(AppId).collect());
    Ok(Wanted {
        name: request.name,
        powers: Powers { kind, apps },
        expires_at: convert::moment("expires_at", request.expires_at.as_ref())?,
    })
}

fn role(role: wire::OperatorRole) -> Option<Role> {
    match role {
        wire::OperatorRole::Unspecified => None,
        wire::OperatorRole::Viewer => Some(Role::Viewer),
        wire::OperatorRole::Support => Some(Role::Support),
        wire::OperatorRole::Admin => Some(Role::Admin),
    }
}

fn api_key(key: ApiKey) -> wire::ApiKey {
    let (kind, role) = match key.powers.kind {
        KeyKind::Service => (wire::ApiKeyKind::Service, wire::OperatorRole::Unspecified),
        KeyKind::Operator(role) => (
            wire::ApiKeyKind::Operator,
            match role {
                Role::Viewer => wire::OperatorRole::Viewer,
                Role::Support => wire::OperatorRole::Support,
                Role::Admin => wire::OperatorRole::Admin,
            },
        ),
    };
    wire::ApiKey {
        id: key.id,
        name: key.name,
        kind: kind.into(),
        role: role.into(),
        apps: key.powers.apps.ids().unwrap_or_default(),
        created_at: Some(convert::timestamp(key.created_at)),
        created_by: key.created_by,
        expires_at: key.expires_at.map(convert::timestamp),
        revoked_at: key.revoked_at.map(convert::timestamp),
        revoked_by: key.revoked_by.unwrap_or_default(),
        last_used_at: key.last_used_at.map(convert::timestamp),
    }
}

fn refused(cause: CreateError) -> Status {
    let message = cause.to_string();
    match cause {
        CreateError::Refused(KeyRefused::AppsOfOperator) | CreateError::UnknownApp(_) => {
            status::bad_request("apps", &message)
        }
        CreateError::Refused(KeyRefused::Name | KeyRefused::Differs) => {
            status::bad_request("name", &message)
        }
        CreateError::Refused(KeyRefused::TwoLive | KeyRefused::Full) => {
            status::status(Reason::ApiKeyLimit, message)
        }
        CreateError::Expired => status::bad_request("expires_at", &message),
        CreateError::Storage(cause) => status::from_storage(cause),
    }
}
