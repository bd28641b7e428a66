//! SETTINGS: bytes and rules.

mod common;

use common::{encoded, hex, tlv, varint};
use proptest::prelude::*;
use wt_proto::dialect::{self, LocalOptions, Role};
use wt_proto::error_code::Code;
use wt_proto::settings::{Settings, id};

fn options() -> LocalOptions {
    LocalOptions {
        max_sessions: 1,
        draft15: true,
        max_field_section_size: 0,
        initial_max_data: 0,
        initial_max_streams_bidi: 0,
        initial_max_streams_uni: 0,
    }
}

fn frame(settings: &Settings) -> Vec<u8> {
    encoded(|out| settings.encode_frame(out))
}

fn code(payload: &[u8]) -> Code {
    Settings::decode(payload).expect_err("must be refused").code
}

const RECIPE: &str = "04 21 08 01 33 01 80 ff d2 77 01 ab 60 37 42 01 ab 60 37 43 01 \
     c0 00 00 00 c6 71 70 6a 01 ac 7c f0 00 01";

#[test]
fn the_server_recipe_is_the_vector() {
    let settings = dialect::local_settings(Role::Server, &options());
    assert_eq!(frame(&settings), hex(RECIPE));
}

#[test]
fn the_field_section_limit_follows_the_recipe() {
    let options = LocalOptions {
        max_field_section_size: 65536,
        ..options()
    };
    let mut expected = hex(RECIPE);
    expected[1] += 5;
    expected.extend(hex("06 80 01 00 00"));
    assert_eq!(frame(&dialect::local_settings(Role::Server, &options)), expected);
}

#[test]
fn flow_control_is_announced_only_when_positive() {
    let settings = dialect::local_settings(
        Role::Client,
        &LocalOptions {
            initial_max_streams_uni: 100,
            ..options()
        },
    );
    assert_eq!(settings.get(id::WT_INITIAL_MAX_STREAMS_UNI), Some(100));
    assert_eq!(settings.get(id::WT_INITIAL_MAX_DATA), None);
    assert_eq!(settings.get(id::WT_INITIAL_MAX_STREAMS_BIDI), None);
}

#[test]
fn no_recipe_announces_draft_14() {
    for role in [Role::Client, Role::Server] {
        assert_eq!(
            dialect::local_settings(role, &options()).get(id::MAX_SESSIONS_DRAFT14),
            None
        );
    }
}

#[test]
fn the_payload_of_firefox() {
    let settings =
        Settings::decode(&hex("01 80 01 00 00 07 14 ab 60 37 42 01 80 ff d2 77 01 33 01 08 01")).expect("valid");
    let expected = [
        (0x01, 65536),
        (0x07, 20),
        (0x2b60_3742, 1),
        (0xffd277, 1),
        (0x33, 1),
        (0x08, 1),
    ];
    assert_eq!(settings.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn settings_of_http2_are_refused() {
    for id in [0x00, 0x02, 0x03, 0x04, 0x05] {
        assert_eq!(code(&[id, 0]), Code::H3_SETTINGS_ERROR, "{id}");
    }
}

#[test]
fn switches_are_zero_or_one() {
    for id in [0x08, 0x33] {
        assert!(Settings::decode(&[id, 0]).is_ok());
        assert!(Settings::decode(&[id, 1]).is_ok());
        assert_eq!(code(&[id, 2]), Code::H3_SETTINGS_ERROR, "{id}");
    }
}

#[test]
fn a_repeated_setting_is_refused_even_in_another_encoding() {
    assert_eq!(code(&hex("06 01 40 06 01")), Code::H3_SETTINGS_ERROR);
}

#[test]
fn a_cut_setting_is_a_frame_error() {
    assert_eq!(code(&hex("06")), Code::H3_FRAME_ERROR);
    assert_eq!(code(&hex("06 40")), Code::H3_FRAME_ERROR);
}

#[test]
fn non_minimal_integers_and_unknown_settings_are_accepted() {
    let settings = Settings::decode(&hex("c0 00 00 00 00 00 00 08 40 01 5f 21 05")).expect("valid");
    assert_eq!(settings.get(id::ENABLE_CONNECT_PROTOCOL), Some(1));
    assert_eq!(settings.get(0x1f21), Some(5));
}

#[test]
fn set_replaces() {
    let mut settings = Settings::default();
    settings.set(0x06, 1);
    settings.set(0x08, 1);
    settings.set(0x06, 2);
    assert_eq!(settings.iter().collect::<Vec<_>>(), [(0x06, 2), (0x08, 1)]);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(entries in proptest::collection::btree_map(0x40u64..1 << 62, 0u64..1 << 62, 0..20)) {
        let mut settings = Settings::default();
        let mut payload = Vec::new();
        for (id, value) in entries {
            settings.set(id, value);
            payload.extend([varint(id), varint(value)].concat());
        }
        prop_assert_eq!(frame(&settings), tlv(0x04, &payload));
        prop_assert_eq!(Settings::decode(&payload), Ok(settings));
    }

    #[test]
    fn any_payload_is_settings_or_an_error(payload in common::noise(64)) {
        if let Err(error) = Settings::decode(&payload) {
            prop_assert!([Code::H3_SETTINGS_ERROR, Code::H3_FRAME_ERROR].contains(&error.code));
        }
    }
}
