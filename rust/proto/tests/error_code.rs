//! Application codes and their HTTP/3 codes.

use proptest::prelude::*;
use wt_proto::error_code::{Code, from_http, to_http};

const FIRST: u64 = 0x52e4_a40f_a8db;
const LAST: u64 = 0x52e5_ac98_3162;

#[test]
fn the_table_of_the_draft() {
    for (app, http) in [
        (0, 0x52e4_a40f_a8db),
        (1, 0x52e4_a40f_a8dc),
        (29, 0x52e4_a40f_a8f8),
        (30, 0x52e4_a40f_a8fa),
        (59, 0x52e4_a40f_a917),
        (60, 0x52e4_a40f_a919),
        (255, 0x52e4_a40f_a9e2),
        (256, 0x52e4_a40f_a9e3),
        (65535, 0x52e4_a410_b162),
        (65536, 0x52e4_a410_b163),
        (0x7fff_ffff, 0x52e5_2853_ed1e),
        (0xffff_ffff, 0x52e5_ac98_3162),
    ] {
        assert_eq!(to_http(app), Code(http), "{app}");
        assert_eq!(from_http(Code(http)), Some(app), "{http:#x}");
    }
}

#[test]
fn the_codes_of_the_registries() {
    for (code, value) in [
        (Code::H3_DATAGRAM_ERROR, 0x33),
        (Code::H3_NO_ERROR, 0x100),
        (Code::H3_GENERAL_PROTOCOL_ERROR, 0x101),
        (Code::H3_INTERNAL_ERROR, 0x102),
        (Code::H3_STREAM_CREATION_ERROR, 0x103),
        (Code::H3_CLOSED_CRITICAL_STREAM, 0x104),
        (Code::H3_FRAME_UNEXPECTED, 0x105),
        (Code::H3_FRAME_ERROR, 0x106),
        (Code::H3_EXCESSIVE_LOAD, 0x107),
        (Code::H3_ID_ERROR, 0x108),
        (Code::H3_SETTINGS_ERROR, 0x109),
        (Code::H3_MISSING_SETTINGS, 0x10a),
        (Code::H3_REQUEST_REJECTED, 0x10b),
        (Code::H3_REQUEST_CANCELLED, 0x10c),
        (Code::H3_REQUEST_INCOMPLETE, 0x10d),
        (Code::H3_MESSAGE_ERROR, 0x10e),
        (Code::QPACK_DECOMPRESSION_FAILED, 0x200),
        (Code::QPACK_ENCODER_STREAM_ERROR, 0x201),
        (Code::QPACK_DECODER_STREAM_ERROR, 0x202),
        (Code::WT_BUFFERED_STREAM_REJECTED, 0x3994_bd84),
        (Code::WT_SESSION_GONE, 0x170d_7b68),
        (Code::WT_FLOW_CONTROL_ERROR, 0x045d_4487),
        (Code::WT_ALPN_ERROR, 0x0817_b3dd),
        (Code::WT_REQUIREMENTS_NOT_MET, 0x212c_0d48),
    ] {
        assert_eq!(code.0, value, "{code}");
    }
}

#[test]
fn reserved_and_foreign_codes_have_no_application_code() {
    for code in [
        0x52e4_a40f_a8f9,
        0x52e4_a40f_a918,
        FIRST - 1,
        LAST + 1,
        0,
        0x20,
        0x21,
        u64::MAX,
    ] {
        assert_eq!(from_http(Code(code)), None, "{code:#x}");
    }
    assert_eq!(from_http(Code::WT_SESSION_GONE), None);
    assert_eq!(from_http(Code::H3_REQUEST_CANCELLED), None);
}

#[test]
fn names_are_for_people() {
    assert_eq!(Code::WT_SESSION_GONE.name(), Some("WT_SESSION_GONE"));
    assert_eq!(Code(0x0).name(), None);
    assert_eq!(Code::H3_ID_ERROR.to_string(), "H3_ID_ERROR");
    assert_eq!(to_http(7).to_string(), "application code 7");
    assert_eq!(Code(0x1234).to_string(), "0x1234");
}

proptest! {
    #[test]
    fn every_application_code_comes_back(app: u32) {
        let http = to_http(app);
        prop_assert!((FIRST..=LAST).contains(&http.0));
        prop_assert_ne!((http.0 - 0x21) % 0x1f, 0);
        prop_assert_eq!(from_http(http), Some(app));
    }

    #[test]
    fn every_code_of_the_range_is_reserved_or_mapped(code in FIRST..=LAST) {
        match from_http(Code(code)) {
            Some(app) => prop_assert_eq!(to_http(app), Code(code)),
            None => prop_assert_eq!((code - 0x21) % 0x1f, 0),
        }
    }

    #[test]
    fn any_code_is_harmless(code: u64) {
        let code = Code(code);
        let _ = (from_http(code), code.name(), code.to_string(), format!("{code:?}"));
    }
}
