//! Field sections, requests and responses: the limit holds, only valid messages pass, and they survive being written.

use wt_proto::error::{ConnectionError, Error, StreamError};
use wt_proto::error_code::Code;
use wt_proto::frame::{Frame, FrameContext, FrameParser};
use wt_proto::headers::{ConnectRequest, HeaderList, Request, Response, check_fields};
use wt_proto::origin::OriginPolicy;
use wt_proto::subprotocol;

use crate::encoded;

/// `data` is an encoded field section.
pub fn check(data: &[u8]) {
    match limited(data, Request::decode) {
        Some(Request::WebTransport(request)) => {
            assert!(size(&request.headers) + 5 * 32 <= LIMIT);
            assert_eq!(check_fields(&request.headers), Ok(()));
            use_request(&request);
            let section = written(FrameContext::Request, |out| request.encode_frame(out));
            assert_eq!(Request::decode(&section, u64::MAX), Ok(Request::WebTransport(request)));
        }
        Some(Request::Plain(request)) => {
            assert!(!request.method.is_empty() && request.method != "CONNECT" && request.path.starts_with(['/', '*']));
            assert_eq!(check_fields(&request.headers), Ok(()));
        }
        Some(Request::Connect { .. }) | None => {}
    }
    if let Some(mut response) = limited(data, Response::decode) {
        assert!(size(&response.headers) + 32 <= LIMIT);
        assert!((100..600).contains(&response.status));
        assert_eq!(check_fields(&response.headers), Ok(()));
        let _ = subprotocol::answered(&response.headers);
        let section = written(FrameContext::Response, |out| response.encode_frame(out));
        // RFC 9297 3.2: never sent where capsules follow.
        if (200..300).contains(&response.status) {
            response
                .headers
                .retain(|(name, _)| name != "content-length" && name != "content-type");
        }
        assert_eq!(Response::decode(&section, u64::MAX), Ok(response));
    }
}

/// Decodes under [`LIMIT`] and without: the limit takes messages away and changes none.
fn limited<T: PartialEq + std::fmt::Debug>(data: &[u8], decode: fn(&[u8], u64) -> Result<T, Error>) -> Option<T> {
    let (small, large) = (decode(data, LIMIT), decode(data, u64::MAX));
    match (&small, &large) {
        (Err(Error::Stream(StreamError { code, .. })), _) if *code == Code::H3_EXCESSIVE_LOAD => {}
        _ => assert_eq!(small, large),
    }
    match &large {
        Err(Error::Connection(ConnectionError { code, .. })) => assert_eq!(*code, Code::QPACK_DECOMPRESSION_FAILED),
        Err(Error::Stream(StreamError { code, .. })) => {
            assert!([Code::H3_MESSAGE_ERROR, Code::QPACK_DECOMPRESSION_FAILED].contains(code));
        }
        Ok(_) => {}
    }
    small.ok()
}

/// The field section in the frame that an encoder writes.
fn written(context: FrameContext, encode: impl FnOnce(&mut bytes::BytesMut)) -> bytes::Bytes {
    let mut parser = FrameParser::new(context).with_headers_limit(u64::MAX);
    parser.push(encoded(encode));
    let Ok(Some(Frame::Headers(section))) = parser.next() else {
        panic!("one whole HEADERS frame");
    };
    assert_eq!((parser.next(), parser.finish()), (Ok(None), Ok(())));
    section
}

/// The least that the fields can have counted. A value that is no UTF-8 has become longer, not shorter in characters.
fn size(headers: &HeaderList) -> u64 {
    let chars = |text: &str| text.chars().count() as u64;
    headers
        .iter()
        .map(|(name, value)| chars(name) + chars(value) + 32)
        .sum()
}

/// What a server does with a request.
fn use_request(request: &ConnectRequest) {
    assert!(OriginPolicy::Any.allows(request));
    let _ = OriginPolicy::SameOrigin.allows(request);
    let offered = subprotocol::offered(&request.headers);
    let own = ["chat".to_owned(), "x".to_owned()];
    let chosen = subprotocol::choose(&request.headers, &own);
    assert_eq!(chosen.is_some(), own.iter().any(|protocol| offered.contains(protocol)));
}

/// Small, so that it is met.
const LIMIT: u64 = 1024;
