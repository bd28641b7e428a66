//! The peer's control and QPACK streams.

mod common;

use bytes::Bytes;
use common::{bytewise, cut, hex, tlv, varint};
use proptest::prelude::*;
use wt_proto::control::{ControlEvent, PeerStreams};
use wt_proto::dialect::Role;
use wt_proto::error::ConnectionError;
use wt_proto::error_code::Code;
use wt_proto::stream_header::UniStream;

/// What our side hears from the peer's control stream.
fn control(role: Role, pieces: Vec<Bytes>) -> Result<Vec<ControlEvent>, ConnectionError> {
    let mut streams = PeerStreams::new(role);
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(streams.handle_control(piece)?);
    }
    Ok(events)
}

fn code(role: Role, bytes: &str) -> Code {
    control(role, vec![hex(bytes).into()])
        .expect_err("must be refused")
        .code
}

#[test]
fn each_critical_stream_exists_once() {
    let mut streams = PeerStreams::new(Role::Server);
    for kind in [UniStream::QpackDecoder, UniStream::Control, UniStream::QpackEncoder] {
        assert_eq!(streams.open(&kind), Ok(()), "the first need not be the control stream");
    }
    for kind in [UniStream::Control, UniStream::QpackEncoder, UniStream::QpackDecoder] {
        assert_eq!(
            streams.open(&kind).expect_err("second").code,
            Code::H3_STREAM_CREATION_ERROR
        );
    }
}

#[test]
fn other_streams_are_no_business_of_the_control_layer() {
    let mut streams = PeerStreams::new(Role::Client);
    for _ in 0..2 {
        assert_eq!(streams.open(&UniStream::Unknown(0x21)), Ok(()));
        assert_eq!(streams.open(&UniStream::WebTransport { session: 0 }), Ok(()));
    }
}

#[test]
fn push_never_happens() {
    let server = PeerStreams::new(Role::Server).open(&UniStream::Push);
    let client = PeerStreams::new(Role::Client).open(&UniStream::Push);
    assert_eq!(server.expect_err("push").code, Code::H3_STREAM_CREATION_ERROR);
    assert_eq!(client.expect_err("push").code, Code::H3_ID_ERROR);
    assert_eq!(code(Role::Client, "04 00 03 01 00"), Code::H3_ID_ERROR);
    assert_eq!(code(Role::Server, "04 00 03 01 00"), Code::H3_ID_ERROR);
}

#[test]
fn a_critical_stream_that_ends_takes_the_connection_along() {
    let mut streams = PeerStreams::new(Role::Client);
    for kind in [UniStream::Control, UniStream::QpackEncoder, UniStream::QpackDecoder] {
        assert_eq!(streams.closed(&kind).code, Code::H3_CLOSED_CRITICAL_STREAM);
    }
}

#[test]
fn settings_then_goaway() {
    let events = control(
        Role::Client,
        bytewise(&hex("04 02 33 01 07 01 08 21 01 00 07 01 08 07 01 04")),
    )
    .expect("valid");
    assert_eq!(events.len(), 4);
    let ControlEvent::Settings(settings) = &events[0] else {
        panic!("settings first")
    };
    assert_eq!(settings.get(0x33), Some(1));
    assert_eq!(
        events[1..],
        [
            ControlEvent::Goaway(8),
            ControlEvent::Goaway(8),
            ControlEvent::Goaway(4)
        ]
    );
}

#[test]
fn goaway_ids_do_not_grow() {
    assert_eq!(code(Role::Client, "04 00 07 01 04 07 01 08"), Code::H3_ID_ERROR);
    assert_eq!(code(Role::Server, "04 00 07 01 04 07 01 05"), Code::H3_ID_ERROR);
}

#[test]
fn goaway_of_a_server_names_a_request() {
    assert_eq!(code(Role::Client, "04 00 07 01 03"), Code::H3_ID_ERROR);
    assert!(control(Role::Server, vec![hex("04 00 07 01 03").into()]).is_ok());
}

#[test]
fn max_push_id_comes_from_clients_and_does_not_shrink() {
    assert_eq!(
        control(Role::Server, vec![hex("04 00 0d 01 02 0d 01 02").into()]).map(|events| events.len()),
        Ok(1)
    );
    assert_eq!(code(Role::Server, "04 00 0d 01 02 0d 01 01"), Code::H3_ID_ERROR);
    assert_eq!(code(Role::Client, "04 00 0d 01 02"), Code::H3_FRAME_UNEXPECTED);
}

#[test]
fn priority_update_may_precede_its_request() {
    let update = [hex("04 00"), tlv(0xf0700, &[varint(400), b"u=0".to_vec()].concat())].concat();
    let events = control(Role::Server, vec![update.into()]).expect("valid");
    assert_eq!(
        events[1],
        ControlEvent::PriorityUpdate {
            element: 400,
            value: Bytes::from_static(b"u=0")
        }
    );
}

#[test]
fn priority_update_for_what_is_no_request() {
    assert_eq!(code(Role::Server, "04 00 80 0f 07 00 01 01"), Code::H3_ID_ERROR);
    assert_eq!(code(Role::Server, "04 00 80 0f 07 01 01 00"), Code::H3_ID_ERROR);
    assert_eq!(code(Role::Client, "04 00 80 0f 07 00 01 00"), Code::H3_FRAME_UNEXPECTED);
}

#[test]
fn wt_enabled_of_a_server_is_zero_or_one() {
    let frame = hex("04 05 ac 7c f0 00 02");
    assert_eq!(
        control(Role::Client, vec![frame.clone().into()]).expect_err("bad").code,
        Code::H3_SETTINGS_ERROR
    );
    assert!(control(Role::Server, vec![frame.into()]).is_ok());
}

#[test]
fn errors_of_frames_and_settings_pass_through() {
    assert_eq!(code(Role::Server, "07 01 00"), Code::H3_MISSING_SETTINGS);
    assert_eq!(code(Role::Server, "04 02 02 00"), Code::H3_SETTINGS_ERROR);
    assert_eq!(code(Role::Server, "04 00 04 00"), Code::H3_FRAME_UNEXPECTED);
}

#[test]
fn the_encoder_stream_may_only_set_capacity_zero() {
    let mut streams = PeerStreams::new(Role::Server);
    assert_eq!(streams.handle_encoder(&hex("20 20")), Ok(()));
    for bytes in ["21", "3f 01", "80", "40", "00", "20 c0"] {
        let error = streams.handle_encoder(&hex(bytes)).expect_err(bytes);
        assert_eq!(error.code, Code::QPACK_ENCODER_STREAM_ERROR);
    }
}

#[test]
fn the_decoder_stream_may_only_cancel_streams() {
    let mut streams = PeerStreams::new(Role::Server);
    for bytes in [
        "40",
        "44 48",
        "7f 00",
        "7f",
        "81",
        "00 44",
        "7f ff ff ff ff ff ff ff ff 7f",
    ] {
        assert_eq!(streams.handle_decoder(&hex(bytes)), Ok(()), "{bytes}");
    }
    for bytes in ["80", "81", "00", "01", "3f"] {
        let error = PeerStreams::new(Role::Server)
            .handle_decoder(&hex(bytes))
            .expect_err(bytes);
        assert_eq!(error.code, Code::QPACK_DECODER_STREAM_ERROR);
    }
}

#[test]
fn a_stream_id_without_end_is_refused() {
    let mut streams = PeerStreams::new(Role::Server);
    let error = streams
        .handle_decoder(&[[0x7f].as_slice(), &[0xff; 9]].concat())
        .expect_err("too long");
    assert_eq!(error.code, Code::QPACK_DECODER_STREAM_ERROR);
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![0u64..20, 0u64..1 << 62];
    let frame = prop_oneof![
        (prop_oneof![Just(0x07u64), Just(0x0d), Just(0x21)], id.clone()).prop_map(|(kind, id)| tlv(kind, &varint(id))),
        (id, common::noise(10)).prop_map(|(id, value)| tlv(0xf0700, &[varint(id & !3), value].concat())),
        (0u64..1 << 20, common::noise(10)).prop_map(|(kind, payload)| tlv(kind, &payload)),
    ];
    let frames = proptest::collection::vec(frame, 0..6);
    let settings = prop_oneof![9 => Just(hex("04 02 33 01")), 1 => common::noise(6)];
    (settings, frames, common::noise(6)).prop_map(|(settings, frames, tail)| [settings, frames.concat(), tail].concat())
}

proptest! {
    #[test]
    fn any_cut_of_the_control_stream_is_heard_alike(bytes in bytes(), cuts in common::cuts(), is_client: bool) {
        let role = if is_client { Role::Client } else { Role::Server };
        let whole = control(role, vec![bytes.clone().into()]);
        prop_assert_eq!(&control(role, cut(&bytes, &cuts)), &whole);
        prop_assert_eq!(&control(role, bytewise(&bytes)), &whole);
    }

    #[test]
    fn any_cut_of_the_qpack_streams_is_heard_alike(
        bytes in proptest::collection::vec(prop_oneof![Just(0x7f), Just(0x44), Just(0x20), any::<u8>()], 0..24),
        cuts in common::cuts(),
    ) {
        let hear = |pieces: Vec<Bytes>| {
            let (mut decoder, mut encoder) = (PeerStreams::new(Role::Client), PeerStreams::new(Role::Client));
            (
                pieces.iter().try_for_each(|piece| decoder.handle_decoder(piece)),
                pieces.iter().try_for_each(|piece| encoder.handle_encoder(piece)),
            )
        };
        prop_assert_eq!(hear(cut(&bytes, &cuts)), hear(vec![bytes.clone().into()]));
    }
}
