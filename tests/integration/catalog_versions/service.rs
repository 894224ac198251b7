//! The same over the API: plans, applies and stories for operators, offerings for paywalls.

use entitled::cli::client::Bearer;
use entitled::proto::catalog_service_client::CatalogServiceClient;
use entitled::proto::wanted_catalog::Wanted;
use entitled::proto::{
    ApplyCatalogRequest, CatalogPlan, GetCatalogRequest, ListCatalogVersionsRequest,
    ListProductsRequest, ListProductsResponse, PlanCatalogRequest, WantedCatalog,
    apply_catalog_response, plan_catalog_response,
};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{EXAMPLE, without_export};
use crate::scene::YEARLY;
use crate::support::{World, assert_refused};
use crate::tickets::token;

type Catalogs = CatalogServiceClient<InterceptedService<Channel, Bearer>>;

async fn catalogs(world: &World, scope: &str) -> Catalogs {
    let server = Endpoint::from_shared(world.stack.address.server.clone()).expect("a URL");
    let channel = server.connect().await.expect("connects");
    let bearer = Bearer::of(&token(world, "ann", scope)).expect("a token");
    CatalogServiceClient::with_interceptor(channel, bearer)
}

fn wanted(wanted: Wanted) -> Option<WantedCatalog> {
    Some(WantedCatalog {
        wanted: Some(wanted),
    })
}

async fn planned(catalogs: &mut Catalogs, text: &str) -> Result<CatalogPlan, Status> {
    let request = PlanCatalogRequest {
        catalog: wanted(Wanted::Text(text.to_owned())),
        over_unreadable: false,
    };
    let mut stream = catalogs.plan_catalog(request).await?.into_inner();
    let mut counted = false;
    while let Some(message) = stream.message().await? {
        match message.event.expect("an event") {
            plan_catalog_response::Event::Progress(progress) => {
                counted |= progress.counted == progress.accounts;
            }
            plan_catalog_response::Event::Plan(plan) => {
                assert!(counted || plan.effect.is_none(), "told how far it is");
                return Ok(plan);
            }
        }
    }
    panic!("no plan");
}

async fn applied(catalogs: &mut Catalogs, request: ApplyCatalogRequest) -> Result<i64, Status> {
    let mut stream = catalogs.apply_catalog(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if let Some(apply_catalog_response::Event::AppliedVersion(version)) = message.event {
            return Ok(version);
        }
    }
    panic!("neither applied nor refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_plans_and_applies_over_the_api() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let yearly = world.buy_apple("alice", YEARLY, None).await;
    alice
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    let mut phone = world.device("alice").await;
    phone.until_active("export").await;

    let mut viewer = catalogs(&world, "entitled.viewer").await;
    let plan = planned(&mut viewer, &without_export())
        .await
        .expect("a plan");
    assert_eq!((plan.base_version, plan.already_active), (1, false));
    assert_eq!(
        plan.changes[0].description,
        "products.pro_yearly no longer grants export"
    );
    assert!(plan.changes[0].takes);
    let effect = plan.effect.expect("counted");
    assert_eq!(
        (effect.accounts, effect.changed, effect.payers_losing),
        (1, 1, 1)
    );
    assert_eq!(
        (
            effect.entitlements[0].id.as_str(),
            effect.entitlements[0].lose
        ),
        ("export", 1)
    );
    let broken = planned(&mut viewer, "[[apps]]\nid = 1").await;
    assert_refused(
        &broken.expect_err("unreadable"),
        Code::InvalidArgument,
        "CATALOG_INVALID",
    );

    let request = |confirm_loss| ApplyCatalogRequest {
        catalog: wanted(Wanted::Text(without_export())),
        confirm_loss,
        reason: "export is a product of its own".into(),
        base_version: 1,
        over_unreadable: false,
    };
    let refused = applied(&mut viewer, request(1))
        .await
        .expect_err("a viewer");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut admin = catalogs(&world, "entitled.admin").await;
    let refused = applied(&mut admin, request(0)).await.expect_err("a payer");
    let code = Code::FailedPrecondition;
    assert_refused(&refused, code, "CATALOG_LOSS_UNCONFIRMED");
    let over_any = ApplyCatalogRequest {
        base_version: 0,
        ..request(1)
    };
    let refused = applied(&mut admin, over_any).await.expect_err("over what?");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(applied(&mut admin, request(1)).await.expect("agreed"), 2);
    phone.until_inactive("export").await;
    assert_eq!(
        applied(&mut admin, request(1)).await.expect("idle"),
        2,
        "once"
    );
    let back = ApplyCatalogRequest {
        catalog: wanted(Wanted::Version(1)),
        ..request(0)
    };
    let stale = applied(&mut admin, back.clone()).await.expect_err("stale");
    assert_refused(&stale, Code::Aborted, "CATALOG_SUPERSEDED");
    let back = ApplyCatalogRequest {
        base_version: 2,
        ..back
    };
    assert_eq!(applied(&mut admin, back).await.expect("nobody loses"), 3);
    phone.until_active("export").await;
    world.settled().await;

    let mut stories = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListCatalogVersionsRequest {
            page_size: 2,
            page_token,
        };
        let page = viewer.list_catalog_versions(request).await.expect("a page");
        let page = page.into_inner();
        stories.extend(page.versions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let told: Vec<(i64, &str, i64)> = stories
        .iter()
        .map(|story| (story.version, story.origin.as_str(), story.copy_of))
        .collect();
    assert_eq!(told, [(3, "rollback", 1), (2, "apply", 0), (1, "start", 0)]);
    assert!(stories.iter().all(|story| story.finish_time.is_some()));
    assert!(stories[0].actor.ends_with(":ann"), "{}", stories[0].actor);
    let text = |version| GetCatalogRequest { version };
    let first = viewer
        .get_catalog(text(1))
        .await
        .expect("kept")
        .into_inner();
    let active = viewer.get_catalog(text(0)).await.expect("active");
    assert_eq!(first.text, active.into_inner().text);
    let unknown = viewer.get_catalog(text(9)).await.expect_err("none");
    assert_refused(&unknown, Code::NotFound, "CATALOG_VERSION_NOT_FOUND");
    world.stop().await;
}

pub(crate) const OFFERINGS: &str = r#"
[[offerings]]
id = "main"
description = "What everybody sees"
metadata = { title = "Go Pro", badges = ["new", 2], dark = true }
packages = [
    { id = "yearly", product = "pro_yearly", metadata = { highlight = true } },
    { id = "monthly", product = "pro_monthly" },
]
[[offerings]]
id = "autumn"
packages = [{ id = "pass", product = "apple_only" }]
[products.apple_only]
kind = "non_consumable"
grants = ["export"]
app_store = { product_id = "com.example.only" }
"#;

async fn listed(
    world: &World,
    store: entitled::proto::Store,
    known_revision: &str,
) -> ListProductsResponse {
    let mut client = world.client("alice").await;
    let request = ListProductsRequest {
        store: store.into(),
        known_revision: known_revision.to_owned(),
    };
    let listed = client.inner.list_products(request).await.expect("listed");
    listed.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn offerings_come_in_order_with_their_metadata_and_once() {
    use entitled::proto::Store;
    let text = format!("{EXAMPLE}{OFFERINGS}");
    let world = World::with(|options| options.catalog = text.clone()).await;
    let all = listed(&world, Store::Unspecified, "").await;
    let ids = |list: &ListProductsResponse| -> Vec<(String, Vec<String>)> {
        let offerings = list.offerings.iter();
        offerings
            .map(|offering| {
                let packages = offering.packages.iter();
                let packages = packages.map(|package| package.product.clone());
                (offering.id.clone(), packages.collect())
            })
            .collect()
    };
    let main = (
        "main".to_owned(),
        vec!["pro_yearly".into(), "pro_monthly".into()],
    );
    let autumn = ("autumn".to_owned(), vec!["apple_only".into()]);
    assert_eq!(ids(&all), [main.clone(), autumn]);
    let metadata = all.offerings[0].metadata.clone().expect("metadata");
    assert_eq!(metadata.fields.len(), 3);
    let package = all.offerings[0].packages[0].metadata.clone();
    assert!(package.expect("metadata").fields.contains_key("highlight"));
    let at_google = listed(&world, Store::GooglePlay, "").await;
    assert_eq!(
        ids(&at_google),
        [main],
        "nothing to choose, nothing to show"
    );
    assert_ne!(at_google.revision, all.revision);

    let again = listed(&world, Store::Unspecified, &all.revision).await;
    assert!(again.unchanged && again.products.is_empty() && again.offerings.is_empty());
    assert_eq!(again.revision, all.revision);
    // What is sold is the same: so is its name, whatever the version.
    let mut admin = catalogs(&world, "entitled.admin").await;
    let mut change = async |text: String| {
        let request = ApplyCatalogRequest {
            catalog: wanted(Wanted::Text(text)),
            reason: "a test".into(),
            ..Default::default()
        };
        applied(&mut admin, request).await.expect("applied");
    };
    change(format!("{text}\n[entitlements.unsold]")).await;
    let same = listed(&world, Store::Unspecified, &all.revision).await;
    assert!(same.unchanged && same.catalog_version == 2);
    change(text.replace("Go Pro", "Go far")).await;
    let other = listed(&world, Store::Unspecified, &all.revision).await;
    assert!(!other.unchanged && other.revision != all.revision);
    assert_eq!(other.products.len(), all.products.len());
    world.stop().await;
}
