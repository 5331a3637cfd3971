//! Messages, client and server of `proto/page_api.proto` (06 §5.3), made by `build.rs`. Only the
//! stand-in pageserver uses the server.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; the documentation is in the .proto file"
)]

tonic::include_proto!("page_api");

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The examples of 06 §5.3. Client and server are generated from the same file, so a wrong
    /// field number in it would not show in tests between the two.
    #[test]
    fn bytes_as_documented() {
        let gzip = BaseBackupCompression::Gzip.into();
        let primary = GetBaseBackupRequest {
            lsn: 0x2A3_B4C8,
            replica: false,
            full: false,
            compression: gzip,
        };
        assert_eq!(hex(&primary.encode_to_vec()), "08c8e98e152002");
        let replica = GetBaseBackupRequest { lsn: 0, replica: true, ..primary };
        assert_eq!(hex(&replica.encode_to_vec()), "10012002");
        let full = GetBaseBackupRequest { lsn: 0, replica: false, full: true, compression: 0 };
        assert_eq!(hex(&full.encode_to_vec()), "1801");
        let none = BaseBackupCompression::None.into();
        let plain = GetBaseBackupRequest { compression: none, full: false, ..full };
        assert_eq!(hex(&plain.encode_to_vec()), "2001");
        let lease = LeaseLsnRequest { lsn: 0x2A3_B4C8 };
        assert_eq!(hex(&lease.encode_to_vec()), "08c8e98e15");
        let expires = Timestamp { seconds: 1_760_000_600, nanos: 250_000_000 };
        let granted = LeaseLsnResponse { expires: Some(expires) };
        assert_eq!(hex(&granted.encode_to_vec()), "0a0b08d8f49dc7061080e59a77");
        let chunk = GetBaseBackupResponseChunk { chunk: vec![1, 2, 3].into() };
        assert_eq!(hex(&chunk.encode_to_vec()), "0a03010203");
    }
}
