//! The description of the JSON API, OpenAPI 3.1: generated from the descriptor set, the comments of
//! `proto/` and the authorisation table, so that it cannot say anything else than they do.

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::events;
use super::kept;
use super::problem;
use super::request::{is_secret, nested};
use super::routes::{self, PREFIX};
use super::schema::{Schemas, Way, comment, describe};
use crate::grpc::policy::{self, Ruling, Serves};

/// Queries name fields of fields so deep; whatever lies deeper is for a body.
const QUERY_DEPTH_MAX: usize = 4;

const ABOUT: &str = "\
What does this account have access to right now? The API of `entitled` as JSON: the same services \
as by gRPC on the same port, with the same credentials.

**Paths.** `EntitlementService.GetEntitlements` is `/v1/entitlement:getEntitlements`, and so on: \
the service without `Service`, a colon, the RPC in lower camel case. Every RPC takes `POST` with \
its request as JSON; one without side effects takes `GET` too, with its request as the query \
(`consistency.atLeast.epoch=…`). A stream answers with server-sent events.

**JSON** is protobuf's own mapping: names in lower camel case, 64-bit integers and timestamps as \
text, enums by name. Fields that a request does not have are refused.

**Refusals** are problem details (RFC 9457); judge by `reason`. `/v1/errors/{reason}` explains it.

**Deadlines.** `Prefer: wait=SECONDS` says how long the caller waits, up to 28 s.";

/// The whole document.
pub(super) fn document(pool: &DescriptorPool) -> Value {
    let mut schemas = Schemas::default();
    let methods = || routes::services(pool).flat_map(|it| it.methods().collect::<Vec<_>>());
    for method in methods().filter(|it| !it.is_client_streaming()) {
        schemas.add(Way::In, &method.input());
        schemas.add(Way::Out, &method.output());
    }
    let mut paths = Map::new();
    let mut tags = Vec::new();
    for service in routes::services(pool) {
        let mut tag = json!({ "name": service.name() });
        describe(&mut tag, &comment(&service.parent_file(), service.path()));
        tags.push(tag);
        for method in service.methods().filter(|it| !it.is_client_streaming()) {
            let item = path_item(&schemas, &method);
            paths.insert(routes::path(&service, &method), item);
        }
    }
    let mut components = schemas.into_components();
    components.insert("Problem".to_owned(), problem::schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "entitled",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A JWT of a configured issuer, or a key made by `entitled key create`.",
                },
            },
        },
    })
}

fn path_item(schemas: &Schemas, method: &MethodDescriptor) -> Value {
    let mut post = operation(schemas, method);
    post["requestBody"] = json!({
        "content": { "application/json": { "schema": schemas.of(Way::In, &method.input()) } },
    });
    if !routes::reads(method) {
        return json!({ "post": post });
    }
    let mut get = operation(schemas, method);
    let mut parameters = Vec::new();
    query(schemas, &method.input(), "", 0, &mut parameters);
    if events::is_resumable(&method.input()) {
        parameters.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the last event that was read: the stream goes on from there.",
            "schema": { "type": "string" },
        }));
    }
    if kept::is_kept(method) {
        parameters.push(json!({
            "name": "If-None-Match",
            "in": "header",
            "description": "The `ETag` of an answer that the caller has kept: if it still is what \
                there is, `304` comes instead.",
            "schema": { "type": "string" },
        }));
        get["responses"]["200"]["headers"] = kept_headers();
        get["responses"]["304"] = json!({
            "description": "What the caller has kept is what there is.",
            "headers": kept_headers(),
        });
    }
    get["parameters"] = parameters.into();
    post["operationId"] = format!("{}_post", operation_id(method)).into();
    json!({ "get": get, "post": post })
}

/// Of an answer that a caller may keep.
fn kept_headers() -> Value {
    json!({
        "ETag": {
            "description": "Names what the answer says: its `revision`, weakly.",
            "schema": { "type": "string" },
        },
        "Cache-Control": {
            "description": "The caller's own cache keeps it, and asks each time.",
            "schema": { "type": "string", "const": kept::CACHE_CONTROL },
        },
    })
}

fn operation_id(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    let path = routes::path(service, method);
    path.trim_start_matches(PREFIX).replace([':', '-'], "_")
}

fn operation(schemas: &Schemas, method: &MethodDescriptor) -> Value {
    let service = method.parent_service();
    let text = comment(&service.parent_file(), method.path());
    let output = schemas.of(Way::Out, &method.output());
    let (media_type, schema) = if method.is_server_streaming() {
        let events = json!({
            "type": "string",
            "description": "Server-sent events: `event` is the field of the message that is set, \
                `data` the message, `id` where to go on. The last event is `end`, and its data \
                problem details, or empty if all was told.",
            "x-event-data": output,
        });
        (events::MEDIA_TYPE, events)
    } else {
        ("application/json", output)
    };
    let mut operation = json!({
        "operationId": operation_id(method),
        "tags": [service.name()],
        "responses": {
            "200": {
                "description": "Answered.",
                "content": { media_type: { "schema": schema } },
            },
            "default": {
                "description": "Refused.",
                "content": {
                    problem::MEDIA_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } },
                },
            },
        },
    });
    let rpc = format!("/{}/{}", service.full_name(), method.name());
    if let Ruling::Row(row) = policy::ruling(&rpc) {
        if row.serves == Serves::Everyone {
            operation["security"] = json!([]);
        }
        operation["x-serves"] = serves(row.serves).into();
    }
    if let Some((summary, _)) = text.split_once(". ") {
        operation["summary"] = format!("{summary}.").into();
    } else if !text.is_empty() {
        operation["summary"] = text.as_str().into();
    }
    describe(&mut operation, &text);
    operation
}

fn serves(serves: Serves) -> String {
    use crate::grpc::policy::Operators;
    match serves {
        Serves::Everyone => "everyone, without a credential".to_owned(),
        Serves::Callers => "whoever has a credential".to_owned(),
        Serves::Accounts(Operators::Never) => "devices and services".to_owned(),
        Serves::Accounts(Operators::From(role)) => {
            format!("devices, services, and operators from {role} on")
        }
        Serves::Services => "services".to_owned(),
        Serves::Operators(role) => format!("operators from {role} on"),
    }
}

/// The parameters that say a message in a query.
fn query(
    schemas: &Schemas,
    message: &MessageDescriptor,
    before: &str,
    depth: usize,
    parameters: &mut Vec<Value>,
) {
    for field in message.fields() {
        let name = format!("{before}{}", field.json_name());
        match nested(&field) {
            Some(_) if field.is_list() || field.is_map() => {}
            Some(inner) if depth < QUERY_DEPTH_MAX => {
                query(schemas, &inner, &format!("{name}."), depth + 1, parameters);
            }
            Some(_) => {}
            None if is_secret(&field) => {}
            None => parameters.push(parameter(schemas, &field, &name)),
        }
    }
}

fn parameter(schemas: &Schemas, field: &FieldDescriptor, name: &str) -> Value {
    // In a query everything is text; what is written is what is read.
    let is_enum = matches!(field.kind(), Kind::Enum(_));
    let way = if is_enum { Way::In } else { Way::Out };
    let mut parameter = json!({
        "name": name,
        "in": "query",
        "schema": schemas.field(way, field),
    });
    let file = field.parent_message().parent_file();
    describe(&mut parameter, &comment(&file, field.path()));
    parameter
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn made() -> Value {
        document(&DescriptorPool::decode(crate::proto::DESCRIPTORS).expect("descriptors"))
    }

    fn walk(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
        if let Some(object) = value.as_object() {
            for (name, inner) in object {
                visit(name, inner);
                walk(inner, visit);
            }
        }
        for inner in value.as_array().into_iter().flatten() {
            walk(inner, visit);
        }
    }

    #[test]
    fn whatever_is_referred_to_is_there_and_whatever_is_there_is_explained() {
        let document = made();
        let mut referred = BTreeSet::new();
        walk(&document, &mut |name, value| {
            if name == "$ref" {
                referred.insert(value.as_str().expect("text").to_owned());
            }
        });
        let schemas = document["components"]["schemas"]
            .as_object()
            .expect("schemas");
        for reference in &referred {
            let name = reference
                .strip_prefix("#/components/schemas/")
                .expect("ours");
            assert!(schemas.contains_key(name), "{name} is nowhere");
        }
        for (name, schema) in schemas {
            assert!(schema["description"].is_string(), "{name} is not explained");
            let properties = schema["properties"].as_object().into_iter().flatten();
            for (property, schema) in properties {
                assert!(
                    schema["description"].is_string(),
                    "{name}.{property} is not explained"
                );
            }
        }
    }

    #[test]
    fn every_rpc_is_described_under_a_name_of_its_own() {
        let document = made();
        let pool = DescriptorPool::decode(crate::proto::DESCRIPTORS).expect("descriptors");
        let paths = document["paths"].as_object().expect("paths");
        let rpcs: usize = routes::services(&pool).map(|it| it.methods().count()).sum();
        assert_eq!(paths.len(), rpcs);
        let mut ids = BTreeSet::new();
        for (path, item) in paths {
            for (verb, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().expect("an id");
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(
                    operation["summary"].is_string(),
                    "{verb} {path}: no summary"
                );
                assert!(
                    operation["x-serves"].is_string(),
                    "{verb} {path}: whom it serves"
                );
            }
        }
        let get = &paths["/v1/entitlement:getEntitlements"]["get"];
        let names: Vec<&str> = get["parameters"]
            .as_array()
            .expect("parameters")
            .iter()
            .filter_map(|it| it["name"].as_str())
            .collect();
        let told = |path: &str| paths[path]["get"]["parameters"].to_string();
        let resumable = told("/v1/entitlement:watchEntitlements");
        assert!(resumable.contains("Last-Event-ID"), "{resumable}");
        let others = told("/v1/account:exportAccount");
        assert!(!others.contains("Last-Event-ID"), "{others}");
        let preflight = told("/v1/entitlement:preflightPurchase");
        assert!(!preflight.contains("purchaseToken"), "{preflight}");
        let expected = [
            "consistency.atLeast.epoch",
            "consistency.atLeast.revision",
            "consistency.fullyConsistent",
            "account",
            "asOf",
        ];
        assert_eq!(names, expected);
        assert_eq!(
            document["paths"]["/v1/entitlement:bindPurchase"].get("get"),
            None
        );
    }
}
