//! An `EntitlementSnapshot`, or an `AccountChange` with one, that is already encoded. On the wire a message field and its bytes are
//! the same, so every stream of an account sends one shared buffer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, skip_field};
use prost::{DecodeError, Message};

/// Stands for `entitled.v1.EntitlementSnapshot` in the server's generated code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SharedSnapshot(pub(crate) Bytes);

/// Stands for `entitled.v1.AccountChange`: one change of the feed, the same for all who follow it.
pub(crate) type SharedChange = SharedSnapshot;

impl Message for SharedSnapshot {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    /// Servers receive none; fields are kept as they come, so that decoding loses nothing.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if wire_type != WireType::LengthDelimited {
            return skip_field(wire_type, tag, buf, ctx);
        }
        let mut field = Vec::new();
        prost::encoding::bytes::merge(wire_type, &mut field, buf, ctx)?;
        let mut bytes = BytesMut::from(&self.0[..]);
        encode_key(tag, wire_type, &mut bytes);
        encode_varint(field.len() as u64, &mut bytes);
        bytes.put_slice(&field);
        self.0 = bytes.freeze();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::wire;
    use crate::proto;

    #[test]
    fn a_response_with_shared_bytes_reads_as_the_plain_message() {
        let snapshot = proto::EntitlementSnapshot {
            epoch: "e".into(),
            revision: 17,
            entitlements: vec![proto::Entitlement {
                id: "pro".into(),
                active: true,
                ..Default::default()
            }],
            ..Default::default()
        };
        let shared = SharedSnapshot(snapshot.encode_to_vec().into());
        let response = wire::GetEntitlementsResponse {
            snapshot: Some(shared),
            degraded: true,
            ..Default::default()
        };
        let read = proto::GetEntitlementsResponse::decode(&response.encode_to_vec()[..]);
        let read = read.expect("decodes");
        assert_eq!(read.snapshot, Some(snapshot));
        assert!(read.degraded);
    }
}
