//! Datagrams, and the integer in front of them.

use bytes::Bytes;
use wt_proto::datagram::{decode, encode_prefix, prefix_len};
use wt_proto::error_code::Code;
use wt_proto::varint;

use crate::encoded;

/// `data` is the payload of a QUIC DATAGRAM frame.
pub fn check(data: &[u8]) {
    let integer = varint::decode(data);
    if let Some((value, used)) = integer {
        assert!(value <= varint::MAX && used <= data.len() && varint::len(value) <= used);
        let again = encoded(|out| varint::encode(value, out));
        assert_eq!(varint::decode(&again), Some((value, varint::len(value))));
    } else {
        assert!(data.len() < 8, "no integer is longer");
    }
    match decode(Bytes::copy_from_slice(data)) {
        Ok((session, payload)) => {
            let (quarter, used) = integer.expect("a datagram has a session");
            assert_eq!((session, &payload[..]), (quarter * 4, &data[used..]));
            assert!(session <= varint::MAX, "a stream id");
            let prefix = encoded(|out| encode_prefix(session, out));
            assert_eq!(prefix.len(), prefix_len(session));
            let again = [&prefix[..], &payload].concat();
            assert_eq!(decode(again.into()), Ok((session, payload)));
        }
        Err(error) => {
            assert_eq!(error.code, Code::H3_DATAGRAM_ERROR);
            assert!(integer.is_none_or(|(quarter, _)| quarter >= 1 << 60));
        }
    }
}
