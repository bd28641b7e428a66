//! Frames: any cut gives the same, nothing comes out that did not go in, an error stays.

use bytes::{Bytes, BytesMut};
use wt_proto::error::Error;
use wt_proto::frame::{Frame, FrameContext, FrameParser};

use crate::{all_equal, cuts, encoded};

/// `data` is a stream of frames.
pub fn check(data: &[u8]) {
    for context in [FrameContext::Control, FrameContext::Request, FrameContext::Response] {
        let (frames, end) = all_equal(cuts(data).map(|pieces| read(context, pieces)));
        for (at, frame) in frames.iter().enumerate() {
            let is_message = matches!(frame, Frame::Data(_) | Frame::Headers(_));
            assert_eq!(is_message, context != FrameContext::Control, "{frame:?}");
            let opens = at == 0 && !is_message;
            assert_eq!(matches!(frame, Frame::Settings(_)), opens, "{frame:?}");
        }
        let payload: usize = frames.iter().map(payload_len).sum();
        assert!(
            payload <= data.len(),
            "{payload} bytes of payload out of {}",
            data.len()
        );
        if end.is_ok() && context != FrameContext::Control {
            // What was ignored is not there any more, and the rest is the same.
            let again = encoded(|out| frames.iter().for_each(|frame| encode(frame, out)));
            assert_eq!(read(context, vec![again]), (frames, Ok(())));
        }
    }
}

/// The frames, adjacent pieces of DATA joined, and how it ended.
fn read(context: FrameContext, pieces: Vec<Bytes>) -> (Vec<Frame>, Result<(), Error>) {
    let mut parser = FrameParser::new(context).with_headers_limit(LIMIT);
    let (mut frames, mut data) = (Vec::new(), BytesMut::new());
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(Frame::Data(piece))) => data.extend_from_slice(&piece),
                Ok(Some(frame)) => {
                    flush(&mut data, &mut frames);
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    flush(&mut data, &mut frames);
                    parser.push(Bytes::from_static(b"\x00\x00"));
                    assert_eq!((parser.next(), parser.finish()), (Err(error), Err(error)));
                    return (frames, Err(error));
                }
            }
        }
    }
    flush(&mut data, &mut frames);
    (frames, parser.finish())
}

fn flush(data: &mut BytesMut, frames: &mut Vec<Frame>) {
    if !data.is_empty() {
        frames.push(Frame::Data(data.split().freeze()));
    }
}

fn payload_len(frame: &Frame) -> usize {
    match frame {
        Frame::Data(bytes) | Frame::PriorityUpdate { value: bytes, .. } => bytes.len(),
        Frame::Headers(bytes) => {
            assert!(bytes.len() as u64 <= LIMIT);
            bytes.len()
        }
        Frame::Settings(settings) => 2 * settings.iter().count(),
        Frame::Goaway(_) | Frame::MaxPushId(_) | Frame::CancelPush(_) => 1,
    }
}

fn encode(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Data(bytes) => wt_proto::frame::data_frame(bytes, out),
        Frame::Headers(section) => {
            wt_proto::varint::encode(wt_proto::frame::kind::HEADERS, out);
            wt_proto::varint::encode(section.len() as u64, out);
            out.extend_from_slice(section);
        }
        other => panic!("on a request stream: {other:?}"),
    }
}

/// Small, so that it is met.
const LIMIT: u64 = 300;
