//! HTTP/3 frames.

mod common;

use bytes::Bytes;
use common::{bytewise, cut, data, encoded, hex, tlv, varint};
use proptest::prelude::*;
use wt_proto::error::Error;
use wt_proto::error_code::Code;
use wt_proto::frame::{self, Frame, FrameContext, FrameParser};

/// All frames, adjacent pieces of DATA joined, then the error or the end.
fn read(context: FrameContext, pieces: Vec<Bytes>) -> (Vec<Frame>, Result<(), Error>) {
    let mut parser = FrameParser::new(context);
    let mut frames: Vec<Frame> = Vec::new();
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(Frame::Data(more))) => match frames.last_mut() {
                    Some(Frame::Data(last)) => *last = [last.as_ref(), &more].concat().into(),
                    _ => frames.push(Frame::Data(more)),
                },
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(parser.next(), Err(error), "an error stays");
                    return (frames, Err(error));
                }
            }
        }
    }
    (frames, parser.finish())
}

fn request(bytes: &[u8]) -> (Vec<Frame>, Result<(), Error>) {
    read(FrameContext::Request, vec![Bytes::copy_from_slice(bytes)])
}

fn control(bytes: &[u8]) -> (Vec<Frame>, Result<(), Error>) {
    read(FrameContext::Control, vec![Bytes::copy_from_slice(bytes)])
}

fn code(result: (Vec<Frame>, Result<(), Error>)) -> Code {
    result.1.expect_err("must be refused").code()
}

const SETTINGS: &[u8] = &[0x04, 0x00];

#[test]
fn a_data_frame_of_the_vectors() {
    assert_eq!(
        encoded(|out| frame::data_frame(&hex("68 43 04 00 00 00 00"), out)),
        hex("00 07 68 43 04 00 00 00 00")
    );
}

#[test]
fn data_is_handed_out_as_it_arrives() {
    let mut parser = FrameParser::new(FrameContext::Request);
    parser.push(hex("00 04 61 62").into());
    assert_eq!(parser.next(), Ok(Some(Frame::Data(Bytes::from_static(b"ab")))));
    assert_eq!(parser.next(), Ok(None));
    assert!(parser.finish().is_err());
    parser.push(hex("63 64 01").into());
    assert_eq!(parser.next(), Ok(Some(Frame::Data(Bytes::from_static(b"cd")))));
    assert_eq!(parser.next(), Ok(None));
}

#[test]
fn data_is_not_copied() {
    let chunk = Bytes::from(hex("00 04 61 62 63 64"));
    let inside = chunk[2..].as_ptr();
    let mut parser = FrameParser::new(FrameContext::Request);
    parser.push(chunk);
    let Ok(Some(Frame::Data(payload))) = parser.next() else {
        panic!("a DATA frame")
    };
    assert_eq!(payload.as_ptr(), inside);
}

#[test]
fn an_empty_data_frame_is_not_the_end() {
    let (frames, end) = request(&hex("00 00 00 01 61"));
    assert_eq!(frames, [Frame::Data(Bytes::from_static(b"a"))]);
    assert_eq!(end, Ok(()));
}

#[test]
fn unknown_frames_are_skipped_wherever_they_stand() {
    let grease = tlv(0x1f * 5 + 0x21, b"grease");
    let bytes = [grease.clone(), tlv(0x01, b"xyz"), grease.clone(), data(b"a"), grease].concat();
    let expected = vec![
        Frame::Headers(Bytes::from_static(b"xyz")),
        Frame::Data(Bytes::from_static(b"a")),
    ];
    assert_eq!(request(&bytes), (expected, Ok(())));
}

#[test]
fn a_huge_unknown_frame_is_skipped_without_waiting_for_it() {
    let mut parser = FrameParser::new(FrameContext::Request);
    parser.push([varint(0x1234), varint((1 << 62) - 1)].concat().into());
    for _ in 0..1000 {
        parser.push(Bytes::from_static(&[0; 1000]));
        assert_eq!(parser.next(), Ok(None));
    }
}

#[test]
fn control_frames() {
    let priority = tlv(0xf0700, &[varint(4), b"u=1, i".to_vec()].concat());
    let bytes = [SETTINGS.to_vec(), hex("07 01 08 0d 02 40 05 03 01 02"), priority].concat();
    let value = Bytes::from_static(b"u=1, i");
    let (frames, end) = control(&bytes);
    assert_eq!(end, Ok(()));
    assert_eq!(
        frames[1..],
        [
            Frame::Goaway(8),
            Frame::MaxPushId(5),
            Frame::CancelPush(2),
            Frame::PriorityUpdate {
                push: false,
                element: 4,
                value
            },
        ]
    );
}

#[test]
fn the_control_stream_begins_with_settings() {
    for first in ["07 01 00", "00 00", "21 00", "02 00"] {
        assert_eq!(code(control(&hex(first))), Code::H3_MISSING_SETTINGS, "{first}");
    }
}

#[test]
fn settings_come_once() {
    assert_eq!(code(control(&hex("04 00 04 00"))), Code::H3_FRAME_UNEXPECTED);
}

#[test]
fn frames_on_the_wrong_stream_are_unexpected() {
    for kind in [
        "03 01 00",
        "04 00",
        "05 01 00",
        "07 01 00",
        "0d 01 00",
        "80 0f 07 00 01 00",
        "80 0f 07 01 01 00",
    ] {
        assert_eq!(code(request(&hex(kind))), Code::H3_FRAME_UNEXPECTED, "{kind}");
    }
    for kind in ["00 00", "01 00", "05 01 00"] {
        assert_eq!(
            code(control(&[SETTINGS, &hex(kind)].concat())),
            Code::H3_FRAME_UNEXPECTED,
            "{kind}"
        );
    }
}

#[test]
fn a_promise_to_a_client_has_an_id_that_was_never_allowed() {
    let promise = read(FrameContext::Response, vec![hex("05 01 00").into()]);
    assert_eq!(code(promise), Code::H3_ID_ERROR);
}

#[test]
fn frames_of_http2_are_unexpected_everywhere() {
    for kind in [0x02, 0x06, 0x08, 0x09] {
        assert_eq!(code(request(&[kind, 0])), Code::H3_FRAME_UNEXPECTED);
        assert_eq!(
            code(control(&[SETTINGS, &[kind, 0]].concat())),
            Code::H3_FRAME_UNEXPECTED
        );
    }
}

#[test]
fn a_webtransport_signal_inside_a_stream_is_a_frame_error() {
    assert_eq!(code(request(&hex("40 41 00"))), Code::H3_FRAME_ERROR);
    assert_eq!(code(control(&hex("04 00 40 41 00"))), Code::H3_FRAME_ERROR);
}

#[test]
fn a_fin_inside_a_frame_is_a_frame_error() {
    for bytes in ["00", "40", "00 02", "00 02 61", "01 01", "21 05 00"] {
        assert_eq!(code(request(&hex(bytes))), Code::H3_FRAME_ERROR, "{bytes}");
    }
}

#[test]
fn payloads_match_their_fields() {
    for frame in [
        "07 00",
        "07 02 00 00",
        "07 01 40",
        "0d 09 00 00 00 00 00 00 00 00 00",
        "04 01 06",
    ] {
        let bytes = if frame.starts_with("04") {
            hex(frame)
        } else {
            [SETTINGS, &hex(frame)].concat()
        };
        assert_eq!(code(control(&bytes)), Code::H3_FRAME_ERROR, "{frame}");
    }
}

#[test]
fn a_large_field_section_ends_its_stream_before_it_arrives() {
    let mut parser = FrameParser::new(FrameContext::Request).with_headers_limit(100);
    parser.push([varint(0x01), varint(101)].concat().into());
    let Err(Error::Stream(error)) = parser.next() else {
        panic!("a stream error")
    };
    assert_eq!(error.code, Code::H3_EXCESSIVE_LOAD);
}

#[test]
fn large_settings_end_the_connection_before_they_arrive() {
    assert_eq!(
        code(control(&[varint(0x04), varint(5000)].concat())),
        Code::H3_EXCESSIVE_LOAD
    );
}

#[test]
fn a_frame_of_a_megabyte_in_single_bytes_is_read_in_linear_time() {
    let mut parser = FrameParser::new(FrameContext::Request);
    let bytes = data(&vec![7; 1 << 20]);
    let mut total = 0;
    for byte in bytewise(&bytes) {
        parser.push(byte);
        while let Ok(Some(Frame::Data(piece))) = parser.next() {
            total += piece.len();
        }
    }
    assert_eq!(total, 1 << 20);
    assert_eq!(parser.finish(), Ok(()));
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        4 => Just(0x00u64),
        3 => Just(0x01),
        2 => prop_oneof![Just(0x04), Just(0x41), Just(0xf0700), Just(0x21)],
        1 => 0u64..0x10,
        1 => 0u64..1 << 62,
    ];
    let frame = (kind, common::noise(30)).prop_map(|(kind, payload)| tlv(kind, &payload));
    let frames = proptest::collection::vec(frame, 0..8).prop_map(|frames| frames.concat());
    (frames, common::noise(20)).prop_map(|(frames, tail)| [frames, tail].concat())
}

proptest! {
    #[test]
    fn any_cut_of_a_request_stream_is_read_alike(bytes in bytes(), cuts in common::cuts()) {
        let whole = request(&bytes);
        prop_assert_eq!(&read(FrameContext::Request, cut(&bytes, &cuts)), &whole);
        prop_assert_eq!(&read(FrameContext::Request, bytewise(&bytes)), &whole);
    }

    #[test]
    fn any_cut_of_a_control_stream_is_read_alike(bytes in bytes(), cuts in common::cuts()) {
        let bytes = [SETTINGS, &bytes].concat();
        let whole = control(&bytes);
        prop_assert_eq!(&read(FrameContext::Control, cut(&bytes, &cuts)), &whole);
        prop_assert_eq!(&read(FrameContext::Control, bytewise(&bytes)), &whole);
    }
}
