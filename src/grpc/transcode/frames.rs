//! gRPC's framing of messages, made and read.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

const HEADER_BYTES: usize = 5;

/// A message as a body of gRPC carries it; none if it is longer than the framing can say.
pub(super) fn framed(message: &impl Message) -> Option<Bytes> {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).ok()?);
    message.encode(&mut bytes).ok()?;
    Some(bytes.freeze())
}

/// Takes one whole message off the front. Nothing is compressed: it was never asked for.
pub(super) fn take(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = buffer.get(1..HEADER_BYTES)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    if buffer.len() < HEADER_BYTES + length {
        return None;
    }
    buffer.advance(HEADER_BYTES);
    Some(buffer.split_to(length).freeze())
}

/// An encoded message as protojson. Fields without presence are written even at their default, so
/// that what is off reads `false` and an empty list is a list.
pub(super) fn to_json(descriptor: MessageDescriptor, message: Bytes) -> Option<Vec<u8>> {
    let message = DynamicMessage::decode(descriptor, message).ok()?;
    let mut json = Vec::with_capacity(1_024);
    let mut writer = serde_json::Serializer::new(&mut json);
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(&mut writer, &options).ok()?;
    Some(json)
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use serde_json::json;

    use super::*;
    use crate::proto;

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let messages = [3, 0, 300].map(|length| proto::Heartbeat {
            revision: length * 1_000,
        });
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|it| framed(it).expect("short"))
            .collect();
        for cut in 1..bytes.len() {
            let mut buffer = BytesMut::new();
            let mut read = Vec::new();
            for piece in bytes.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(message) = take(&mut buffer) {
                    read.push(proto::Heartbeat::decode(message).expect("decodes"));
                }
            }
            assert_eq!(read, messages, "in pieces of {cut}");
        }
    }

    #[test]
    fn what_is_off_is_written_and_what_is_not_there_is_not() {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect("descriptors");
        let descriptor = pool
            .get_message_by_name("entitled.v1.Entitlement")
            .expect("a message");
        let message = proto::Entitlement {
            id: "pro".into(),
            ..Default::default()
        };
        let json = to_json(descriptor, message.encode_to_vec().into()).expect("JSON");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json["active"], false);
        assert_eq!(json["sources"], json!([]));
        assert_eq!(json["reason"], "ACCESS_REASON_UNSPECIFIED");
        assert_eq!(json.get("expiresAt"), None);
    }
}
