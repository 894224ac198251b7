//! `CatalogService`: versions of the catalog, for operators.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::door::Door;
use super::pages::{self, PageToken};
use super::status::{self, Reason};
use super::{convert, wire};
use crate::domain::catalog::diff::{Change, ChangeKind};
use crate::domain::catalog::effect::{Effect, Moves};
use crate::domain::ids::CatalogVersion;
use crate::domain::time::Instant;
use crate::flows::Core;
use crate::flows::apply_catalog::{
    self, CatalogError, Counting, Order, Plan, Story, Wanted, doubts_of, history,
};
use crate::flows::count_effect::Ground;
use wire::apply_catalog_response::Event as Applying;
use wire::plan_catalog_response::Event as Planning;
use wire::wanted_catalog::Wanted as Asked;

/// Messages that wait for a slow caller; the counting waits with them.
const QUEUE: usize = 4;

/// Each counts every account: one at a time on a replica, and nobody queues behind it.
const COUNTINGS_AT_ONCE: usize = 1;
const COUNTING_RETRY: Duration = Duration::from_secs(10);

/// The service with what its handlers need.
pub(super) struct Catalogs {
    door: Door,
    counting: Arc<Semaphore>,
}

impl Catalogs {
    pub(super) fn new(door: Door) -> Self {
        Self {
            door,
            counting: Arc::new(Semaphore::new(COUNTINGS_AT_ONCE)),
        }
    }

    /// The right to count.
    fn counting(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.counting).try_acquire_owned().map_err(|_| {
            let words = "another change of the catalog is being counted; try again when it is done";
            status::retryable(Reason::CatalogBusy, words, COUNTING_RETRY)
        })
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl wire::catalog_service_server::CatalogService for Catalogs {
    type PlanCatalogStream = Answers<wire::PlanCatalogResponse>;
    type ApplyCatalogStream = Answers<wire::ApplyCatalogResponse>;

    async fn get_catalog(
        &self,
        request: Request<wire::GetCatalogRequest>,
    ) -> Result<Response<wire::GetCatalogResponse>, Status> {
        self.door.operator(&request)?;
        let version = request.into_inner().version;
        let version = (version != 0).then_some(CatalogVersion(version));
        let db = &self.door.core.db;
        let found = apply_catalog::body(db, version).await.map_err(refused)?;
        let stories = history(db, Some(found.version), 1).await;
        let story = stories.map_err(status::from_storage)?.pop();
        Ok(Response::new(wire::GetCatalogResponse {
            version: story.map(told),
            text: found.body,
        }))
    }

    async fn list_catalog_versions(
        &self,
        request: Request<wire::ListCatalogVersionsRequest>,
    ) -> Result<Response<wire::ListCatalogVersionsResponse>, Status> {
        self.door.operator(&request)?;
        let request = request.into_inner();
        let size = pages::size(request.page_size)?;
        let question = "versions";
        let until = PageToken::<i64>::read(&request.page_token, &question)?.map(CatalogVersion);
        let mut stories = history(&self.door.core.db, until, size + 1)
            .await
            .map_err(status::from_storage)?;
        let more = i64::try_from(stories.len()).is_ok_and(|read| read > size);
        let next = stories.last().filter(|_| more);
        let next_page_token = next.map(|story| PageToken::write(&story.told.version.0, &question));
        stories.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(Response::new(wire::ListCatalogVersionsResponse {
            versions: stories.into_iter().map(told).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }

    async fn plan_catalog(
        &self,
        request: Request<wire::PlanCatalogRequest>,
    ) -> Result<Response<Self::PlanCatalogStream>, Status> {
        self.door.operator(&request)?;
        let request = request.into_inner();
        let asked = asked(request.catalog)?;
        let how = how_counted(request.over_unreadable);
        let counting = self.counting()?;
        let core = Arc::clone(&self.door.core);
        let (answers, stream) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let _counting = counting;
            let progress = |event| wire::PlanCatalogResponse {
                event: Some(Planning::Progress(event)),
            };
            let planned = tokio::select! {
                planned = plan(&core, &asked, how, |event| {
                    let _ = answers.try_send(Ok(progress(event)));
                }) => planned,
                // Nobody listens any more: nothing is counted for nobody.
                () = answers.closed() => return,
            };
            let answer = planned.map(|(plan, at)| wire::PlanCatalogResponse {
                event: Some(Planning::Plan(plan_of(&plan, at))),
            });
            let _ = answers.send(answer).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn apply_catalog(
        &self,
        request: Request<wire::ApplyCatalogRequest>,
    ) -> Result<Response<Self::ApplyCatalogStream>, Status> {
        let operator = self.door.operator(&request)?;
        let request = request.into_inner();
        let asked = asked(request.catalog.clone())?;
        let reason = match request.reason.as_str() {
            "" => None,
            given => Some(super::support::reason(given)?.to_owned()),
        };
        let confirm_loss = u64::try_from(request.confirm_loss)
            .map_err(|_| status::bad_request("confirm_loss", "0 or more"))?;
        if confirm_loss > 0 && request.base_version == 0 {
            let words = "is required with confirm_loss: the version that the plan was made over";
            return Err(status::bad_request("base_version", words));
        }
        let how = how_counted(request.over_unreadable);
        let counting = self.counting()?;
        let core = Arc::clone(&self.door.core);
        let actor = operator.actor.clone();
        let (answers, stream) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let _counting = counting;
            let message = |event| wire::ApplyCatalogResponse { event: Some(event) };
            let planned = tokio::select! {
                planned = plan(&core, &asked, how, |event| {
                    let _ = answers.try_send(Ok(message(Applying::Progress(event))));
                }) => planned,
                () = answers.closed() => return,
            };
            let applied = match planned {
                Ok((mut plan, at)) => {
                    let told = Applying::Plan(plan_of(&plan, at));
                    let _ = answers.send(Ok(message(told))).await;
                    let by = (actor.as_str(), reason.as_deref(), confirm_loss);
                    apply(&core, &asked, &mut plan, by, request.base_version).await
                }
                Err(status) => Err(status),
            };
            let _ = answers
                .send(applied.map(|version| message(Applying::AppliedVersion(version.0))))
                .await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

fn asked(catalog: Option<wire::WantedCatalog>) -> Result<Asked, Status> {
    catalog
        .and_then(|catalog| catalog.wanted)
        .ok_or_else(|| status::bad_request("catalog", "is required: a text or a version"))
}

fn wanted(asked: &Asked) -> Wanted<'_> {
    match asked {
        Asked::Text(text) => Wanted::Text(text),
        Asked::Version(version) => Wanted::Version(CatalogVersion(*version)),
    }
}

fn how_counted(over_unreadable: bool) -> Counting {
    match over_unreadable {
        true => Counting::UnlessUnreadable,
        false => Counting::Always,
    }
}

fn ground(core: &Core) -> Ground<'_> {
    Ground {
        db: &core.db,
        leniency: core.policy.leniency,
        now: core.clock.now(),
    }
}

async fn plan(
    core: &Core,
    asked: &Asked,
    how: Counting,
    tell: impl Fn(wire::CountingProgress),
) -> Result<(Plan, Instant), Status> {
    let told = |counted, accounts| {
        tell(wire::CountingProgress {
            counted: count(counted),
            accounts: count(accounts),
        });
    };
    let ground = ground(core);
    let plan = apply_catalog::plan(&ground, wanted(asked), how, told)
        .await
        .map_err(refused)?;
    Ok((plan, ground.now))
}

async fn apply(
    core: &Core,
    asked: &Asked,
    plan: &mut Plan,
    (actor, reason, confirm_loss): (&str, Option<&str>, u64),
    base: i64,
) -> Result<CatalogVersion, Status> {
    let active = plan.base.map_or(0, |version| version.0);
    if base != 0 && base != active && !plan.is_active() {
        return Err(refused(CatalogError::Superseded { newest: active }));
    }
    let (origin, copy_of) = match wanted(asked) {
        Wanted::Version(version) => ("rollback", Some(version)),
        Wanted::Text(_) => ("apply", None),
    };
    let order = Order {
        origin,
        actor: Some(actor),
        reason,
        copy_of,
        confirm_loss: Some(confirm_loss),
    };
    let version = apply_catalog::apply(&ground(core), plan, &order)
        .await
        .map_err(refused)?;
    // This replica need not wait for its next look.
    apply_catalog::follow(core)
        .await
        .map_err(status::from_storage)?;
    Ok(version)
}

fn refused(cause: CatalogError) -> Status {
    let reason = match cause {
        CatalogError::Storage(cause) => return status::from_storage(cause),
        CatalogError::Syntax(_) | CatalogError::Unsound(_) => Reason::CatalogInvalid,
        CatalogError::None | CatalogError::Unknown(_) => Reason::CatalogVersionNotFound,
        CatalogError::Loses { .. } => Reason::CatalogLossUnconfirmed,
        CatalogError::Superseded { .. } => Reason::CatalogSuperseded,
        CatalogError::ActiveUnreadable { .. } => Reason::CatalogActiveUnreadable,
    };
    status::status(reason, cause.to_string())
}

fn plan_of(plan: &Plan, at: Instant) -> wire::CatalogPlan {
    wire::CatalogPlan {
        base_version: plan.base.map_or(0, |version| version.0),
        already_active: plan.is_active(),
        changes: plan.changes.iter().map(change).collect(),
        effect: plan.effect().map(effect),
        doubts: doubts_of(&plan.body, &plan.catalog),
        count_time: plan.effect().map(|_| convert::timestamp(at)),
        base_unreadable: plan.base_unreadable,
    }
}

fn change(change: &Change) -> wire::CatalogChange {
    let kind = match change.kind {
        ChangeKind::Added => wire::CatalogChangeKind::Added,
        ChangeKind::Removed => wire::CatalogChangeKind::Removed,
        ChangeKind::Changed => wire::CatalogChangeKind::Changed,
    };
    wire::CatalogChange {
        kind: kind.into(),
        description: change.sentence.clone(),
        takes: change.takes,
    }
}

fn effect(effect: &Effect) -> wire::CatalogEffect {
    let moves = |(id, moves): (&String, &Moves)| wire::CatalogMoves {
        id: id.clone(),
        gain: count(moves.gain),
        lose: count(moves.lose),
        shortened: count(moves.shortened),
        payers: count(moves.payers),
    };
    wire::CatalogEffect {
        accounts: count(effect.accounts),
        unreadable: count(effect.unreadable),
        changed: count(effect.changed),
        payers_losing: count(effect.payers_losing),
        out_of_reach: count(effect.out_of_reach),
        losing_later: count(effect.losing_later),
        entitlements: effect.entitlements.iter().map(moves).collect(),
        credits: effect.credits.iter().map(moves).collect(),
    }
}

fn told(story: Story) -> wire::CatalogVersion {
    let told = story.told;
    wire::CatalogVersion {
        version: told.version.0,
        apply_time: Some(convert::timestamp(told.applied_at)),
        origin: told.origin,
        actor: told.actor.unwrap_or_default(),
        reason: told.reason.unwrap_or_default(),
        copy_of: told.copy_of.map_or(0, |version| version.0),
        effect: told.effect.as_ref().map(effect),
        confirmed_loss: told.confirmed_loss.unwrap_or_default(),
        accounts: told.accounts.unwrap_or_default(),
        accounts_behind: story.behind.unwrap_or_default(),
        purchases_looked_again: told.looked_again,
        finish_time: told.finished_at.map(convert::timestamp),
        accounts_underived: story.underived.count,
        underived_accounts: story
            .underived
            .some
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
