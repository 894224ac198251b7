//! A request as JSON or as a query, made into the RPC's message. What the message does not have is
//! refused with its name; what was sent is never repeated in an error.

use std::fmt;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::problem::Problem;

const DESCRIPTION_CHARS_MAX: usize = 200;

/// The message that a body tells; an empty body is an empty message.
pub(super) fn from_json(
    descriptor: MessageDescriptor,
    body: &[u8],
) -> Result<DynamicMessage, Box<Problem>> {
    if body.is_empty() {
        return Ok(DynamicMessage::new(descriptor));
    }
    let Once(mut value) = serde_json::from_slice(body)
        .map_err(|error| Box::new(explain("", &format!("no JSON: {error}"))))?;
    whole(&mut value);
    read(descriptor, value)
}

/// The message that a query tells: `consistency.atLeast.epoch=…`, a repeated field by repetition.
pub(super) fn from_query(
    descriptor: MessageDescriptor,
    query: &str,
) -> Result<DynamicMessage, Box<Problem>> {
    let mut tree = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        put(&mut tree, &descriptor, (&name, &name), &value)?;
    }
    read(descriptor, Value::Object(tree))
}

fn read<'de, D>(descriptor: MessageDescriptor, reader: D) -> Result<DynamicMessage, Box<Problem>>
where
    D: serde::Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    let mut track = serde_path_to_error::Track::new();
    let reader = serde_path_to_error::Deserializer::new(reader, &mut track);
    DynamicMessage::deserialize(descriptor, reader).map_err(|error| {
        let path = track.path().to_string();
        // Where it broke off before a name, the track says `?`.
        let path = path.trim_end_matches(['.', '?']);
        Box::new(explain(path, &error.to_string()))
    })
}

/// JSON in which no name stands twice in one object: which of the two was meant, nobody knows.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnceVisitor).map(Self)
    }
}

struct OnceVisitor;

impl<'de> Visitor<'de> for OnceVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Once(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((name, Once(value))) = entries.next_entry::<String, Once>()? {
            if values.insert(name, value).is_some() {
                return Err(de::Error::custom("a name stands twice in one object"));
            }
        }
        Ok(values.into())
    }
}

/// To JSON `3.0` is as much a whole number as `3`; to an enum's reader it is none.
#[expect(
    clippy::cast_possible_truncation,
    reason = "nothing is behind the point, and the range is checked"
)]
fn whole(value: &mut Value) {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().filter(|it| it.abs() <= LARGEST);
            if let Some(float) = float.filter(|it| it.fract().abs() <= 0.0) {
                *value = (float as i64).into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(whole),
        Value::Object(values) => values.values_mut().for_each(whole),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is wrong, without what was sent: serde repeats it.
fn explain(path: &str, error: &str) -> Problem {
    if let Some(rest) = error.strip_prefix("unrecognized field name '") {
        let name = rest.rsplit_once('\'').map_or(rest, |(name, _)| name);
        let name: String = name.chars().take(DESCRIPTION_CHARS_MAX).collect();
        let field = if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        };
        return Problem::violation(&field, "there is no such field");
    }
    let description = if error.starts_with("unrecognized enum value") {
        "is none of this field's values".to_owned()
    } else if let Some((_, expected)) = error.rsplit_once(", expected ") {
        format!("must be {expected}")
    } else {
        error.chars().take(DESCRIPTION_CHARS_MAX).collect()
    };
    if path.is_empty() {
        Problem::invalid(description)
    } else {
        Problem::violation(path, &description)
    }
}

/// Puts one parameter into the tree; `name` is all of it and what is left of it.
fn put(
    tree: &mut Map<String, Value>,
    descriptor: &MessageDescriptor,
    (name, left): (&str, &str),
    value: &str,
) -> Result<(), Box<Problem>> {
    let refused = |description| Err(Box::new(Problem::violation(name, description)));
    let (head, rest) = match left.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (left, None),
    };
    let found = descriptor
        .get_field_by_json_name(head)
        .or_else(|| descriptor.get_field_by_name(head));
    let Some(field) = found else {
        return refused("there is no such field");
    };
    match (nested(&field), rest) {
        (Some(_), _) if field.is_list() || field.is_map() => {
            refused("no query can say this; send it in the body of a POST")
        }
        (Some(inner), Some(rest)) => {
            let inside = tree
                .entry(field.json_name())
                .or_insert_with(|| Value::Object(Map::new()));
            match inside.as_object_mut() {
                Some(inside) => put(inside, &inner, (name, rest), value),
                None => refused("is given twice"),
            }
        }
        (Some(_), None) => refused("name one of its fields, after a dot"),
        (None, Some(_)) => refused("there is no such field"),
        (None, None) if is_secret(&field) => {
            refused("has no place in a URL, which is kept in logs; send it in the body of a POST")
        }
        (None, None) => {
            let Some(value) = leaf(&field, value) else {
                return refused("must be true or false");
            };
            if field.is_list() {
                let list = tree
                    .entry(field.json_name())
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Some(list) = list.as_array_mut() {
                    list.push(value);
                }
                return Ok(());
            }
            match tree.insert(field.json_name().to_owned(), value) {
                Some(_) => refused("is given twice"),
                None => Ok(()),
            }
        }
    }
}

/// The message that a field holds, unless JSON writes it as one text.
pub(super) fn nested(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let Kind::Message(message) = field.kind() else {
        return None;
    };
    let is_text = matches!(
        message.full_name(),
        "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask"
    );
    (!is_text).then_some(message)
}

/// Whether a field holds what opens something: its own description says so.
pub(super) fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let redacted = options.get_field_by_name("debug_redact");
    redacted.is_some_and(|redacted| redacted.as_bool() == Some(true))
}

/// One value as JSON writes it; none for what should be a truth value and is not.
fn leaf(field: &FieldDescriptor, value: &str) -> Option<Value> {
    if field.kind() == Kind::Bool {
        return value.parse().ok().map(Value::Bool);
    }
    // An enum may be told by number; every other number may be told as text.
    let number = matches!(field.kind(), Kind::Enum(_)).then(|| value.parse::<i32>());
    Some(match number {
        Some(Ok(number)) => number.into(),
        Some(Err(_)) | None => value.into(),
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::proto;

    fn message(name: &str) -> MessageDescriptor {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect("descriptors");
        let name = format!("entitled.v1.{name}");
        pool.get_message_by_name(&name).expect("a message")
    }

    fn refused(result: Result<DynamicMessage, Box<Problem>>) -> (String, String) {
        let problem = result.expect_err("refused");
        let json = serde_json::to_value(problem).expect("JSON");
        let field = json["fieldViolations"][0]["field"].as_str();
        let detail = json["detail"].as_str();
        (
            field.unwrap_or_default().to_owned(),
            detail.unwrap_or_default().to_owned(),
        )
    }

    #[test]
    fn a_body_and_a_query_say_the_same() {
        let expected = proto::GetEntitlementsRequest {
            consistency: Some(proto::Consistency {
                requirement: Some(proto::consistency::Requirement::AtLeast(
                    proto::RevisionToken {
                        epoch: "e/1 +".into(),
                        revision: 17,
                    },
                )),
            }),
            account: "dev:alice".into(),
            as_of: Some(prost_types::Timestamp {
                seconds: 1_800_000_000,
                nanos: 500_000_000,
            }),
        };
        let body = br#"{"consistency": {"atLeast": {"epoch": "e/1 +", "revision": "17"}},
            "account": "dev:alice", "asOf": "2027-01-15T08:00:00.500Z"}"#;
        let query = "consistency.atLeast.epoch=e%2F1%20%2B&consistency.at_least.revision=17\
            &account=dev:alice&asOf=2027-01-15T08:00:00.5Z";
        let request = || message("GetEntitlementsRequest");
        for read in [from_json(request(), body), from_query(request(), query)] {
            let bytes = read.expect("reads").encode_to_vec();
            let read = proto::GetEntitlementsRequest::decode(&bytes[..]).expect("decodes");
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn lists_truths_and_enums_are_told_in_a_query() {
        let query = "layers=TIMELINE_LAYER_CLAIM&layers=4&account=a&pageSize=3";
        let read = from_query(message("GetTimelineRequest"), query).expect("reads");
        let bytes = read.encode_to_vec();
        let read = proto::GetTimelineRequest::decode(&bytes[..]).expect("decodes");
        assert_eq!(read.layers, [2, 4]);
        assert_eq!(read.page_size, 3);
        let query = "consistency.fullyConsistent=true";
        from_query(message("GetEntitlementsRequest"), query).expect("reads");
    }

    #[test]
    fn what_a_query_gets_wrong_is_named() {
        let table = [
            ("acount=x", "acount", "no such field"),
            ("account=x&account=y", "account", "twice"),
            ("account.id=x", "account.id", "no such field"),
            ("consistency=x", "consistency", "after a dot"),
            (
                "consistency.fullyConsistent=yes",
                "consistency.fullyConsistent",
                "true or false",
            ),
            ("asOf=yesterday", "asOf", "timestamp"),
            (
                "consistency.atLeast.revision=x",
                "consistency.atLeast.revision",
                "invalid digit",
            ),
            (
                "consistency.fullyConsistent=true&consistency.atLeast.revision=1",
                "consistency",
                "oneof",
            ),
        ];
        for (query, field, words) in table {
            let (named, detail) = refused(from_query(message("GetEntitlementsRequest"), query));
            assert!(named.starts_with(field), "{query}: {named}");
            assert!(detail.contains(words), "{query}: {detail}");
        }
    }

    #[test]
    fn what_opens_something_has_no_place_in_a_url() {
        for query in [
            "proof.appStore.signedTransaction=canary",
            "proof.google_play.purchase_token=canary",
        ] {
            let read = from_query(message("PreflightPurchaseRequest"), query);
            let (_, detail) = refused(read);
            assert!(detail.contains("body of a POST"), "{query}: {detail}");
            assert!(!detail.contains("canary"), "{query}: {detail}");
        }
    }

    #[test]
    fn what_a_body_gets_wrong_is_named_and_never_repeated() {
        let table = [
            (r#"{"acount": "canary"}"#, "acount", "no such field"),
            (
                r#"{"proof": {"appStore": {"jws": "canary"}}}"#,
                "proof.appStore.jws",
                "no such field",
            ),
            (r#"{"proof": "canary"}"#, "proof", "must be a map"),
            (
                r#"{"account": {"canary": 1}}"#,
                "account",
                "must be a string",
            ),
            (r#"{"account": "a"} canary"#, "", "trailing characters"),
            (
                r#"{"account": "canary", "account": "b"}"#,
                "",
                "stands twice",
            ),
            (
                r#"{"proof": {"appStore": {}, "appStore": {}}}"#,
                "",
                "stands twice",
            ),
            (r#"["canary"]"#, "", "must be a map"),
            (r#"{"account": "canary"#, "", "EOF"),
            ("canary", "", "expected value"),
        ];
        for (body, field, words) in table {
            let request = message("BindPurchaseRequest");
            let (named, detail) = refused(from_json(request, body.as_bytes()));
            assert!(named.starts_with(field), "{body}: {named}");
            assert!(detail.contains(words), "{body}: {detail}");
            assert!(!detail.contains("canary"), "{body}: {detail}");
        }
    }
}
