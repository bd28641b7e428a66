//! Which dialect follows from which SETTINGS.

use wt_proto::dialect::{self, Dialect, LocalOptions, Role, Unsupported};
use wt_proto::settings::{Settings, id};

fn options(draft15: bool) -> LocalOptions {
    LocalOptions {
        max_sessions: 1,
        draft15,
        max_field_section_size: 65536,
        initial_max_data: 0,
        initial_max_streams_bidi: 0,
        initial_max_streams_uni: 0,
    }
}

fn settings(entries: &[(u64, u64)]) -> Settings {
    let mut settings = Settings::default();
    entries.iter().for_each(|(id, value)| settings.set(*id, *value));
    settings
}

/// What our server makes of a client.
fn server(client: &[(u64, u64)]) -> Result<Dialect, Unsupported> {
    let local = dialect::local_settings(Role::Server, &options(true));
    dialect::negotiate(Role::Server, &local, &settings(client))
}

/// What our client makes of a server.
fn client(server: &[(u64, u64)]) -> Result<Dialect, Unsupported> {
    let local = dialect::local_settings(Role::Client, &options(true));
    dialect::negotiate(Role::Client, &local, &settings(server))
}

const CHROME: &[(u64, u64)] = &[
    (0x01, 65536),
    (0x06, 16384),
    (0x07, 100),
    (0x33, 1),
    (0xffd277, 1),
    (0x2b60_3742, 1),
    (0x1f * 77 + 0x21, 4711),
];
const FIREFOX: &[(u64, u64)] = &[
    (0x01, 65536),
    (0x07, 20),
    (0x2b60_3742, 1),
    (0xffd277, 1),
    (0x33, 1),
    (0x08, 1),
];
const SAFARI: &[(u64, u64)] = &[
    (0x33, 1),
    (0xc671_706a, 1),
    (0x14e9_cd29, 1),
    (0x2b61, 8_388_608),
    (0x2b64, 100),
    (0x2b65, 100),
];

#[test]
fn chrome_gets_draft_02() {
    assert_eq!(server(CHROME), Ok(Dialect::D02));
}

#[test]
fn firefox_gets_draft_02() {
    assert_eq!(server(FIREFOX), Ok(Dialect::D02));
}

#[test]
fn safari_gets_draft_07_because_draft_14_is_not_announced() {
    assert_eq!(server(SAFARI), Ok(Dialect::D07));
}

#[test]
fn safari_gets_draft_14_once_that_is_announced() {
    let mut local = dialect::local_settings(Role::Server, &options(true));
    local.set(id::MAX_SESSIONS_DRAFT14, 1);
    assert_eq!(
        dialect::negotiate(Role::Server, &local, &settings(SAFARI)),
        Ok(Dialect::D14)
    );
}

#[test]
fn our_sides_agree_on_draft_15_and_without_it_on_draft_07() {
    for (ours, theirs, expected) in [
        (true, true, Dialect::D15),
        (true, false, Dialect::D07),
        (false, true, Dialect::D07),
        (false, false, Dialect::D07),
    ] {
        let client = dialect::local_settings(Role::Client, &options(ours));
        let server = dialect::local_settings(Role::Server, &options(theirs));
        assert_eq!(dialect::negotiate(Role::Client, &client, &server), Ok(expected));
        assert_eq!(dialect::negotiate(Role::Server, &server, &client), Ok(expected));
    }
}

#[test]
fn a_draft_02_server_needs_no_extended_connect_setting() {
    assert_eq!(client(&[(0x2b60_3742, 1), (0xffd277, 1)]), Ok(Dialect::D02));
}

#[test]
fn a_server_that_counts_sessions_speaks_draft_04() {
    assert_eq!(
        client(&[(0x2b60_3742, 1), (0x2b60_3743, 16), (0x33, 1)]),
        Ok(Dialect::D04)
    );
}

#[test]
fn a_draft_15_server_must_take_extended_connect() {
    assert_eq!(
        client(&[(0x2c7c_f000, 1), (0x33, 1)]),
        Err(Unsupported::ExtendedConnect)
    );
    assert_eq!(client(&[(0x2c7c_f000, 1), (0x33, 1), (0x08, 1)]), Ok(Dialect::D15));
}

#[test]
fn datagrams_are_required_of_both_sides() {
    assert_eq!(server(&[(0x2c7c_f000, 1)]), Err(Unsupported::Datagrams));
    assert_eq!(
        client(&[(0x2c7c_f000, 1), (0x08, 1), (0x33, 0)]),
        Err(Unsupported::Datagrams)
    );
}

#[test]
fn a_plain_http3_peer_speaks_no_webtransport() {
    assert_eq!(server(&[(0x01, 4096), (0x33, 1)]), Err(Unsupported::WebTransport));
    assert_eq!(client(&[(0x08, 1), (0x33, 1)]), Err(Unsupported::WebTransport));
}

#[test]
fn zero_switches_a_dialect_off() {
    assert_eq!(
        server(&[(0x2c7c_f000, 0), (0xc671_706a, 0), (0x2b60_3742, 1), (0x33, 1)]),
        Ok(Dialect::D02)
    );
}

#[test]
fn tokens_and_code_widths_follow_the_dialect() {
    let all = [Dialect::D02, Dialect::D04, Dialect::D07, Dialect::D14, Dialect::D15];
    assert!(all.is_sorted());
    for dialect in all {
        assert_eq!(dialect.token() == "webtransport-h3", dialect == Dialect::D15);
        assert_eq!(dialect.has_8bit_codes(), dialect <= Dialect::D04);
        assert!(dialect.name().starts_with("draft-"));
    }
}
