//! The first bytes of a stream: any cut gives the same, no byte of the body is lost, what is written is read.

use bytes::{Bytes, BytesMut};
use wt_proto::error::ConnectionError;
use wt_proto::error_code::Code;
use wt_proto::stream_header::{BiHeaderParser, BiStream, UniHeaderParser, UniStream};
use wt_proto::stream_header::{encode_bi_header, encode_uni_header};

use crate::{all_equal, cuts, encoded};

/// `data` is the start of a stream, as a unidirectional and as a bidirectional one.
pub fn check(data: &[u8]) {
    let uni = |pieces| {
        let mut parser = UniHeaderParser::new();
        read(pieces, |piece| parser.push(piece))
    };
    let bi = |pieces| {
        let mut parser = BiHeaderParser::new();
        read(pieces, |piece| parser.push(piece))
    };
    if let Some((stream, body)) = checked(all_equal(cuts(data).map(uni))) {
        assert!(data.ends_with(&body) && body.len() < data.len());
        if let UniStream::WebTransport { session } = stream {
            assert!(session.is_multiple_of(4));
            let again = [&encoded(|out| encode_uni_header(session, out))[..], &body].concat();
            assert_eq!(uni(vec![again.into()]), Ok(Some((stream, body))));
        }
    }
    if let Some((stream, body)) = checked(all_equal(cuts(data).map(bi))) {
        match stream {
            BiStream::Request => assert_eq!(body, data),
            BiStream::WebTransport { session } => {
                assert!(session.is_multiple_of(4) && data.ends_with(&body));
                let again = [&encoded(|out| encode_bi_header(session, out))[..], &body].concat();
                assert_eq!(bi(vec![again.into()]), Ok(Some((stream, body))));
            }
        }
    }
}

type Header<T> = Result<Option<(T, Bytes)>, ConnectionError>;

/// The header and all bytes behind it.
fn read<T>(pieces: Vec<Bytes>, mut push: impl FnMut(Bytes) -> Header<T>) -> Header<T> {
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        if let Some((stream, first)) = push(piece)? {
            let mut body = BytesMut::from(&first[..]);
            pieces.for_each(|piece| body.extend_from_slice(&piece));
            return Ok(Some((stream, body.freeze())));
        }
    }
    Ok(None)
}

/// There is one fault.
fn checked<T>(header: Header<T>) -> Option<(T, Bytes)> {
    header.unwrap_or_else(|error| {
        assert_eq!(error.code, Code::H3_ID_ERROR);
        None
    })
}
