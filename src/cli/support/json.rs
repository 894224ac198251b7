//! Messages as JSON, by their descriptors: the names that the API itself has in JSON.

use std::sync::LazyLock;

use anyhow::Context as _;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;
use serde_json::value::Serializer;

use crate::proto::DESCRIPTORS;

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).map_err(|error| error.to_string()));

/// A message of ours, by its name; every field is there, so that scripts need not ask.
pub(super) fn value(name: &str, message: &impl Message) -> anyhow::Result<Value> {
    let pool = POOL.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let descriptor = pool
        .get_message_by_name(&format!("entitled.v1.{name}"))
        .with_context(|| format!("no message {name}"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().skip_default_fields(false);
    Ok(dynamic.serialize_with_options(Serializer, &options)?)
}

/// Prints a message for people and programs.
pub(super) fn print(name: &str, message: &impl Message) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&value(name, message)?)?);
    Ok(())
}
