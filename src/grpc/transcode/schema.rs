//! JSON Schema of the messages, as protojson writes and reads them, with the comments of `proto/`.
//!
//! What is read is wider than what is written: protojson takes numbers as text and text as numbers,
//! enums by number, and null for a field that is left out. A message that is both sent and received
//! therefore has two schemas.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};
use serde_json::{Map, Value, json};

const WHOLE_NUMBER: &str = "^-?[0-9]+$";
const DURATION: &str = r"^-?[0-9]+(\.[0-9]{1,9})?s$";

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Sent by callers.
    In,
    /// Answered.
    Out,
}

/// The schemas of all messages that go either way, by name.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    found: BTreeMap<Way, BTreeMap<String, Item>>,
}

#[derive(Clone, Debug)]
enum Item {
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

impl Item {
    fn parts(&self) -> (FileDescriptor, &str) {
        match self {
            Self::Message(message) => (message.parent_file(), message.full_name()),
            Self::Enum(the_enum) => (the_enum.parent_file(), the_enum.full_name()),
        }
    }

    /// The name within its package.
    fn name(&self) -> String {
        let (file, full_name) = self.parts();
        let within = full_name.strip_prefix(file.package_name());
        let within = within.unwrap_or(full_name).trim_start_matches('.');
        within.replace('.', "_")
    }
}

impl Schemas {
    /// Notes a message, and whatever it holds.
    pub(super) fn add(&mut self, way: Way, message: &MessageDescriptor) {
        if well_known(message, way).is_some() || message.is_map_entry() {
            return;
        }
        if !self.note(way, Item::Message(message.clone())) {
            return;
        }
        for field in message.fields() {
            self.add_kind(way, &value_of(&field).kind());
        }
    }

    fn add_kind(&mut self, way: Way, kind: &Kind) {
        if let Kind::Message(message) = kind {
            self.add(way, message);
        } else if let Kind::Enum(the_enum) = kind {
            self.note(way, Item::Enum(the_enum.clone()));
        }
    }

    fn note(&mut self, way: Way, item: Item) -> bool {
        let found = self.found.entry(way).or_default();
        found.insert(item.name(), item).is_none()
    }

    /// What refers to a message.
    pub(super) fn of(&self, way: Way, message: &MessageDescriptor) -> Value {
        let item = || Item::Message(message.clone());
        well_known(message, way).unwrap_or_else(|| self.reference(way, &item()))
    }

    fn reference(&self, way: Way, item: &Item) -> Value {
        json!({ "$ref": format!("#/components/schemas/{}", self.title(way, &item.name())) })
    }

    fn title(&self, way: Way, name: &str) -> String {
        let goes_out = self.found.get(&Way::Out);
        let both = goes_out.is_some_and(|out| out.contains_key(name));
        match way {
            Way::In if both => format!("{name}Input"),
            Way::In | Way::Out => name.to_owned(),
        }
    }

    /// All of them, by their titles.
    pub(super) fn into_components(self) -> Map<String, Value> {
        let mut components = Map::new();
        for (way, items) in &self.found {
            for (name, item) in items {
                let schema = match item {
                    Item::Message(message) => self.message(*way, message),
                    Item::Enum(the_enum) => enum_schema(*way, the_enum),
                };
                components.insert(self.title(*way, name), schema);
            }
        }
        components
    }

    fn message(&self, way: Way, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        let mut always = BTreeSet::new();
        for field in message.fields() {
            let mut schema = self.field(way, &field);
            if way == Way::In {
                schema = or_null(schema);
            }
            describe(
                &mut schema,
                &comment(&field.parent_message().parent_file(), field.path()),
            );
            properties.insert(field.json_name().to_owned(), schema);
            if !field.supports_presence() {
                always.insert(field.json_name().to_owned());
            }
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        match way {
            Way::In => {
                schema["additionalProperties"] = false.into();
                let apart: Vec<Value> = message.oneofs().flat_map(|it| apart(&it)).collect();
                if !apart.is_empty() {
                    schema["allOf"] = apart.into();
                }
            }
            Way::Out if !always.is_empty() => schema["required"] = json!(always),
            Way::Out => {}
        }
        describe(
            &mut schema,
            &comment(&message.parent_file(), message.path()),
        );
        schema
    }

    /// A field of either way, without its comment.
    pub(super) fn field(&self, way: Way, field: &FieldDescriptor) -> Value {
        let value = self.kind(way, &value_of(field).kind());
        if field.is_map() {
            json!({ "type": "object", "additionalProperties": value })
        } else if field.is_list() {
            json!({ "type": "array", "items": value })
        } else {
            value
        }
    }

    fn kind(&self, way: Way, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Float | Kind::Double => number(way),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                small(way, i32::MIN.into(), i32::MAX.into())
            }
            Kind::Uint32 | Kind::Fixed32 => small(way, 0, u32::MAX.into()),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => large(way, "int64"),
            Kind::Uint64 | Kind::Fixed64 => large(way, "uint64"),
            Kind::Message(message) => self.of(way, message),
            Kind::Enum(the_enum) => self.reference(way, &Item::Enum(the_enum.clone())),
        }
    }
}

/// The field itself, or what a map holds.
fn value_of(field: &FieldDescriptor) -> FieldDescriptor {
    match field.kind().as_message() {
        Some(entry) if field.is_map() => entry.map_entry_value_field(),
        Some(_) | None => field.clone(),
    }
}

fn small(way: Way, least: i64, most: i64) -> Value {
    let written = json!({ "type": "integer", "minimum": least, "maximum": most });
    match way {
        Way::Out => written,
        Way::In => json!({ "anyOf": [written, { "type": "string", "pattern": WHOLE_NUMBER }] }),
    }
}

fn large(way: Way, format: &str) -> Value {
    let written = json!({ "type": "string", "format": format, "pattern": WHOLE_NUMBER });
    match way {
        Way::Out => written,
        Way::In => json!({ "anyOf": [written, { "type": "integer" }] }),
    }
}

fn number(way: Way) -> Value {
    let written = json!({ "type": "number" });
    match way {
        Way::Out => written,
        Way::In => json!({ "anyOf": [written, { "type": "string" }] }),
    }
}

fn enum_schema(way: Way, the_enum: &EnumDescriptor) -> Value {
    let file = the_enum.parent_file();
    let names: Vec<String> = the_enum.values().map(|it| it.name().to_owned()).collect();
    let mut text = comment(&file, the_enum.path());
    for value in the_enum.values() {
        let why = comment(&file, value.path());
        text.push_str(&format!("\n- `{}`: {why}", value.name()));
    }
    let names = json!({ "type": "string", "enum": names });
    let mut schema = match way {
        Way::Out => names,
        Way::In => json!({
            "anyOf": [names, { "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX }]
        }),
    };
    describe(&mut schema, &text);
    schema
}

/// Messages that protojson writes in a way of their own.
fn well_known(message: &MessageDescriptor, way: Way) -> Option<Value> {
    Some(match message.full_name() {
        "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "google.protobuf.Duration" => json!({ "type": "string", "pattern": DURATION }),
        "google.protobuf.FieldMask" | "google.protobuf.StringValue" => json!({ "type": "string" }),
        "google.protobuf.BytesValue" => json!({ "type": "string", "contentEncoding": "base64" }),
        "google.protobuf.BoolValue" => json!({ "type": "boolean" }),
        "google.protobuf.Int32Value" => small(way, i32::MIN.into(), i32::MAX.into()),
        "google.protobuf.UInt32Value" => small(way, 0, u32::MAX.into()),
        "google.protobuf.Int64Value" => large(way, "int64"),
        "google.protobuf.UInt64Value" => large(way, "uint64"),
        "google.protobuf.FloatValue" | "google.protobuf.DoubleValue" => number(way),
        "google.protobuf.Struct" | "google.protobuf.Empty" => json!({ "type": "object" }),
        "google.protobuf.ListValue" => json!({ "type": "array" }),
        "google.protobuf.Value" | "google.protobuf.Any" => json!({}),
        _ => return None,
    })
}

/// At most one of the fields is sent.
fn apart(oneof: &OneofDescriptor) -> Vec<Value> {
    let names: Vec<String> = oneof.fields().map(|it| it.json_name().to_owned()).collect();
    let mut apart = Vec::new();
    for (index, first) in names.iter().enumerate() {
        for second in &names[index + 1..] {
            // Null is as good as left out.
            let said = json!({ "not": { "type": "null" } });
            apart.push(json!({ "not": {
                "required": [first, second],
                "properties": { first: said, second: said },
            } }));
        }
    }
    apart
}

fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

pub(super) fn describe(schema: &mut Value, text: &str) {
    if !text.is_empty() {
        schema["description"] = text.into();
    }
}

/// The comment above something in `proto/`, as one paragraph for each of its own.
pub(super) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let locations = file.file_descriptor_proto().source_code_info.as_ref();
    let location = locations.and_then(|it| it.location.iter().find(|it| it.path == path));
    let text = location.map_or("", |it| it.leading_comments());
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().map(str::trim);
        lines
            .filter(|it| !it.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    });
    paragraphs
        .filter(|it| !it.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n")
}
