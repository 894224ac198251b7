//! What the catalog sells, for shops and paywalls.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::{convert, wire};
use crate::domain::catalog::{Catalog, Metadata, Offering, Product};

/// Half of a digest: two lists that differ never share it.
const REVISION_BYTES: usize = 16;

/// What one store, or any, sells; nothing again to whoever has it.
pub(super) fn list_products(
    catalog: &Catalog,
    request: &wire::ListProductsRequest,
) -> wire::ListProductsResponse {
    let sold = |product: &Product| {
        request.store == i32::from(wire::Store::Unspecified)
            || product
                .store_products()
                .any(|(provider, _)| i32::from(convert::wire_store(provider)) == request.store)
    };
    let products = catalog.products().filter(|(_, product)| sold(product));
    let products: Vec<_> = products
        .map(|(id, product)| convert::product(id, product))
        .collect();
    let is_sold = |id: &str| products.iter().any(|product| product.id == id);
    let offerings = catalog.offerings().iter();
    let offerings = offerings
        .map(|of| offering(of, is_sold))
        // A paywall with nothing to choose is none.
        .filter(|offering| !offering.packages.is_empty())
        .collect();
    let mut list = wire::ListProductsResponse {
        products,
        offerings,
        ..wire::ListProductsResponse::default()
    };
    let revision = revision(&list);
    if revision == request.known_revision {
        list = wire::ListProductsResponse {
            unchanged: true,
            ..wire::ListProductsResponse::default()
        };
    }
    wire::ListProductsResponse {
        catalog_version: catalog.version().0,
        revision,
        ..list
    }
}

/// Names what the list says: the same on every replica, and again after a rollback.
fn revision(list: &wire::ListProductsResponse) -> String {
    let digest = digest(&SHA256, &list.encode_to_vec());
    let bytes = digest.as_ref().iter().take(REVISION_BYTES);
    bytes.fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn offering(offering: &Offering, is_sold: impl Fn(&str) -> bool) -> wire::Offering {
    let packages = offering.packages.iter();
    let packages = packages.filter(|package| is_sold(&package.product));
    wire::Offering {
        id: offering.id.clone(),
        metadata: metadata(&offering.metadata),
        packages: packages
            .map(|package| wire::OfferingPackage {
                id: package.id.clone(),
                product: package.product.clone(),
                metadata: metadata(&package.metadata),
            })
            .collect(),
    }
}

fn metadata(metadata: &Metadata) -> Option<Struct> {
    (!metadata.is_empty()).then(|| fields(metadata))
}

fn fields(metadata: &Metadata) -> Struct {
    let fields = metadata.iter();
    Struct {
        fields: fields.map(|(name, of)| (name.clone(), value(of))).collect(),
    }
}

fn value(of: &serde_json::Value) -> Value {
    let kind = match of {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(yes) => Kind::BoolValue(*yes),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(elements) => Kind::ListValue(ListValue {
            values: elements.iter().map(value).collect(),
        }),
        serde_json::Value::Object(inner) => Kind::StructValue(fields(inner)),
    };
    Value { kind: Some(kind) }
}
